"""Charts of a search: accuracy against latency, the slimming path, trainings. Data in, ECharts options out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .charts import GRID, INTERVAL, figure, plain
from .colours import DASHES, LINES, line_style
from .searches import METHODS, SAID, Epoch, Method, Network, Round, methods, rank, share_of

Option = dict[str, Any]
STAR = "path://M50 0 61 38 100 38 69 61 81 100 50 76 19 100 31 61 0 38 39 38Z"
SYMBOLS = ("circle", "triangle", "diamond", "rect", STAR)  # by method, beside the colour
NEAR = 0.15  # of the target
PERCENT = "value => `${Number(value.toPrecision(4))} %`"
TIP = {":formatter": "params => params.data.name ?? ''", "confine": True}


def front(
    path: Sequence[Round], networks: Sequence[Network], target_ms: float, key: str = "", near: bool = False
) -> Option:
    """Return accuracy against latency: the rounds as a path (inherited weights), each trained network as a point.

    `key` is which accuracy of the networks is shown; where `near`, only networks about the target are.
    """
    if near:
        path, networks = (), [one for one in networks if abs(one.ms / target_ms - 1) <= NEAR]
        ends = {"min": round((1 - NEAR) * target_ms, 3), "max": round((1 + NEAR) * target_ms, 3)}
    else:
        ends = {"min": _below(target_ms, *(one.ms for one in networks), *(one.latency_ms for one in path))}
    series = [_walked(path, target_ms), *(_trained(method, key) for method in methods(networks))]
    return {
        "animation": False,
        "grid": {**GRID, "top": 74, "bottom": 34},
        "legend": {"type": "scroll", "top": 4},
        "tooltip": TIP,
        "xAxis": {
            "type": "value",
            "name": "latency, ms",
            "nameLocation": "middle",
            "nameGap": 28,
            "scale": True,
            **ends,
        },
        "yAxis": {
            "type": "value",
            "name": "accuracy",
            "nameGap": 28,
            "scale": True,
            ":axisLabel": "{formatter: " + PERCENT + "}",
        },
        "series": series,
    }


def _walked(path: Sequence[Round], target_ms: float) -> Option:
    """Return the series of the rounds, with the line of the target."""
    return {
        "type": "line",
        "name": "slimming, inherited weights",
        "color": LINES[6],
        "lineStyle": {"type": "dashed", "width": 1.5},
        "symbol": "emptyCircle",
        "symbolSize": 6,
        "data": [
            {"value": [one.latency_ms, 100 * one.accuracy], "name": round_words(one), "round": one.round}
            for one in path
        ],
        "markLine": _target(target_ms, "xAxis", "end"),
    }


def _trained(method: Method, key: str) -> Option:
    """Return the series of one way's networks."""
    colour, symbol = style_of(method.name)
    shown = [(one, value) for one in method.networks if (value := accuracy_of(one, key)) is not None]
    return {
        "type": "scatter",
        "name": method.name,
        "color": colour,
        "symbol": symbol,
        "symbolSize": 13,
        "itemStyle": {"borderColor": "#ffffff", "borderWidth": 1},
        "z": 5,
        "data": [
            {"value": [one.ms, 100 * value], "name": network_words(one), "network": one.name} for one, value in shown
        ],
    }


def slimming(path: Sequence[Round], target_ms: float, chosen: int | None = None) -> Option:
    """Return latency and accuracy by round, one above the other; the chosen round is marked in both."""
    top, bottom = {"top": 34, "height": 130}, {"top": 208, "height": 110}
    sides = {"left": 12, "right": 18, "containLabel": False}
    axis = {"type": "value", "min": 0, "max": max(1, path[-1].round if path else 1), "minInterval": 1}
    return {
        "animation": False,
        "grid": [{**sides, **top, "left": 62}, {**sides, **bottom, "left": 62}],
        "tooltip": TIP,
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "xAxis": [
            {**axis, "gridIndex": 0, "axisLabel": {"show": False}},
            {**axis, "gridIndex": 1, "name": "round", "nameLocation": "middle", "nameGap": 26},
        ],
        "yAxis": [
            {
                "type": "value", "name": "latency, ms", "gridIndex": 0, "scale": True, "splitNumber": 4,
                "min": _below(target_ms, *(one.latency_ms for one in path)),
            },
            {
                "type": "value", "name": "accuracy, inherited", "gridIndex": 1, "scale": True, "splitNumber": 3,
                "nameTextStyle": {"align": "left"}, ":axisLabel": "{formatter: " + PERCENT + "}",
            },
        ],
        "series": [
            {
                **_by_round(path, 0, [one.latency_ms for one in path], chosen),
                "step": "end", "markLine": _target(target_ms, "yAxis", "insideStartTop"),
            },
            _by_round(path, 1, [100 * one.accuracy for one in path], chosen),
        ],
    }  # fmt: skip


def training(trainings: Sequence[tuple[str, Sequence[Epoch]]], what: str) -> Option:
    """Return `loss` or `accuracy` over the epochs, a line for each training; the steps where there are no epochs."""
    epochs = all(one.epoch is not None for _, points in trainings for one in points)
    series = []
    for number, (of, points) in enumerate(trainings):
        colour, dash = line_of(of, number)
        data = []
        for one in points:
            value = one.loss if what == "loss" else None if one.accuracy is None else 100 * one.accuracy
            if value is not None:
                data.append({"value": [one.epoch if epochs else one.step, value], "name": epoch_words(one)})
        series.append(
            {
                "type": "line",
                "name": of,
                "color": colour,
                "lineStyle": {"type": dash, "width": 1.8},
                "symbol": "circle" if len(data) <= 60 else "none",
                "symbolSize": 5,
                "showSymbol": len(data) <= 60,
                "data": data,
                "emphasis": {"focus": "series"},
            }
        )
    percent = {":axisLabel": "{formatter: " + PERCENT + "}"} if what == "accuracy" else {}
    return {
        "animation": False,
        "grid": {**GRID, "top": 64, "bottom": 34},
        "legend": {"type": "scroll", "top": 4},
        "tooltip": TIP,
        "xAxis": {"type": "value", "name": "epoch" if epochs else "step", "nameLocation": "middle", "nameGap": 28},
        "yAxis": {
            "type": "value",
            "name": "loss" if what == "loss" else "accuracy, validation",
            "nameTextStyle": {"align": "left"},
            "scale": True,
            **percent,
        },
        "series": series,
    }


def predicted(networks: Sequence[Network]) -> Option:
    """Return how far the table's sum of each measured network is off, with its 95 % interval: one that holds 0 is right."""
    shown = [one for one in networks if one.off is not None and one.measured_ms is not None]
    points, intervals = [], []
    for place, one in enumerate(shown):
        colour, symbol = style_of(one.method)
        off = {"value": [place, 100 * (one.off or 0.0)], "name": network_words(one), "network": one.name}
        points.append({**off, "symbol": symbol, "itemStyle": {"color": colour}})
        if one.low_ms is not None and one.high_ms is not None and one.measured_ms:
            ends = (100 * (end / one.measured_ms - 1) for end in (one.low_ms, one.high_ms))
            intervals.append({"value": [place, *ends], "itemStyle": {"color": colour}})
    zero = {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"color": LINES[6], "type": "solid"},
    }
    return {
        "animation": False,
        "grid": {**GRID, "top": 34, "bottom": 8},
        "tooltip": TIP,
        "xAxis": {
            "type": "category",
            "data": [f"{one.method} {one.seed}" for one in shown],
            "axisLabel": {"rotate": 35, "fontSize": 11, "interval": 0, "hideOverlap": True},
        },
        "yAxis": {
            "type": "value",
            "name": "sum of the table against the measured network",
            "nameTextStyle": {"align": "left"},
            ":axisLabel": "{formatter: " + PERCENT + "}",
        },
        "series": [
            {"type": "scatter", "symbolSize": 12, "data": points, "z": 5, "markLine": {**zero, "data": [{"yAxis": 0}]}},
            {
                "type": "custom",
                "silent": True,
                ":renderItem": INTERVAL,
                "encode": {"x": 0, "y": [1, 2]},
                "data": intervals,
            },
        ],
    }


def style_of(method: str) -> tuple[str, str]:
    """Return the colour and the symbol of a method, the same in every chart."""
    place = rank(method)
    return LINES[place % len(LINES)], SYMBOLS[place % len(SYMBOLS)]


def line_of(of: str, number: int) -> tuple[str, str]:
    """Return colour and dash of a training: its method's colour, and a dash by its seed; the supernet's is grey."""
    method, _, seed = of.partition(" seed ")
    if method not in METHODS:
        return (LINES[6], "solid") if of == "supernet" else line_style(number)
    return style_of(method)[0], DASHES[int(seed) % len(DASHES) if seed.isdigit() else 0]


def accuracy_of(network: Network, key: str) -> float | None:
    """Return the accuracy that is asked for: `valid`, `inherited`, or of test images, else of validation images."""
    if key == "inherited":
        return network.inherited_accuracy
    return network.valid_accuracy if key == "valid" else network.accuracy


def round_words(one: Round) -> str:
    """Return a round in words, for a tip."""
    did = f": {one.taken.what}" if one.taken is not None else ""
    return plain(f"round {one.round}, {figure(one.latency_ms)} ms, {share_of(one.accuracy)}{did}")


def network_words(one: Network) -> str:
    """Return a network in words, for a tip."""
    widths, depths = (", ".join(map(str, numbers)) for numbers in (one.config.widths, one.config.depths))
    said = SAID.get(one.method, "")
    measured = "" if one.measured_ms is None else f", measured {figure(one.measured_ms)} ms"
    lines = (
        f"{one.name}" + (f": {said}" if said else ""),
        f"accuracy {share_of(one.accuracy)}, predicted {figure(one.predicted_ms)} ms{measured}",
        f"widths {widths}; depths {depths}; {one.config.mb3d} MB3D",
    )
    return "<br>".join(map(plain, lines))


def epoch_words(one: Epoch) -> str:
    """Return a point of a training in words, for a tip."""
    at = f"epoch {figure(one.epoch)}" if one.epoch is not None else f"step {one.step}"
    said = [f"{one.of}, {at}"]
    said += [] if one.loss is None else [f"loss {figure(one.loss)}"]
    said += [] if one.accuracy is None else [f"accuracy {share_of(one.accuracy)}"]
    said += [] if one.lr is None else [f"learning rate {figure(one.lr, 3)}"]
    said += [] if one.tau is None else [f"tau {figure(one.tau, 3)}"]
    return plain(", ".join(said))


def _target(target_ms: float, axis: str, position: str) -> Option:
    return {
        "silent": True,
        "symbol": "none",
        "lineStyle": {"color": LINES[1], "type": "solid", "width": 1.5},
        "label": {
            "formatter": f"target {figure(target_ms)} ms",
            "color": LINES[1],
            "position": position,
            "align": "left",
        },
        "data": [{axis: target_ms}],
    }


def _below(*shown: float) -> float:
    """Return where an axis of latency begins: at a round number below all that is shown."""
    least, most = min(shown), max(shown)
    step = 0.5 if most - least > 2 else 0.1 if most - least > 0.3 else 0.01
    return round(max(0.0, math.floor((least - 0.04 * (most - least)) / step) * step), 3)


def _by_round(path: Sequence[Round], grid: int, values: Sequence[float], chosen: int | None) -> Option:
    data = [
        {
            "value": [one.round, value],
            "name": round_words(one),
            "round": one.round,
            "symbolSize": 13 if one.round == chosen else 6,
            "itemStyle": {"color": LINES[1]} if one.round == chosen else {},
        }
        for one, value in zip(path, values, strict=True)
    ]
    return {
        "type": "line",
        "xAxisIndex": grid,
        "yAxisIndex": grid,
        "color": LINES[0],
        "symbol": "circle",
        "lineStyle": {"width": 1.8},
        "data": data,
    }
