"""Sums of networks and checks of tables on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from db.engine import SqlStore, open_store
from edgelut import MB4D, NetworkSpec, wire
from edgelut.check import TableCheck, check
from edgelut.quality import NetworkLatency, estimate, network_latency, quality
from edgelut.sequences import chain, cold, network_spec
from edgelut.types import Entry
from profiler.cli import app as profiler_app
from tests.client.test_compose import ABC, L1, TARGET, A, B, C, mb4d, row, rows_of, whole
from tests.client.test_drift import ONLY_OLD, SPECS, swept

from .conftest import Command

LINE = "2*MB4D:48@56 + embedding:48>96@56 + MB4D:96@28"

Fill = Callable[..., SqlStore]


@pytest.fixture
def fill(home: Path, request: pytest.FixtureRequest) -> Fill:
    """Put rows into the local database."""

    def put(*batches: list[Entry]) -> SqlStore:
        home.mkdir()
        store = open_store(f"sqlite:///{home / 'edgelut.db'}", migrate=True)
        request.addfinalizer(store.close)
        for rows in batches:
            store.put_many(rows)
        return store

    return put


def times(rows: list[Entry], ns: float) -> list[Entry]:
    """Rows a million times longer, so that milliseconds have digits."""
    scaled = []
    for one in rows:
        values = {
            name: value * ns
            for name in ("p10_ns", "low_ns", "high_ns", "slope_ns", "context_ns", "cold_ns")
            if (value := getattr(one.latency, name)) is not None
        }
        scaled.append(replace(one, latency=replace(one.latency, **values)))
    return scaled


def test_a_network_is_shown_with_its_parts_its_bracket_and_its_error_bar(edgelut: Command, fill: Fill) -> None:
    fill(times(rows_of(ABC), 1e4))
    done = edgelut("network", LINE)
    assert done.code == 0 and done.err == ""
    words = " ".join(done.out.split())
    assert "MB4D 48 @56 2 1.200 50.0% slope" in words and "embedding 48->96 @56 1 1.200 25.0% context" in words
    assert "4 blocks on host onnxruntime-cpu fp32: 4.800 ms ±0.240, between 3.960 (hot) and 6.000 (cold)" in words
    assert "were never compared with a measured network: 'edgelut profile ... --whole' does" in words


def test_a_sum_beside_its_measured_network_says_how_far_it_is_off(edgelut: Command, fill: Fill) -> None:
    fill(times([*rows_of(L1), whole(L1, 3100, day=9)], 1e3))
    done = edgelut("network", "L1", "--compare-measured")
    assert done.code == 0
    copies = len(L1.blocks)
    assert f"measured: 3.100 ms ±1.0%; the sum is {120 * copies / 3100 - 1:+.2%} off" in done.out
    assert "on 1 measured networks (2026-01-09)" in done.out
    assert done.out.count("\n") > len(set(L1.blocks))


def test_json_is_the_one_form_that_the_service_answers(edgelut: Command, fill: Fill) -> None:
    store = fill([*rows_of(ABC), whole(ABC, 500)])
    done = edgelut("network", LINE, "--json")
    known = quality(store, TARGET)
    assert wire.decode(NetworkLatency, done.out) == network_latency(estimate(ABC, TARGET, store, known), known)
    assert done.json["error"] == pytest.approx(-0.04) and done.err == ""


def test_missing_rows_are_code_5_and_are_listed_with_what_measures_them(edgelut: Command, fill: Fill) -> None:
    fill([row(A)])
    done = edgelut("network", LINE)
    assert done.code == 5
    assert "lacks 2 of 3 rows: embedding 48->96 @56, MB4D 96 @28" in done.error
    assert "'edgelut profile --block MB4D --width 96 --resolution 28 --device host" in done.error
    named = edgelut("network", "efficientformer-l3", "--json")
    assert named.code == 5 and "'edgelut profile efficientformer-l3 --device host" in named.error
    elsewhere = edgelut("network", "MB4D:48@56", "--device", "phone")
    assert elsewhere.code == 5 and "phone/onnxruntime-cpu" in elsewhere.error


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("L9", "no network 'l9'; there are efficientformer-l1"),
        ("MB4D:48", "is no block"),
        ("MB4D:48@56 + MB4D:96@28", "gives"),
    ],
)
def test_what_is_no_network_is_code_2(edgelut: Command, fill: Fill, name: str, said: str) -> None:
    fill([row(A)])
    done = edgelut("network", name)
    assert done.code == 2 and said.lower() in done.error.lower()


def test_emulated_rows_are_code_2(edgelut: Command, fill: Fill) -> None:
    fill([row(A, kind="emulated")])
    done = edgelut("network", "MB4D:48@56")
    assert done.code == 2 and "never added up" in done.error


def test_a_network_that_was_not_measured_cannot_be_compared(edgelut: Command, fill: Fill) -> None:
    fill([*rows_of(ABC), *rows_of(L1)])
    done = edgelut("network", "L1", "--compare-measured")
    assert done.code == 5 and "'edgelut profile efficientformer-l1 --device host" in done.error
    assert "--whole' does" in done.error
    line = edgelut("network", LINE, "--compare-measured")
    assert line.code == 5 and "edgelut profile --block network" in line.error


def test_doubts_are_marked_in_the_parts_and_said_below(edgelut: Command, fill: Fill) -> None:
    fill([row(A, doubts=("noisy",)), row(B, kind="predicted"), row(C, slope=None)])
    out = " ".join(edgelut("network", LINE).out.split())
    assert "slope ?" in out and "slope, predicted" in out and "alone" in out
    assert "? MB4D 48 @56: noisy" in out and "? measured alone, without chain or context: MB4D 96 @28" in out


def test_blocks_that_were_not_measured_are_estimated_where_that_is_asked_for(edgelut: Command, fill: Fill) -> None:
    fill(times([mb4d(width) for width in (16, 32, 64, 96, 128, 192)], 100))
    line = "2*MB4D:48@56"
    assert edgelut("network", line).code == 5
    done = edgelut("network", line, "--estimate")
    assert done.code == 0 and done.err == ""
    words = " ".join(done.out.split())
    assert "slope, interpolated" in words and "1 rows are interpolated, not measured" in words
    assert "1 of 1 rows are estimates: ±" in words
    answer = edgelut("network", line, "--estimate", "--json").json
    assert answer["latency_ms"] == pytest.approx(2 * 120 * 48 / 1e4, rel=0.02)
    assert [part["kind"] for part in answer["parts"]] == ["interpolated"]
    refused = edgelut("network", "MB4D:48@56 + embedding:48>96@56", "--estimate")
    assert refused.code == 5 and "0 rows of embedding were measured there, and 5 are needed" in refused.error


def test_another_device_s_table_helps_a_sum_where_it_is_named(edgelut: Command, fill: Fill) -> None:
    widths = (16, 32, 64, 96, 128, 192)
    fill(
        times([mb4d(width) for width in widths], 100),
        times([mb4d(width, target=replace(TARGET, device="phone")) for width in (16, 32, 64, 192)], 300),
    )
    asked = ("network", "MB4D:128@56", "--device", "phone", "--estimate")
    alone = edgelut(*asked)
    assert alone.code == 5 and "4 rows of MB4D were measured there, and 5 are needed" in alone.error
    helped = edgelut(*asked, "--like", "host", "--json")
    assert helped.code == 0, helped.error
    assert helped.json["latency_ms"] == pytest.approx(3 * 120 * 128 / 1e4, rel=0.05)
    assert [part["kind"] for part in helped.json["parts"]] == ["transferred"]
    without = edgelut("network", "MB4D:128@56", "--like", "host")
    assert without.code == 2 and "give --estimate too" in without.error


def test_an_aligned_sum_has_the_drift_divided_out(edgelut: Command, fill: Fill, tmp_path: Path) -> None:
    fill(swept([*SPECS, ONLY_OLD], "old", 1, 1.05), swept(SPECS, "new", 2))
    raw, aligned = (
        edgelut("network", "MB4D:512@28", "--json").json,
        edgelut("network", "MB4D:512@28", "--align", "--json").json,
    )
    assert raw["latency_ms"] == pytest.approx(1.05 * aligned["latency_ms"]) and aligned["aligned"]
    assert edgelut("snapshot", str(tmp_path / "rows.json")).code == 0
    frozen = edgelut("network", "MB4D:512@28", "--align", "--from", str(tmp_path / "rows.json"))
    assert frozen.code == 2 and "keeps no history" in frozen.error


def test_the_table_says_how_good_its_sums_are(edgelut: Command, fill: Fill) -> None:
    fill([*rows_of(ABC), whole(ABC, 500), row(chain(A)), row(cold(A))])
    out = edgelut("table").out
    assert "off by 4.0% on average and 4.0% at most on 1 measured networks" in out
    assert "chain" not in out and "cold" not in out


def test_a_good_table_is_code_0_and_says_so(edgelut: Command, fill: Fill) -> None:
    fill(rows_of(ABC))
    done = edgelut("table", "check")
    assert done.code == 0 and done.out == "host onnxruntime-cpu fp32: 3 rows, good\n"


def test_a_check_names_what_speaks_against_the_table_and_ends_with_1(edgelut: Command, fill: Fill) -> None:
    rows = [row(A, doubts=("noisy",)), row(B, conditions="old"), row(C, conditions="new", day=2, slope=None)]
    store = fill(rows)
    done = edgelut("table", "check")
    assert done.code == 1 and done.err == ""
    assert "in doubt: MB4D 48 @56: noisy" in done.out
    assert "measured under 3 conditions, the newest first: 1 under new, " in done.out
    assert "older conditions: embedding 48->96 @56" in done.out
    assert "without chain, context or cold row: MB4D 96 @28" in done.out
    found = edgelut("table", "check", "--json")
    assert found.code == 1 and wire.decode(list[TableCheck], found.out) == check(store.entries())


def test_an_empty_table_cannot_be_checked(edgelut: Command, fill: Fill) -> None:
    fill()
    assert edgelut("table", "check").code == 5
    assert edgelut("table", "chekc").code == 2


def test_the_commands_of_a_check_are_commands_that_parse_and_ask_for_those_blocks(
    edgelut: Command, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = MB4D.spec(64, 14, batch=2, params={"expansion": 3, "activation": "relu"})
    networks = NetworkSpec((A, A))
    doubtful = [*dict.fromkeys(L1.blocks), odd, chain(odd)]
    fill([*(row(spec, doubts=("noisy",)) for spec in doubtful), whole(networks, 1, doubts=("noisy",))])
    lines = [line.strip().removeprefix("$ ") for line in edgelut("table", "check").out.splitlines() if "$ " in line]
    assert len(lines) > 8
    asked = {spec for line in lines for spec in _parsed(line, monkeypatch)}
    assert asked == {*L1.blocks, odd, network_spec(networks)}


def _parsed(line: str, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the specs that a command asks for, without measuring anything."""
    import profiler.cli as module

    seen: list[object] = []

    class Parsed(Exception): ...

    def points(specs: list[object], *_: object) -> None:
        raise Parsed

    specs_of = module.specs_of
    monkeypatch.setattr(module, "specs_of", lambda *given: (seen.extend(specs_of(*given)), specs_of(*given))[1])
    monkeypatch.setattr(module, "points_of", points)
    words = shlex.split(line)
    assert words[:2] == ["edgelut", "profile"]
    with pytest.raises(Parsed):
        typer.main.get_command(profiler_app).main(words[1:], standalone_mode=False)
    monkeypatch.setattr(module, "specs_of", specs_of)
    return seen


def test_the_commands_help_names_every_option(edgelut: Command) -> None:
    out = edgelut("network", "--help").out
    assert all(
        option in out
        for option in (
            "--device",
            "--runtime",
            "--align",
            "--compare-measured",
            "--estimate",
            "--like",
            "--from",
            "--json",
        )
    )
