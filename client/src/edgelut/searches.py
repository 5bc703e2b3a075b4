"""Searches for networks as they are told: what a search is, what happened in it, and where it is written down.

A search writes beside its own folder into the place of its table, a database or a service, so that others can watch it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

from .errors import InvalidSpec
from .types import Target

SearchState: TypeAlias = Literal["running", "done", "failed", "interrupted"]
EventKind: TypeAlias = Literal["stage", "epoch", "round", "network"]
STATES: tuple[str, ...] = get_args(SearchState)
EVENT_KINDS: tuple[str, ...] = get_args(EventKind)
MOST_EVENTS = 1000  # added or read at once
LARGEST_CONTENT = 65_536  # characters of JSON that an event, or what is said about a search, may have
SLACK = 0.02  # a network meets its target up to this share above it

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DEEPEST = 16
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SearchRun:
    """One search for a network that takes at most `target_ms` on a target.

    `id` is the search's own choice: 1 to 100 letters, digits, dots, dashes and underscores, unlike any other's. `about` is JSON
    for people (preset, data, seed, settings, config of the supernet, full_ms). All below `created_at` is told by the place that
    the search is written to, and not taken from who puts it.
    """

    id: str
    name: str
    state: SearchState
    target: Target
    target_ms: float
    about: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    events: int = 0
    stage: str = ""  # the text of the last `stage`
    share: float | None = None  # 0 to 1: how far what goes on now is, as far as its events tell
    best_accuracy: float | None = None  # of the networks that meet the target: test images', else validation images'

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidSpec(f"a search's id has 1 to 100 letters, digits, '.', '-' and '_', not {self.id[:120]!r}")
        if not 1 <= len(self.name) <= 200 or not self.name.isprintable():
            raise InvalidSpec(f"a search's name has 1 to 200 printable characters, not {self.name[:220]!r}")
        _among("a search's state", self.state, STATES)
        if not (math.isfinite(self.target_ms) and self.target_ms > 0):
            raise InvalidSpec(f"a search's target_ms is a positive number of milliseconds, not {self.target_ms!r}")
        object.__setattr__(self, "about", _object("about", self.about))


@dataclass(frozen=True, slots=True)
class SearchEvent:
    """Something that happened in a search. `number` is the search's own count of its events, from 0 and without gaps.

    `content` is a JSON object; docs/storage.md says what each kind has. A number that is not finite becomes None, as JSON has none.
    """

    number: int
    kind: EventKind
    content: Mapping[str, Any]
    at: datetime

    def __post_init__(self) -> None:
        if not 0 <= self.number < 2**31:
            raise InvalidSpec(f"an event's number is 0 or above, not {self.number}")
        _among("an event's kind", self.kind, EVENT_KINDS)
        object.__setattr__(self, "content", _object(f"event {self.number}", self.content))


@runtime_checkable
class SearchLog(Protocol):
    """Where searches are written down: a database (`db.store.SqlStore`) or a service (`edgelut.http.HttpTable`).

    Obligations: what was put is durable when the call returns; every call may safely be repeated; times are aware. A search that
    is not there raises LatencyNotFound, which names the newest ones.
    """

    def put_search(self, run: SearchRun) -> SearchRun:
        """Store a search, or change the name, state and `about` of the one of that id; return it as it is stored.

        Raises Conflict where that id is a search for another target.
        """

    def add_search_events(self, id: str, events: Sequence[SearchEvent]) -> None:
        """Store at most 1000 events, all or none, whose numbers go on without a gap where those that are stored end.

        Events that are stored already may come again, and change nothing. Raises Conflict where one of them has other content
        than before, InvalidSpec for a gap, which says the number to go on with.
        """

    def end_search(self, id: str, state: SearchState) -> SearchRun:
        """Say that a search is done, failed or interrupted, and return it."""

    def get_search(self, id: str) -> SearchRun:
        """Return a search as it is now."""

    def list_searches(self, limit: int = 50, before: str | None = None) -> list[SearchRun]:
        """Return searches, newest first; those that came before the one of an id, where one is named."""

    def search_events(self, id: str, after: int = -1, limit: int = MOST_EVENTS) -> list[SearchEvent]:
        """Return at most `limit` (1 to 1000) events after a number, in order."""


def told(run: SearchRun, events: Iterable[SearchEvent]) -> SearchRun:
    """Return a search with what further events of it tell: its stage, how far that is, and the best accuracy."""
    stage, share, best = run.stage, run.share, run.best_accuracy
    for event in events:
        content = event.content
        if event.kind == "stage":
            stage, share = str(content.get("text", ""))[:500], None
        elif event.kind == "epoch":
            share = _share(_number(content, "step"), _number(content, "steps"))
        elif event.kind == "round":
            full, now = _number(run.about, "full_ms"), _number(content, "latency_ms")
            share = None if full is None or now is None else _share(full - now, full - run.target_ms)
        elif (accuracy := _accuracy(content, run.target_ms)) is not None:
            best = accuracy if best is None else max(best, accuracy)
    return replace(run, stage=stage, share=share, best_accuracy=best)


def _accuracy(network: Mapping[str, Any], target_ms: float) -> float | None:
    """Return a network's accuracy if it meets the target."""
    latency, accuracy = (
        next((value for name in names if (value := _number(network, name)) is not None), None)
        for names in (("measured_ms", "predicted_ms"), ("test_accuracy", "valid_accuracy"))
    )
    return None if latency is None or latency > target_ms * (1 + SLACK) else accuracy


def _number(content: Mapping[str, Any], name: str) -> float | None:
    value = content.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None or whole <= 0 else min(1.0, max(0.0, part / whole))


def _among(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidSpec(f"{what} is one of {', '.join(known)}, not {value!r}")


def _object(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidSpec(f"{what}: a JSON object is needed, not {value!r:.200}")
    found = _json(what, value, 0)
    assert isinstance(found, dict)
    return found


def _json(what: str, value: Any, depth: int) -> Any:
    """Return what JSON gives back of a value, equal however it travelled; raise InvalidSpec."""
    if depth > _DEEPEST:
        raise InvalidSpec(f"{what}: more than {_DEEPEST} objects and lists within each other")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and abs(value) <= _LARGEST:
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {_json(what, name, depth): _json(what, item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(what, item, depth + 1) for item in value]
    raise InvalidSpec(f"{what}: {value!r:.200} ({type(value).__name__}) has no JSON form")


__all__ = [
    "EVENT_KINDS",
    "LARGEST_CONTENT",
    "MOST_EVENTS",
    "STATES",
    "EventKind",
    "SearchEvent",
    "SearchLog",
    "SearchRun",
    "SearchState",
    "told",
]
