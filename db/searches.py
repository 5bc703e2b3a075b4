"""Searches for networks, and what happened in each: written by the search itself, read by whoever watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from edgelut.errors import Conflict, InvalidSpec, LatencyNotFound
from edgelut.searches import LARGEST_CONTENT, MOST_EVENTS, SearchEvent, SearchRun, SearchState, told
from edgelut.types import canonical

from .connect import Database, reading, writing
from .job_rows import now, words
from .rows import TARGET, storable, target_ids, target_of
from .schema import search_events, searches, targets

NAMED = 5  # searches that an error names

_SEARCH = sa.select(searches, *TARGET).join(targets, targets.c.id == searches.c.target_id)


class SqlSearches(Database):
    """A `SearchLog` in SQLite or PostgreSQL."""

    def put_search(self, run: SearchRun) -> SearchRun:
        """Store a search, or change the name, state and `about` of the one of that id; return it as it is stored.

        Raises Conflict where that id is a search for another target, InvalidSpec for what cannot be stored.
        """
        _check_size(f"what is said about search {run.id}", run.about)
        changed = {"name": run.name, "state": run.state, "about": dict(run.about), "updated_at": now()}
        with writing(self.engine) as connection:
            row = _find(connection, run.id)
            if row is None:
                target = target_ids(connection, [run.target])[run.target.key]
                fresh = {"key": run.id, "target_id": target, "target_ms": run.target_ms, "created_at": run.created_at}
                fresh |= {"events": 0, "stage": "", "share": None, "best_accuracy": None}
                connection.execute(searches.insert().values(fresh | changed))
            else:
                _check_same(_run_of(row), run)
                connection.execute(searches.update().where(searches.c.id == row["id"]).values(changed))
            return _run_of(_get(connection, run.id))

    def add_search_events(self, id: str, events: Sequence[SearchEvent]) -> None:
        """Store at most 1000 events, all or none, whose numbers go on without a gap where those that are stored end.

        Events that are stored already may come again, and change nothing. Raises Conflict where one of them has other content
        than before, InvalidSpec for a gap or for too many or too large ones.
        """
        if len(events) > MOST_EVENTS:
            raise InvalidSpec(f"add at most {MOST_EVENTS} events at once, not {len(events)}")
        for event in events:
            _check_size(f"event {event.number}", event.content)
        with writing(self.engine) as connection:
            row = _get(connection, id)
            run = _run_of(row)
            _check_numbers(run, events)
            _check_known(connection, row["id"], [event for event in events if event.number < run.events])
            new = [event for event in events if event.number >= run.events]
            if new:
                connection.execute(search_events.insert(), [_event_row(row["id"], event) for event in new])
                after = told(run, new)
                stage = words(after.stage)
                kept = {"stage": stage, "share": after.share, "best_accuracy": after.best_accuracy, "updated_at": now()}
                change = searches.update().where(searches.c.id == row["id"])
                connection.execute(change.values(kept | {"events": run.events + len(new)}))

    def end_search(self, id: str, state: SearchState) -> SearchRun:
        """Say that a search is done, failed or interrupted, and return it."""
        if state == "running":
            raise InvalidSpec("a search ends as done, failed or interrupted; put it to let it run again")
        with writing(self.engine) as connection:
            row = _get(connection, id)
            run = replace(_run_of(row), state=state, updated_at=now())
            change = searches.update().where(searches.c.id == row["id"])
            connection.execute(change.values(state=run.state, updated_at=run.updated_at))
            return run

    def get_search(self, id: str) -> SearchRun:
        """Return a search as it is now; raise LatencyNotFound, which names the newest ones."""
        with reading(self.engine) as connection:
            return _run_of(_get(connection, id))

    def list_searches(self, limit: int = 50, before: str | None = None) -> list[SearchRun]:
        """Return searches, newest first; those that came before the one of an id, where one is named."""
        statement = _SEARCH.order_by(searches.c.id.desc()).limit(limit)
        with reading(self.engine) as connection:
            if before is not None:
                statement = statement.where(searches.c.id < _get(connection, before)["id"])
            return [_run_of(row) for row in connection.execute(statement).mappings()]

    def search_events(self, id: str, after: int = -1, limit: int = MOST_EVENTS) -> list[SearchEvent]:
        """Return at most `limit` (1 to 1000) events after a number, in order."""
        if not 1 <= limit <= MOST_EVENTS:
            raise InvalidSpec(f"read 1 to {MOST_EVENTS} events at once, not {limit}")
        with reading(self.engine) as connection:
            search_id = _get(connection, id)["id"]
            which = (search_events.c.search_id == search_id, search_events.c.number > after)
            rows = connection.execute(
                sa.select(search_events).where(*which).order_by(search_events.c.number).limit(limit)
            )
            return [_event_of(row) for row in rows.mappings()]


def _find(connection: sa.Connection, key: str) -> sa.RowMapping | None:
    if not storable(key):
        return None
    return connection.execute(_SEARCH.where(searches.c.key == key)).mappings().one_or_none()


def _get(connection: sa.Connection, key: str) -> sa.RowMapping:
    """Return a search's row; raise LatencyNotFound."""
    row = _find(connection, key)
    if row is not None:
        return row
    newest = sa.select(searches.c.key, searches.c.name).order_by(searches.c.id.desc()).limit(NAMED)
    known = ", ".join(f"{one.key} ({one.name})" for one in connection.execute(newest))
    raise LatencyNotFound(f"no search {key!r}; " + (f"the newest are {known}" if known else "there is none yet"))


def _check_size(what: str, content: Any) -> None:
    size = len(canonical(dict(content)))
    if size > LARGEST_CONTENT:
        raise InvalidSpec(f"{what} has {size:,} characters of JSON; at most {LARGEST_CONTENT:,} are stored")


def _check_same(stored: SearchRun, run: SearchRun) -> None:
    """Raise Conflict for a search that is another than the one of its id."""
    if (stored.target, stored.target_ms) != (run.target, run.target_ms):
        raise Conflict(
            f"search {run.id} is for {stored.target_ms:g} ms on {stored.target}, not for {run.target_ms:g} ms on "
            f"{run.target}: give the new one an id of its own"
        )


def _check_numbers(run: SearchRun, events: Sequence[SearchEvent]) -> None:
    """Raise InvalidSpec unless the numbers follow each other, and what is stored."""
    expected = min(run.events, events[0].number) if events else 0
    for event in events:
        if event.number != expected:
            raise InvalidSpec(
                f"search {run.id} has {run.events} events: go on with number {run.events}, without a gap; "
                f"{event.number} came where {expected} was expected"
            )
        expected += 1


def _check_known(connection: sa.Connection, search_id: int, events: Sequence[SearchEvent]) -> None:
    """Raise Conflict where an event that is stored already comes with another kind or content."""
    if not events:
        return
    within = search_events.c.number.between(events[0].number, events[-1].number)
    rows = connection.execute(sa.select(search_events).where(search_events.c.search_id == search_id, within))
    stored = {row["number"]: row for row in rows.mappings()}
    for event in events:
        row = stored[event.number]
        if (row["kind"], row["content"]) != (event.kind, event.content):
            raise Conflict(
                f"event {event.number} is stored with other content ({row['kind']}): what happened is not changed; "
                "a search that begins anew has an id of its own"
            )


def _event_row(search_id: int, event: SearchEvent) -> dict[str, Any]:
    content = dict(event.content)
    return {"search_id": search_id, "number": event.number, "kind": event.kind, "content": content, "at": event.at}


def _event_of(row: sa.RowMapping) -> SearchEvent:
    return SearchEvent(row["number"], row["kind"], row["content"], row["at"])


def _run_of(row: sa.RowMapping) -> SearchRun:
    names = (
        "name",
        "state",
        "target_ms",
        "about",
        "created_at",
        "updated_at",
        "events",
        "stage",
        "share",
        "best_accuracy",
    )
    return SearchRun(id=row["key"], target=target_of(row), **{name: row[name] for name in names})
