"""What speaks against a table: rows in doubt, rows of several conditions, rows that sums lack; and what to measure again."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .blocks import find_kind
from .errors import InvalidSpec
from .sequences import CHAIN, COLD, REFERENCE, blocks_of, has_companions
from .types import BlockSpec, Entry, Target


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A row in doubt, and why."""

    spec: BlockSpec
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The hash of conditions that rows were measured under, empty where a row does not say, and how many were."""

    key: str
    rows: int
    newest: str  # ISO 8601


@dataclass(frozen=True, slots=True)
class TableCheck:
    """What was found on one target; `good` where nothing has to be measured again, else `commands` do it.

    `conditions` are the newest first; where there are several, the rows are not all comparable, and `unlike` are those of the
    older ones: measuring again what is newest would never end. `incomplete` are blocks without chain, context or cold row.
    """

    target: Target
    rows: int
    good: bool
    doubtful: tuple[Doubtful, ...]
    conditions: tuple[Conditions, ...]
    unlike: tuple[BlockSpec, ...]
    incomplete: tuple[BlockSpec, ...]
    commands: tuple[str, ...]


def check(entries: Iterable[Entry]) -> list[TableCheck]:
    """Check current rows, target by target, in the order of their names."""
    by_target: dict[Target, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.spec.kind != REFERENCE:  # a machine's own speed: never measured on its own
            by_target[entry.target].append(entry)
    return [_check(target, by_target[target]) for target in sorted(by_target, key=str)]


def _check(target: Target, entries: list[Entry]) -> TableCheck:
    measured = [entry for entry in entries if entry.kind == "measured"]
    conditions = _conditions(measured)
    doubtful = tuple(Doubtful(entry.spec, entry.latency.doubts) for entry in entries if not entry.latency.stable)
    unlike = tuple(entry.spec for entry in measured if _condition(entry) != conditions[0].key)
    incomplete = tuple(entry.spec for entry in measured if _is_incomplete(entry))
    again = list(dict.fromkeys([*(row.spec for row in doubtful), *unlike, *incomplete]))
    theirs = {
        entry.spec for entry in entries if "file_sha256" in entry.provenance
    }  # of a file: nobody here can measure them
    commands = tuple(profile_commands([spec for spec in again if spec not in theirs], target))
    return TableCheck(target, len(entries), not again, doubtful, conditions, unlike, incomplete, commands)


def _conditions(measured: Sequence[Entry]) -> tuple[Conditions, ...]:
    counted = Counter(map(_condition, measured))
    newest: dict[str, str] = defaultdict(str)
    for entry in measured:
        at = str(entry.provenance.get("measured_at", ""))
        newest[_condition(entry)] = max(newest[_condition(entry)], at)
    found = [Conditions(key, rows, newest[key]) for key, rows in counted.items()]
    return tuple(sorted(found, key=lambda one: (one.newest, one.rows, one.key), reverse=True))


def _condition(entry: Entry) -> str:
    return str(entry.provenance.get("conditions", ""))


def _is_incomplete(entry: Entry) -> bool:
    """Say whether a block lacks what its sums need."""
    latency = entry.latency
    has = latency.cold_ns is not None and (latency.slope_ns is not None or latency.context_ns is not None)
    return not has and has_companions(entry.spec)


def profile_commands(specs: Iterable[BlockSpec], target: Target, preset: str = "") -> list[str]:
    """Return the commands that measure specs on a target, blocks of one kind and map together.

    A chain or a cold row is measured beside its blocks; blocks that belong to a preset are measured with it.
    """
    where = ["--device", target.device, "--runtime", target.runtime]
    where += ["--precision", target.precision, "--threads", str(target.threads)]
    if preset:
        return [shlex.join(["edgelut", "profile", preset, *where])]
    groups: dict[tuple[str, ...], dict[int, None]] = defaultdict(dict)
    for spec in dict.fromkeys(one for whole in specs for one in _profiled(whole)):
        width, options = _options(spec)
        groups[spec.kind, *options][width] = None
    return [
        shlex.join(
            ["edgelut", "profile", "--block", kind, "--width", ",".join(map(str, sorted(widths))), *options, *where]
        )
        for (kind, *options), widths in sorted(groups.items())
    ]


def _profiled(spec: BlockSpec) -> Sequence[BlockSpec]:
    """Return what has to be asked for so that a spec is measured."""
    if spec.kind not in (CHAIN.name, COLD.name):
        return (spec,)
    try:
        return blocks_of(spec)
    except InvalidSpec:  # anybody can put a row whose line nobody can read
        return (spec,)


def _options(spec: BlockSpec) -> tuple[int, list[str]]:
    """Return the width that a spec is asked for with, and the other options."""
    kind = find_kind(spec.kind)
    options = ["--resolution", str(spec.resolution)]
    fixed = kind is not None and kind.width_in is not None
    if not fixed and (spec.width_out != spec.width_in or (kind is not None and kind.widens)):
        options += ["--width-out", str(spec.width_out)]
    if spec.batch != 1:
        options += ["--batch", str(spec.batch)]
    usual = kind.params if kind is not None else {}
    for name, value in spec.params.items():
        if usual.get(name) != value:
            options += ["--param", f"{name}={value}"]
    return (spec.width_out if fixed else spec.width_in), options
