"""What a search came to, drawn and in rows: the path of slimming, accuracy against latency, and the networks of each method.

Networks are mappings as `search.run.network_content` writes them, one for each method and seed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich import box
from rich.table import Table

from supernet.supernet import State

from .slimming import Round

# Okabe and Ito's colours, which are told apart by eyes of every kind (https://jfly.uni-koeln.de/color/); a marker beside each.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#5A5A5A"
ACTIONS = {
    "depth": (VERMILION, "v", "a block left out"),
    "mb3d": (PURPLE, "s", "an MB3D as MB4D"),
    "width": (GREEN, "o", "a stage narrowed"),
}
METHODS = {
    "slimmed": (BLUE, "o"),
    "evolutionary": (GREEN, "s"),
    "random": (ORANGE, "^"),
    "uniform": (VERMILION, "D"),
    "full": (GREY, "*"),
}
OTHER = (PURPLE, "P")
STAGES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (VERMILION, ":"))
DPI = 130


@dataclass(frozen=True, slots=True)
class Result:
    """A method's networks over all seeds: means, and the sample's standard deviation where there are several."""

    method: str
    seeds: tuple[int, ...]
    widths: str
    depths: str
    mb3d: str
    predicted_ms: float
    measured_ms: float | None
    inherited_accuracy: float | None
    accuracy: float
    accuracy_std: float | None
    on: str  # the images that `accuracy` is of: test or validation
    parameters: float

    @property
    def error(self) -> float | None:
        """The table's prediction against the measured network, relative."""
        return None if not self.measured_ms else self.predicted_ms / self.measured_ms - 1


def results(networks: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Return one line a method, in the order in which the methods come.

    Accuracies are of test images, or all of validation images where one network was not tested.
    """
    on = _images(networks)
    return [_result(method, own, on) for method, own in _by_method(networks).items()]


def results_table(networks: Sequence[Mapping[str, Any]]) -> Table:
    """Return the methods as a table for a terminal of 80 columns, two lines a method."""
    found = results(networks)
    on = found[0].on if found else "test"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    table.add_column("widths\ndepths, MB3D", no_wrap=True)
    for name in ("table\nms", "measured\nms", "error", "inherited\naccuracy", f"{on}\naccuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        measured = "" if one.measured_ms is None else f"{one.measured_ms:#.4g}"
        error = "" if one.error is None else f"{one.error:+.1%}"
        inherited = "" if one.inherited_accuracy is None else f"{one.inherited_accuracy:.1%}"
        spread = "" if one.accuracy_std is None else f"± {one.accuracy_std:.2%}"
        network = f"{one.widths}\n{one.depths}, {one.mb3d}"
        table.add_row(
            one.method, network, f"{one.predicted_ms:#.4g}", measured, error, inherited, f"{one.accuracy:.2%}\n{spread}"
        )
    return table


def csv_rows(networks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the methods as rows of a CSV file; accuracies and errors are shares, and what is not known is empty."""
    return [
        {
            "method": one.method,
            "seeds": " ".join(map(str, one.seeds)),
            "widths": one.widths,
            "depths": one.depths,
            "mb3d": one.mb3d,
            "parameters": round(one.parameters),
            "predicted_ms": one.predicted_ms,
            "measured_ms": one.measured_ms,
            "error": one.error,
            "inherited_accuracy": one.inherited_accuracy,
            "images": one.on,
            "accuracy_mean": one.accuracy,
            "accuracy_std": one.accuracy_std,
        }
        for one in results(networks)
    ]


def write_csv(networks: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write the methods' rows; of no networks the file is empty."""
    rows = csv_rows(networks)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0] if rows else ())
        if rows:
            writer.writeheader()
        writer.writerows(rows)


def read_csv(file: Path) -> list[dict[str, str]]:
    """Return the rows of a file that `write_csv` wrote."""
    with file.open(newline="") as held:
        return list(csv.DictReader(held))


def plot_path(rounds: Sequence[Round], target_ms: float, file: Path) -> None:
    """Draw latency, accuracy with inherited weights, widths and depths over the rounds; the suffix says the format."""
    figure = Figure(figsize=(10, 6.4), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    (latency, widths), (accuracy, depths) = figure.subplots(2, 2, sharex=True)
    numbers = [one.number for one in rounds]
    for axes, values in (
        (latency, [one.latency_ms for one in rounds]),
        (accuracy, [one.accuracy for one in rounds]),
    ):
        axes.plot(numbers, values, color=GREY, linewidth=1, zorder=1)
        _mark_actions(axes, rounds, values)
    latency.axhline(target_ms, color="black", linestyle="--", linewidth=1)
    latency.annotate(f"target {target_ms:.3g} ms", (0, target_ms), (2, 3), textcoords="offset points", fontsize=8)
    latency.set(ylabel="latency by the table (ms)", ylim=(0, None))
    accuracy.set(ylabel="accuracy, inherited weights")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    _draw_stages(widths, [one.state.widths for one in rounds])
    _draw_stages(depths, [one.state.depths for one in rounds])
    depths.step(numbers, [one.state.mb3d for one in rounds], where="post", color="black", linewidth=1, label="MB3D")
    widths.set(ylabel="width (channels)", ylim=(0, None))
    depths.set(ylabel="blocks", ylim=(0, None))
    depths.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (accuracy, depths):
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (latency, widths, accuracy, depths):
        axes.grid(alpha=0.25)
    if any(one.chosen is not None for one in rounds[:-1]):
        latency.legend(fontsize=8, title="what was done", title_fontsize=8)
    depths.legend(fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.14), frameon=False)
    if rounds:
        said = [_described(one.state) for one in (rounds[0], rounds[-1])]
        figure.suptitle(f"from {said[0]}\nto {said[1]}", fontsize=9)
    figure.savefig(file)


def plot_front(rounds: Sequence[Round], networks: Sequence[Mapping[str, Any]], target_ms: float, file: Path) -> None:
    """Draw accuracy against latency: on the left while searching, with inherited weights; on the right after training.

    The right side has each network as a faint point and each method's mean with its standard deviation over seeds; the full
    network, which does not meet the target, is a level there. The suffix says the format.
    """
    figure = Figure(figsize=(11, 4.8), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    searching, trained = figure.subplots(1, 2)
    ms = [one.latency_ms for one in rounds]
    searching.plot(ms, [one.accuracy for one in rounds], ".-", color=GREY, linewidth=1, label="path of slimming")
    for method, own in _by_method(networks).items():
        color, marker = METHODS.get(method, OTHER)
        looked = [one for one in own if one["inherited_accuracy"] is not None]
        if looked:
            x, y = ([one[name] for one in looked] for name in ("predicted_ms", "inherited_accuracy"))
            searching.scatter(x, y, color=color, marker=marker, s=55, zorder=3, label=method)
        _draw_trained(trained, method, own, _images(networks))
    for axes in (searching, trained):
        axes.axvline(target_ms, color="black", linestyle="--", linewidth=1, label=f"target {target_ms:.3g} ms")
        axes.set_xlabel("latency by the table (ms)")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, loc="best")
    searching.set(ylabel="accuracy, inherited weights, validation images")
    searching.set_title("while searching", fontsize=10)
    trained.set(ylabel=f"accuracy, trained from scratch, {_images(networks)} images")
    trained.set_title("after training", fontsize=10)
    figure.savefig(file)


def _mark_actions(axes: Axes, rounds: Sequence[Round], values: Sequence[float]) -> None:
    """Mark where each round's action led to, by the action's kind."""
    kinds = [None if one.chosen is None else one.actions[one.chosen].kind for one in rounds]
    for kind, (color, marker, label) in ACTIONS.items():
        x = [index + 1 for index, one in enumerate(kinds[:-1]) if one == kind]
        if x:
            axes.scatter(x, [values[index] for index in x], color=color, marker=marker, s=28, zorder=2, label=label)


def _draw_stages(axes: Axes, values: Sequence[tuple[int, ...]]) -> None:
    """Draw the widths or depths of each stage over the rounds, a little apart where stages are equal."""
    most = max((max(one) for one in values), default=0)
    for stage, (color, style) in enumerate(STAGES):
        y = [one[stage] + (stage - 1.5) / 100 * most for one in values]
        axes.step(
            range(len(y)), y, where="post", color=color, linestyle=style, linewidth=1.8, label=f"stage {stage + 1}"
        )


def _draw_trained(axes: Axes, method: str, own: Sequence[Mapping[str, Any]], on: str) -> None:
    color, marker = METHODS.get(method, OTHER)
    result = _result(method, own, on)
    said = f"{method}, {result.accuracy:.2%}" + (
        f" ± {result.accuracy_std:.2%}" if result.accuracy_std is not None else ""
    )
    if method == "full":
        axes.axhline(result.accuracy, color=color, linestyle=":", label=f"{said}, {result.predicted_ms:.3g} ms")
        return
    x = [one["predicted_ms"] for one in own]
    axes.scatter(x, [_accuracy(one, on) for one in own], color=color, marker=marker, s=18, alpha=0.35, linewidths=0)
    spread = result.accuracy_std or 0.0
    axes.errorbar(
        result.predicted_ms, result.accuracy, spread, color=color, fmt=marker, markersize=8, capsize=4, label=said
    )


def _by_method(networks: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in networks:
        found.setdefault(one["method"], []).append(one)
    return found


def _result(method: str, own: Sequence[Mapping[str, Any]], on: str) -> Result:
    accuracies = [_accuracy(one, on) for one in own]
    shapes = {
        name: " or ".join(dict.fromkeys(_shape(one["config"][name]) for one in own))
        for name in ("widths", "depths", "mb3d")
    }
    return Result(
        method=method,
        seeds=tuple(one["seed"] for one in own),
        **shapes,
        predicted_ms=fmean(one["predicted_ms"] for one in own),
        measured_ms=_mean([one["measured_ms"] for one in own]),
        inherited_accuracy=_mean([one["inherited_accuracy"] for one in own]),
        accuracy=fmean(accuracies),
        accuracy_std=stdev(accuracies) if len(accuracies) > 1 else None,
        on=on,
        parameters=fmean(one["parameters"] for one in own),
    )


def _images(networks: Iterable[Mapping[str, Any]]) -> str:
    return "test" if all(one["test_accuracy"] is not None for one in networks) else "validation"


def _accuracy(network: Mapping[str, Any], on: str) -> float:
    return float(network["test_accuracy" if on == "test" else "valid_accuracy"])


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, None where a value is not known: a mean of some networks is not that of the method."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _described(state: State) -> str:
    return f"widths {_shape(state.widths)}, depths {_shape(state.depths)}, {state.mb3d} MB3D"


def _shape(value: Sequence[int] | int) -> str:
    return str(value) if isinstance(value, int) else "-".join(map(str, value))
