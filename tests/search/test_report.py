"""A search is drawn with its target and units, and its methods are told with means and spreads over seeds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from PIL import Image
from rich.console import Console

from search.report import csv_rows, plot_front, plot_path, read_csv, results, results_table, write_csv
from search.slimming import Action, ActionKind, Round
from supernet.supernet import State


def state(width: int, mb3d: int = 1) -> State:
    channels = tuple(range(width))
    return State(((0, 1), (0,), (0,), (0,)), (channels,) * 4, mb3d)


def rounds() -> list[Round]:
    """Two actions, and the last round."""
    walk: list[tuple[State, float, float, ActionKind]] = [
        (state(48, 1), 2.0, 0.9, "mb3d"),
        (state(48, 0), 1.6, 0.88, "width"),
        (state(32, 0), 1.0, 0.85, "depth"),
    ]
    found = []
    for number, ((now, ms, accuracy, kind), after) in enumerate(zip(walk, [*walk[1:], None], strict=True)):
        actions = (
            ()
            if after is None
            else (Action(kind, "", after[0], after[1], after[2], 0.01, ms - after[1], ms - after[1]),)
        )
        found.append(Round(number, now, ms, accuracy, actions, 0 if actions else None))
    return found


def network(method: str, seed: int, test: float | None, **other: Any) -> dict[str, Any]:
    config = {"widths": [32, 32, 48, 48], "depths": [2, 1, 1, 1], "mb3d": 1}
    known = {"predicted_ms": 0.99, "low_ms": 0.97, "high_ms": 1.01, "measured_ms": 1.0, "inherited_accuracy": 0.8}
    more = {"valid_accuracy": 0.7, "test_accuracy": test, "parameters": 1000}
    return {"method": method, "seed": seed, "config": config, **known, **more, **other}


NETWORKS = [
    *(network("slimmed", seed, test) for seed, test in enumerate((0.89, 0.90, 0.91))),
    *(network("uniform", seed, 0.88, inherited_accuracy=None, measured_ms=None) for seed in range(3)),
    network("full", 0, 0.93, predicted_ms=2.0),
]


def test_a_method_is_its_mean_over_seeds_and_the_spread_of_the_sample() -> None:
    slimmed, uniform, full = results(NETWORKS)
    assert (slimmed.method, slimmed.seeds, slimmed.widths, slimmed.depths) == (
        "slimmed",
        (0, 1, 2),
        "32-32-48-48",
        "2-1-1-1",
    )
    assert (slimmed.accuracy, slimmed.accuracy_std) == (pytest.approx(0.90), pytest.approx(0.01))
    assert slimmed.error == pytest.approx(-0.01) and slimmed.inherited_accuracy == pytest.approx(0.8)
    assert (uniform.error, uniform.inherited_accuracy, uniform.accuracy_std) == (None, None, 0)
    assert full.accuracy_std is None and full.on == "test"


def test_where_one_network_was_not_tested_all_are_told_by_validation_images() -> None:
    found = results([*NETWORKS, network("random", 0, None)])
    assert {one.on for one in found} == {"validation"} and {round(one.accuracy, 9) for one in found} == {0.7}


def test_networks_that_differ_by_seed_are_all_named() -> None:
    other = {"widths": [16, 16, 16, 16], "depths": [2, 1, 1, 1], "mb3d": 0}
    (found,) = results([network("random", 0, 0.8), network("random", 1, 0.9, config=other)])
    assert (found.widths, found.depths, found.mb3d) == ("32-32-48-48 or 16-16-16-16", "2-1-1-1", "1 or 0")


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    wide = network("evolutionary", 0, 0.8, config={"widths": [96, 192, 384, 768], "depths": [6, 6, 18, 8], "mb3d": 26})
    Console(file=out, width=80).print(results_table([*NETWORKS, wide, {**wide, "seed": 1}]))
    text = out.getvalue()
    assert "…" not in text and "± 1.00%" in text and "90.00%" in text and "-1.0%" in text
    assert "96-192-384-768" in text and "6-6-18-8, 26" in text


def test_rows_are_read_back_from_a_csv_file(tmp_path: Path) -> None:
    write_csv(NETWORKS, tmp_path / "networks.csv")
    read = read_csv(tmp_path / "networks.csv")
    assert [row["method"] for row in read] == ["slimmed", "uniform", "full"]
    assert float(read[0]["accuracy_mean"]) == csv_rows(NETWORKS)[0]["accuracy_mean"] and read[0]["seeds"] == "0 1 2"
    assert read[1]["measured_ms"] == "" and read[0]["images"] == "test"
    write_csv([], tmp_path / "none.csv")
    assert read_csv(tmp_path / "none.csv") == []


def test_plots_name_the_target_the_actions_and_their_units(tmp_path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_path(rounds(), 1.1, tmp_path / "path.svg")
        plot_front(rounds(), NETWORKS, 1.1, tmp_path / "front.svg")
    path, front = ((tmp_path / name).read_text() for name in ("path.svg", "front.svg"))
    for text in ("target 1.1 ms", "latency by the table (ms)", "an MB3D as MB4D", "a stage narrowed", "48-48-48-48"):
        assert text in path
    assert "a block left out" not in path  # the last round did nothing
    for text in ("slimmed, 90.00% ± 1.00%", "full, 93.00%, 2 ms", "path of slimming", "test images", "target 1.1 ms"):
        assert text in front


def test_a_search_without_a_trained_network_is_drawn_too(tmp_path: Path) -> None:
    plot_path(rounds()[:1], 1.1, tmp_path / "path.png")
    plot_front(rounds()[:1], [], 1.1, tmp_path / "front.png")
    for name in ("path.png", "front.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 1000 and len(image.convert("RGB").getcolors(1 << 20) or []) > 10
