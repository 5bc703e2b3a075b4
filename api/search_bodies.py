"""What requests and answers about searches for networks hold, in bounds, with an example of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from edgelut import wire
from edgelut.searches import MOST_EVENTS, EventKind, SearchEvent, SearchRun, SearchState
from edgelut.types import Target

from .bodies import Count, Moment, TargetIn, Word

Milliseconds = Annotated[float, Meta(gt=0, le=1e12)]
Object = dict[str, Any]


class SearchIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A search for a network that takes at most `target_ms` on a target; `about` is what else people should know of it."""

    name: Word
    target: TargetIn
    target_ms: Milliseconds
    state: SearchState = "running"
    about: Object = {}
    created_at: Moment | None = None

    def value(self, id: str) -> SearchRun:
        """Return the search of that id, begun now where nothing else is said; raise InvalidSpec."""
        now = datetime.now(UTC)
        target = self.target.value()
        return SearchRun(id, self.name, self.state, target, self.target_ms, self.about, self.created_at or now, now)


class SearchEventIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that happened in a search, by the search's own number, from 0 and without gaps."""

    number: Count
    kind: EventKind
    content: Object
    at: Moment

    def value(self) -> SearchEvent:
        """Return the event; raise InvalidSpec."""
        return SearchEvent(self.number, self.kind, self.content, self.at)


class SearchEventsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What happened next. Events that are stored already may come again."""

    events: Annotated[tuple[SearchEventIn, ...], Meta(max_length=MOST_EVENTS)]

    def value(self) -> list[SearchEvent]:
        """Return the events; raise InvalidSpec."""
        return [event.value() for event in self.events]


class SearchEndIn(Struct, frozen=True, forbid_unknown_fields=True):
    """How a search ended."""

    state: Literal["done", "failed", "interrupted"]


class SearchesOut(Struct, frozen=True):
    """Searches, newest first; `next_cursor` goes into `cursor` for the next page and is null on the last."""

    searches: Sequence[SearchRun]
    next_cursor: str | None


class SearchEventsOut(Struct, frozen=True):
    """What happened in a search, in order."""

    events: Sequence[SearchEvent]


AT = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
SEARCH = SearchRun(
    id="6b0f2c",
    name="small",
    state="running",
    target=Target("lab-1", "onnxruntime-cpu"),
    target_ms=5.0,
    about={"preset": "small", "data": "fashion-mnist", "seed": 0, "full_ms": 10.2},
    created_at=AT,
    updated_at=AT,
    events=2,
    stage="training the supernet",
    share=0.25,
)
EVENTS = [
    SearchEvent(0, "stage", {"text": "training the supernet"}, AT),
    SearchEvent(
        1,
        "epoch",
        {
            "of": "supernet",
            "step": 120,
            "steps": 480,
            "epoch": 1.0,
            "loss": 0.91,
            "accuracy": 0.74,
            "lr": 0.001,
            "seconds": 61.5,
            "tau": 0.8,
        },
        AT,
    ),
]
PUT: dict[str, Any] = {
    name: wire.dump(getattr(SEARCH, name)) for name in ("name", "target", "target_ms", "state", "about", "created_at")
}
ADDED: dict[str, Any] = {"events": wire.dump(EVENTS)}
END = {"state": "done"}
