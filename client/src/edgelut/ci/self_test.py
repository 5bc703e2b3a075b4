"""The gate's own false alarms and power, measured through the service: builds that are compared with themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgelut import wire
from edgelut.errors import ServiceError
from edgelut.gate import Key, Pair
from edgelut.self_test import Rate, SelfTest, Trial, self_test

from .evidence import fetch, only
from .flow import Flow, policy_of
from .progress import duration


def run(flow: Flow, runs: int) -> SelfTest:
    """Measure that many builds of two sessions each; raises what ends it.

    The first job makes the artifacts, and each later one is compared with it: new and old are the same files.
    """
    flow.await_devices()
    request = flow.config.request
    first = flow.measure("self-test", request, "", part="baseline")
    sessions = 0

    def measure(keys: Sequence[Key] | None) -> tuple[Pair, ...]:
        nonlocal sessions
        sessions += 1
        asked = request if keys is None else only(request, [spec for spec, _ in keys])
        job = flow.measure("self-test", asked, f"job:{first.id}", part=str(sessions))
        evidence = fetch(flow.jobs, job, flow.config)
        if evidence.failures:
            failure = evidence.failures[0]
            raise ServiceError(f"{failure.name} could not be measured: {failure.reason}")
        return evidence.pairs

    def told(number: int, trial: Trial) -> None:
        flow.progress.say(f"{number} of {runs} builds, {duration(flow.clock() - started)}")

    started = flow.clock()
    return self_test(measure, runs, policy_of(flow.config), progress=told)


def lines(found: SelfTest) -> Iterator[str]:
    """Say the rates with their 95 % intervals."""
    yield f"false alarms, builds:       {found.runs}"
    yield f"false alarms, rows:         {found.rows}"
    yield f"builds that could not tell: {found.unclear}"
    yield f"builds measured twice:      {found.suspects}"
    for slowdown, rate in found.found.items():
        yield f"one row +{slowdown:.0%}, found:      {rate}"
        yield f"  ... another one blamed:   {found.wrong[slowdown]}"
    if found.uniform.of:
        yield f"all rows +{next(iter(found.found)):.0%}, found:     {found.uniform}"
    else:
        yield "all rows slower: not tried, for no pinned network is configured ('reference')"


def as_json(found: SelfTest) -> bytes:
    """Return the rates as JSON."""
    rates = {name: _rate(getattr(found, name)) for name in ("runs", "rows", "unclear", "suspects", "uniform")}
    by_slowdown = {name: _by_slowdown(getattr(found, name)) for name in ("found", "wrong")}
    return wire.encode({**rates, **by_slowdown})


def _by_slowdown(rates: Mapping[float, Rate]) -> dict[str, Any]:
    return {f"{slowdown:g}": _rate(rate) for slowdown, rate in rates.items()}


def _rate(rate: Rate) -> dict[str, Any]:
    return {"found": rate.found, "of": rate.of, "share": rate.share, "low": rate.low, "high": rate.high}
