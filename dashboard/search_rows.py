"""A search in rows and words: the columns of its page's tables, and what its charts say to those who do not see them."""

from __future__ import annotations

import json
from typing import Any

from edgelut.searches import SearchRun

from .searches import Network, Round, Story, composer, meets, methods, ms_of, share_of
from .tables import Column

SLIMMING_GIST = "Latency falls round by round to the target; accuracy is with inherited weights, before any training."
PLAIN = {"filter": False}
ROUNDS = (
    Column("round", "round", "number", width=95, more=PLAIN),
    Column("ms", "latency, ms", "number", width=115, more=PLAIN),
    Column("accuracy", "accuracy", "share", width=105, tip="with inherited weights", more=PLAIN),
    Column("did", "what it did", more={"flex": 1, "minWidth": 200, "tooltipField": "did", **PLAIN}),
    Column("saving", "saved, ms", "number", width=105, more=PLAIN),
    Column("drop", "lost", "share", width=85, tip="accuracy lost", more=PLAIN),
    Column("actions", "ways", "number", width=80, tip="how many ways there were", more=PLAIN),
    Column("depths", "depths", width=110, more=PLAIN),
    Column("widths", "widths", width=150, more=PLAIN),
    Column("mb3d", "MB3D", "number", width=85, more=PLAIN),
)
ACTIONS = (
    Column("taken", "taken", width=85, more=PLAIN),
    Column("kind", "kind", width=90, more=PLAIN),
    Column("what", "what", more={"flex": 1, "minWidth": 200, "tooltipField": "what", **PLAIN}),
    Column(
        "score", "lost per ms, points", "number", width=165, tip="accuracy lost for a ms: less is better", more=PLAIN
    ),
    Column("drop", "lost", "share", width=85, tip="accuracy lost", more=PLAIN),
    Column("saving", "saved, ms", "number", width=105, more=PLAIN),
    Column("ms", "latency, ms", "number", width=115, more=PLAIN),
    Column("accuracy", "accuracy", "share", width=105, tip="with inherited weights", more=PLAIN),
)
NETWORKS = (
    Column(
        "method",
        "method",
        "link",
        width=125,
        pinned=True,
        tip="leads to the network on the search's target",
        more=PLAIN,
    ),
    Column("seed", "seed", "number", width=70, more=PLAIN),
    Column("test", "test accuracy", "share", width=125, more=PLAIN),
    Column("predicted", "predicted, ms", "number", width=125, tip="the sum of the table's rows", more=PLAIN),
    Column("measured", "measured, ms", "number", width=125, tip="the whole network", more=PLAIN),
    Column("off", "off by", "share", width=85, tip="predicted against measured", more=PLAIN),
    Column("meets", "meets target", width=120, tip="at most 2 % above it", more=PLAIN),
    Column("depths", "depths", width=105, more=PLAIN),
    Column("widths", "widths", width=140, more=PLAIN),
    Column("mb3d", "MB3D", "number", width=80, more=PLAIN),
    Column("parameters", "parameters", "number", width=115, more=PLAIN),
    Column("valid", "validation", "share", width=105, tip="accuracy of validation images", more=PLAIN),
    Column("inherited", "before training", "share", width=135, tip="accuracy with inherited weights", more=PLAIN),
    Column("low", "95 % from", "number", width=100, tip="of the prediction", more=PLAIN),
    Column("high", "95 % to", "number", width=95, tip="of the prediction", more=PLAIN),
)


def round_row(one: Round) -> dict[str, Any]:
    """Return a round as a row of the table."""
    taken = one.taken
    return {
        "id": one.round,
        "round": one.round,
        "ms": one.latency_ms,
        "accuracy": one.accuracy,
        "did": "nothing: this is the end" if taken is None else taken.what,
        "saving": None if taken is None else taken.saving_ms,
        "drop": None if taken is None else taken.drop,
        "actions": len(one.actions),
        "depths": listed(one.depths),
        "widths": listed(one.widths),
        "mb3d": one.mb3d,
    }


def action_rows(one: Round) -> list[dict[str, Any]]:
    """Return what a round could do as rows of the table."""
    return [
        {
            "id": place,
            "taken": "✓ taken" if place == one.chosen else "",
            "kind": action.kind,
            "what": action.what,
            "score": None if action.score is None else 100 * action.score,
            "drop": action.drop,
            "saving": action.saving_ms,
            "ms": action.latency_ms,
            "accuracy": action.accuracy,
        }
        for place, action in enumerate(one.actions)
    ]


def network_row(one: Network, run: SearchRun) -> dict[str, Any]:
    """Return a network as a row of the table."""
    return {
        "id": one.name,
        "href": composer(one, run),
        "method": one.method,
        "seed": one.seed,
        "test": one.test_accuracy,
        "valid": one.valid_accuracy,
        "inherited": one.inherited_accuracy,
        "predicted": one.predicted_ms,
        "low": one.low_ms,
        "high": one.high_ms,
        "measured": one.measured_ms,
        "off": one.off,
        "meets": "✓ yes" if meets(one, run.target_ms) else "✖ no",
        "parameters": one.parameters,
        "depths": listed(one.config.depths),
        "widths": listed(one.config.widths),
        "mb3d": one.config.mb3d,
    }


def headline(run: SearchRun, networks: int) -> str:
    """Return in a few words what a search does, or how it ended."""
    if run.state == "done":
        return f"{networks} networks trained" if networks != 1 else "one network trained"
    if run.state != "running":
        return f"{run.state} while {run.stage}" if run.stage else run.state
    return (run.stage or "begun") + ("" if run.share is None else f" · {int(100 * run.share)} %")


def listed(numbers: tuple[int, ...]) -> str:
    """Return numbers with commas between them."""
    return ", ".join(map(str, numbers))


def said(value: Any) -> str:
    """Return something that is said about a search in words."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {said(one)}" for name, one in value.items())[:600]
    return ", ".join(map(said, value))[:600] if isinstance(value, list) else "" if value is None else json.dumps(value)


def round_said(one: Round) -> str:
    """Return in a sentence what a round did."""
    where = f"Round {one.round}: {ms_of(one.latency_ms)}, {share_of(one.accuracy)}. "
    if one.taken is None:
        return f"{where}It did nothing: this is where the path ends."
    return f"{where}Of {len(one.actions)} ways it took: {one.taken.what}."


def front_gist(found: list[Network], target_ms: float) -> str:
    """Return in a sentence which method leads among the networks that meet the target."""
    met = [one for one in methods([one for one in found if meets(one, target_ms)]) if one.mean is not None]
    if not met:
        return "Right of the line is above the target. No trained network meets it yet."
    words = "; ".join(
        f"{one.name} {share_of(one.mean, 2)}" + (f" ± {100 * one.spread:.2f}" if one.spread is not None else "")
        for one in sorted(met, key=lambda one: -(one.mean or 0.0))
    )
    return (
        f"Mean accuracy of the networks that meet the target: {words}. The grey path is slimming, before any training."
    )


def training_gist(story: Story, what: str) -> str:
    """Return in a sentence where each training is."""
    said = []
    for of in story.epochs:
        values = [getattr(one, what) for one in story.training(of) if getattr(one, what) is not None]
        if values:
            said.append(f"{of} {share_of(values[-1])}" if what == "accuracy" else f"{of} {values[-1]:.3g}")
    shown = "; ".join(said[:6]) + (f"; and {len(said) - 6} more" if len(said) > 6 else "")
    return f"Last values: {shown}." if said else "No values yet."


def predicted_gist(found: list[Network]) -> str:
    """Return in a sentence how far predictions are off."""
    off = [one.off for one in found if one.off is not None]
    if not off:
        return "No network was measured as a whole yet."
    worst = max(off, key=abs)
    mean = sum(map(abs, off)) / len(off)
    many = f"{len(off)} networks were measured as wholes" if len(off) > 1 else "One network was measured as a whole"
    return f"{many}; the table's sums are off by {share_of(mean)} on average, by {100 * worst:+.1f} % at worst."
