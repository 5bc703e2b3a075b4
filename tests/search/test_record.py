"""What a search tells is kept in its folder and in its table's place, once, whatever is cut off or cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.engine import open_store
from db.store import SqlStore
from edgelut.errors import StorageError
from edgelut.searches import SearchEvent, SearchRun, SearchState
from edgelut.types import Target
from search.record import EVENTS, Recorder, read_events, search_id
from search.training import Step

TARGET = Target("host", "onnxruntime-cpu")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(f"sqlite:///{tmp_path / 'edgelut.db'}", migrate=True)
    yield opened
    opened.close()


def run_of(folder: Path) -> SearchRun:
    return SearchRun(search_id(folder), "tiny", "running", TARGET, 0.5, {"full_ms": 1.0}, NOW, NOW)


def test_events_are_kept_in_the_folder_and_in_the_table_s_place(store: SqlStore, tmp_path: Path) -> None:
    folder, said = tmp_path / "search", list[str]()
    recorder = Recorder(folder, run_of(folder), store, said.append)
    recorder.tell("stage", {"text": "slimming"})
    recorder.tell("epoch", {"of": "supernet", "step": 1, "loss": float("nan")})
    recorder.end("done")
    here, there = read_events(folder), store.search_events(search_id(folder))
    assert [(one.number, one.kind, one.content) for one in here] == [
        (one.number, one.kind, one.content) for one in there
    ]
    assert here[1].content["loss"] is None and not said
    assert store.get_search(search_id(folder)).state == "done"


def test_what_was_told_before_a_kill_is_not_told_twice(store: SqlStore, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    Recorder(folder, run_of(folder), store, print).tell("round", {"round": 0})
    with (folder / EVENTS).open("a") as file:
        file.write('{"number": 1, "kin')  # cut off
    again = Recorder(folder, run_of(folder), store, print)
    again.tell("round", {"round": 0})
    again.tell("round", {"round": 1})
    assert [one.content["round"] for one in store.search_events(search_id(folder))] == [0, 1]


class Away:
    """A place that cannot be reached at first."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.away = store, True

    def _reach(self) -> None:
        if self.away:
            raise StorageError("the service does not answer")

    def put_search(self, run: SearchRun) -> SearchRun:
        self._reach()
        return self.store.put_search(run)

    def add_search_events(self, id: str, events: list[SearchEvent]) -> None:
        self._reach()
        self.store.add_search_events(id, events)

    def end_search(self, id: str, state: SearchState) -> SearchRun:
        self._reach()
        return self.store.end_search(id, state)


def test_a_place_that_is_away_is_told_later_and_stops_no_search(store: SqlStore, tmp_path: Path) -> None:
    folder, said, away = tmp_path / "search", list[str](), Away(store)
    recorder = Recorder(folder, run_of(folder), away, said.append)  # type: ignore[arg-type]
    recorder.tell("stage", {"text": "one"})
    recorder.tell("stage", {"text": "two"})
    assert len(said) == 1 and "the service does not answer" in said[0]
    away.away = False
    recorder.tell("stage", {"text": "three"})
    assert [one.content["text"] for one in store.search_events(search_id(folder))] == ["one", "two", "three"]


def test_an_epoch_says_what_a_dashboard_plots() -> None:
    from search.record import step_content

    found = step_content("supernet", Step(10, 30, 1.0, 2.5, 0.25, 9.0, 3.0, 1e-3, 0.7))
    assert found["of"] == "supernet" and "seconds_left" not in found
    assert set(found) == {"of", "step", "steps", "epoch", "loss", "accuracy", "seconds", "lr", "tau"}
