"""Estimates on the command line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from db.engine import open_store
from edgelut import MB4D, presets, wire
from edgelut.estimate import Estimator
from edgelut.snapshot import Snapshot
from edgelut.types import Entry
from tests.client.estimate_data import HOST, PHONE, measured, table

from .conftest import Command


@pytest.fixture(autouse=True)
def rows(home: Path) -> None:
    """Put a table of one target and five rows of another into the local database."""
    home.mkdir()
    probes = [measured(MB4D.spec(*place), PHONE) for place in ((64, 7), (384, 7), (160, 14), (96, 28), (256, 14))]
    with open_store(f"sqlite:///{home / 'edgelut.db'}", migrate=True) as store:
        store.put_many([*table(), *probes])


def test_a_block_is_estimated_and_says_by_what(edgelut: Command) -> None:
    done = edgelut("estimate", "MB4D", "200", "--resolution", "14")
    expected = Estimator(table(), HOST).estimate(MB4D.spec(200, 14)).latency
    assert done.code == 0
    first, second = done.out.splitlines()
    assert (
        f"{expected.ms:.3f} ms, {expected.low_ns / 1e6:.3f} to {expected.high_ns / 1e6:.3f} (95 %), interpolated"
        in first
    )
    assert second.startswith("by 42 rows; such rows left out were off by")


def test_a_block_that_was_measured_is_shown_as_it_was(edgelut: Command) -> None:
    assert edgelut("estimate", "mb4d", "224", "--resolution", "14").out.rstrip().endswith("(95 %), measured")


def test_json_is_the_entry(edgelut: Command) -> None:
    found = json.loads(edgelut("estimate", "MB4D", "200", "--resolution", "14", "--json").out)
    assert found["latency_ms"] == pytest.approx(wire.load(Entry, found).latency.ms)
    assert found["kind"] == "interpolated"


def test_another_target_s_table_helps(edgelut: Command) -> None:
    asked = ("estimate", "MB4D", "200", "--resolution", "14", "--device", "phone", "--runtime", "onnxruntime-native")
    refused = edgelut(*asked, "--like", "nowhere")
    assert refused.code == 5 and "on which no block was measured" in refused.err
    done = edgelut(*asked, "--like", "host/onnxruntime-cpu")
    assert "transferred" in done.out and f"by 5 rows and the table of {HOST}" in done.out
    assert "? carried over by 5 blocks" in done.out


def test_check_says_how_far_off_estimates_were_within_80_columns(edgelut: Command) -> None:
    done = edgelut("estimate", "check")
    assert done.code == 0 and max(map(len, done.out.splitlines())) <= 80
    assert "MB3D" in done.out and "one by one" in done.out and "above in width" in done.out
    found = json.loads(edgelut("estimate", "check", "--json").out)
    assert {one["kind"] for one in found} == {"MB3D", "MB4D"}
    assert all(0 < one["median_error"] < 0.5 and one["tried"] > 0 for one in found)
    phone = ("--device", "phone", "--runtime", "onnxruntime-native")
    assert "one by one, by transfer" in edgelut("estimate", "check", *phone, "--like", "host/onnxruntime-cpu").out


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        (("MB4D",), 2, "say which block: 'edgelut estimate MB4D 232 --resolution 14'"),
        (("MB4D", "200"), 2, "say which block"),
        (("MB4D", "200", "--resolution", "14", "--device", "none"), 5, "0 rows of MB4D were measured there"),
        (("MB4D", "200", "--resolution", "14", "--like", "a//b"), 2, "is no target: write DEVICE"),
        (("check", "--device", "none"), 5, "too few rows on none"),
        (("embedding", "48", "--resolution", "28"), 2, "give its output width too"),
    ],
)
def test_what_cannot_be_answered_says_what_to_type(
    edgelut: Command, asked: tuple[str, ...], code: int, says: str
) -> None:
    done = edgelut("estimate", *asked)
    assert (done.code, done.out) == (code, "") and says in " ".join(done.err.split())


def test_a_snapshot_holds_a_whole_space_measured_or_estimated(edgelut: Command, tmp_path: Path) -> None:
    file = tmp_path / "space.json.gz"
    done = edgelut("snapshot", str(file), "--estimate", "efficientformer-l1-space")
    frozen = Snapshot(file)
    kinds = Counter(entry.kind for entry in frozen.entries() if entry.target == HOST)
    wanted = presets.get("efficientformer-l1-space")
    found = frozen.find_many(wanted, HOST)
    assert done.code == 0 and f"{len(frozen)} rows in {file}, " in done.out
    assert kinds["measured"] == len(table()) and kinds["interpolated"] + kinds["predicted"] > 40
    lacking = sum(entry is None for entry in found)
    assert lacking < 0.2 * len(wanted) and "no estimate of" in done.err
    arrays = frozen.arrays(HOST)
    narrow, wide = arrays.ns(arrays.codes("MB4D", [208, 224], 14))
    assert narrow < wide
    expected = Estimator(table(), HOST).estimate(MB4D.spec(208, 14))
    assert frozen.get(MB4D.spec(208, 14), HOST).latency == expected.latency


def test_a_snapshot_of_an_unknown_space_is_refused_and_writes_nothing(edgelut: Command, tmp_path: Path) -> None:
    done = edgelut("snapshot", str(tmp_path / "x.json"), "--estimate", "l9")
    assert done.code == 2 and "no preset 'l9'; there are efficientformer-l1" in " ".join(done.err.split())
    assert not list(tmp_path.glob("*.json"))
