"""What a row says, in its own measure: milliseconds, or a count of instructions with its label; never one as the other."""

from __future__ import annotations

from dataclasses import dataclass

from .types import Entry, Latency, Measure


@dataclass(frozen=True, slots=True)
class Figures:
    """A row's headline as every surface gives it: `latency_ms` or `instructions`, and null for the other.

    `interval` bounds it at 95 %, in the same unit. `ran_on` is the compute unit that calls ran on, null where it is not known.
    """

    latency_ms: float | None
    instructions: float | None
    measure: Measure
    interval: tuple[float, float]
    ran_on: str | None


def figures(entry: Entry) -> Figures:
    """Return a row's headline."""
    latency = entry.latency
    if latency.clock == "instructions":
        return Figures(None, latency.p10_ns, "instructions", (latency.low_ns, latency.high_ns), entry.ran_on)
    return Figures(latency.ms, None, "time", (latency.low_ns / 1e6, latency.high_ns / 1e6), entry.ran_on)


def number(latency: Latency) -> str:
    """Return the headline as a number: milliseconds bare, for a column that says so; instructions with their label."""
    return f"{latency.ms:.3f}" if latency.measure == "time" else instructions(latency.p10_ns)


def instructions(count: float) -> str:
    """Return a count in millions, labelled."""
    return f"{count / 1e6:.3f} M instr."


def told(latency: Latency) -> str:
    """Return the headline with its unit and half-width, for a sentence."""
    unit = " ms" if latency.measure == "time" else ""
    return f"{number(latency)}{unit} {spread(latency)}"


def spread(latency: Latency) -> str:
    """Return the half-width of the interval in percent, or a question mark for a lone value, of which none is known."""
    lone = latency.samples == 1 and latency.low_ns == latency.high_ns
    return "±?" if lone else f"±{latency.half_width:.1%}"
