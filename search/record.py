"""What a search tells while it goes on: lines in its folder, and the same in the place of its table for others to watch."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgelut import wire
from edgelut.errors import EdgelutError
from edgelut.searches import EventKind, SearchEvent, SearchLog, SearchRun, SearchState

from .slimming import Round
from .training import Step

EVENTS, ID = "events.jsonl", "search.id"
PART = 500  # events in one request


class Recorder:
    """Writes events down. What was told before a kill is not told twice; a place that cannot be reached is told later."""

    def __init__(self, folder: Path, run: SearchRun, log: SearchLog | None, warn: Callable[[str], None]) -> None:
        self._path, self._run, self._log, self._warn = folder / EVENTS, run, log, warn
        self._events = read_events(folder)
        self._path.write_bytes(b"".join(wire.encode(event) + b"\n" for event in self._events))
        self._told = {_key(event.kind, event.content) for event in self._events}
        self._sent: int | None = None  # None: the place does not know the search yet
        self._warned = False
        self._send()

    def tell(self, kind: EventKind, content: Mapping[str, Any]) -> None:
        """Write an event down, unless it was told already."""
        event = SearchEvent(len(self._events), kind, content, datetime.now(UTC))
        if _key(kind, event.content) in self._told:
            return
        with self._path.open("ab") as file:
            file.write(wire.encode(event) + b"\n")
        self._events.append(event)
        self._told.add(_key(kind, event.content))
        self._send()

    def end(self, state: SearchState) -> None:
        """Say how the search ended."""
        self._run = replace(self._run, state=state)
        self._send()
        self._try(lambda log: log.end_search(self._run.id, state))

    def _send(self) -> None:
        """Send what has not been sent yet."""

        def send(log: SearchLog) -> None:
            if self._sent is None:
                self._sent = log.put_search(self._run).events
            while self._sent < len(self._events):
                part = self._events[self._sent : self._sent + PART]
                log.add_search_events(self._run.id, part)
                self._sent += len(part)

        self._try(send)

    def _try(self, what: Callable[[SearchLog], object]) -> None:
        if self._log is None:
            return
        try:
            what(self._log)
        except EdgelutError as error:
            if not self._warned:
                self._warn(f"the search goes on, but cannot be told to where its table is: {error}")
            self._warned = True


def read_events(folder: Path) -> list[SearchEvent]:
    """Return the events that a folder holds; a last line that a kill cut off is none."""
    path = folder / EVENTS
    found: list[SearchEvent] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            found.append(wire.decode(SearchEvent, line))
        except EdgelutError:
            break
    return found


def round_content(found: Round) -> dict[str, Any]:
    """Return what is told of a round."""
    actions = [
        {
            "kind": one.kind,
            "what": one.what,
            "latency_ms": one.latency_ms,
            "accuracy": one.accuracy,
            "drop": one.drop,
            "saving_ms": one.saving_ms,
            "score": one.score,
        }
        for one in found.actions
    ]
    return {
        "round": found.number,
        "latency_ms": found.latency_ms,
        "accuracy": found.accuracy,
        "depths": list(found.state.depths),
        "widths": list(found.state.widths),
        "mb3d": found.state.mb3d,
        "actions": actions,
        "chosen": found.chosen,
    }


def step_content(of: str, step: Step) -> dict[str, Any]:
    """Return what is told of a training's epoch."""
    return {"of": of, **{name: value for name, value in asdict(step).items() if name != "seconds_left"}}


def _key(kind: str, content: Mapping[str, Any]) -> str:
    return f"{kind} {json.dumps(content, sort_keys=True)}"


def search_id(folder: Path) -> str:
    """Return the id of the search in a folder, drawn when it is first asked for."""
    path = folder / ID
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(8) + "\n")
    return path.read_text().strip()
