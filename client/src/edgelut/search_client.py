"""Searches over REST: what `HttpTable` has of them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from .rest import Connection
from .searches import MOST_EVENTS, SearchEvent, SearchRun, SearchState

PAGE = 100  # searches in a request; the service gives no more


class HttpSearches:
    """A `SearchLog` behind a service's connection."""

    _connection: Connection

    def put_search(self, run: SearchRun) -> SearchRun:
        """Store a search, or change the name, state and `about` of the one of that id; return it as it is stored.

        Raises Conflict where that id is a search for another target.
        """
        names = ("name", "target", "target_ms", "state", "about", "created_at")
        body = {name: getattr(run, name) for name in names}
        return self._connection.call(SearchRun, "PUT", _path(run.id), body=body)

    def add_search_events(self, id: str, events: Sequence[SearchEvent]) -> None:
        """Store at most 1000 events, all or none, whose numbers go on without a gap where those that are stored end.

        Events that are stored already may come again, and change nothing. Raises Conflict where one of them has other content
        than before, InvalidSpec for a gap, which says the number to go on with.
        """
        self._connection.call(SearchRun, "POST", _path(id, "/events"), body={"events": list(events)})

    def end_search(self, id: str, state: SearchState) -> SearchRun:
        """Say that a search is done, failed or interrupted, and return it."""
        return self._connection.call(SearchRun, "POST", _path(id, "/end"), body={"state": state})

    def get_search(self, id: str) -> SearchRun:
        """Return a search as it is now; raise LatencyNotFound, which names the newest ones."""
        return self._connection.call(SearchRun, "GET", _path(id))

    def list_searches(self, limit: int = 50, before: str | None = None) -> list[SearchRun]:
        """Return searches, newest first; those that came before the one of an id, where one is named."""
        found: list[SearchRun] = []
        while len(found) < limit:
            asked: dict[str, str | int] = {"limit": min(limit - len(found), PAGE)}
            asked |= {} if before is None else {"cursor": before}
            page = self._connection.call(_Searches, "GET", "/searches", params=asked)
            found += page.searches
            before = page.next_cursor
            if before is None:
                break
        return found

    def search_events(self, id: str, after: int = -1, limit: int = MOST_EVENTS) -> list[SearchEvent]:
        """Return at most `limit` (1 to 1000) events after a number, in order."""
        asked = {"limit": limit} | ({} if after < 0 else {"after": after})
        return self._connection.call(_Events, "GET", _path(id, "/events"), params=asked).events


class _Searches(msgspec.Struct, frozen=True):
    searches: list[SearchRun]
    next_cursor: str | None = None


class _Events(msgspec.Struct, frozen=True):
    events: list[SearchEvent]


def _path(id: str, rest: str = "") -> str:
    return f"/searches/{quote(id, safe='')}{rest}"


__all__ = ["HttpSearches"]
