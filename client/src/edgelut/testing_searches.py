"""The suite that every place for searches passes, for those written elsewhere too; needs pytest.

class TestMine(SearchLogContract):
    @pytest.fixture
    def log(self): return MyLog()
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from .errors import Conflict, InvalidSpec, LatencyNotFound
from .searches import LARGEST_CONTENT, MOST_EVENTS, EventKind, SearchEvent, SearchLog, SearchRun
from .testing import TARGET

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
ABOUT = {
    "preset": "small",
    "seed": 0,
    "full_ms": 10.0,
    "config": {"widths": [16, 32, 64, 128]},
    "why": "é\0",
    "none": None,
}


def make_search(id: str = "5f0c", **changes: Any) -> SearchRun:
    """Return a search for 5 ms that began just now."""
    return replace(SearchRun(id, "small on the phone", "running", TARGET, 5.0, ABOUT, AT, AT), **changes)


def make_event(number: int, kind: EventKind = "epoch", **content: Any) -> SearchEvent:
    """Return an event; of a training where nothing else is said."""
    told = content or {"of": "supernet", "step": number, "steps": 100, "loss": 0.1 + 0.2, "accuracy": None}
    return SearchEvent(number, kind, told, AT + timedelta(seconds=number))


class SearchLogContract:
    """What every SearchLog does. A subclass gives the fixture `log`: an empty one."""

    @pytest.fixture
    def log(self) -> SearchLog:
        """Return an empty place for searches."""
        raise NotImplementedError("a subclass of SearchLogContract gives the fixture log")

    def test_it_is_one(self, log: SearchLog) -> None:
        assert isinstance(log, SearchLog)

    def test_a_search_comes_back_as_it_was_put(self, log: SearchLog) -> None:
        zone = timezone(timedelta(hours=5, minutes=30))
        put = log.put_search(make_search(events=7, stage="x", best_accuracy=1.0, created_at=AT.astimezone(zone)))
        assert put == make_search(updated_at=put.updated_at) == log.get_search("5f0c")
        assert put.updated_at > AT and put.updated_at.utcoffset() == put.created_at.utcoffset() == timedelta(0)
        assert log.search_events("5f0c") == []

    def test_put_again_its_name_state_and_what_is_said_of_it_change_and_nothing_else(self, log: SearchLog) -> None:
        log.put_search(make_search())
        log.add_search_events("5f0c", [make_event(0, "stage", text="training")])
        later = make_search(name="b", state="interrupted", about={"x": [1]}, created_at=AT + timedelta(1))
        again = log.put_search(later)
        assert again == replace(later, created_at=AT, updated_at=again.updated_at, events=1, stage="training")
        with pytest.raises(Conflict, match="5 ms on phone"):
            log.put_search(make_search(target_ms=6.0))
        with pytest.raises(Conflict, match="an id of its own"):
            log.put_search(make_search(target=replace(TARGET, threads=2)))

    def test_events_come_back_exactly_and_a_page_at_a_time(self, log: SearchLog) -> None:
        log.put_search(make_search())
        put = [
            make_event(0, "stage", text="é\0\ud83d"),
            make_event(1, "epoch", loss=float("nan"), tau=1 / 3, step=4.0, seconds=2**53),
            make_event(2, "round", depths=(3, 2, 6, 4), actions=[{"what": "x", "drop": -0.0}], chosen=None),
            make_event(3, "network", config={"widths": [1, 2, 3, 4]}, ok=True),
        ]
        log.add_search_events("5f0c", put[:1])
        log.add_search_events("5f0c", put[1:])
        assert log.search_events("5f0c") == put and put[1].content["loss"] is None
        assert log.search_events("5f0c", after=0, limit=2) == put[1:3]
        assert log.search_events("5f0c", after=3) == []
        assert log.get_search("5f0c").events == 4
        with pytest.raises(InvalidSpec):
            log.search_events("5f0c", limit=MOST_EVENTS + 1)

    def test_events_that_come_again_change_nothing(self, log: SearchLog) -> None:
        log.put_search(make_search())
        put = [make_event(number) for number in range(4)]
        log.add_search_events("5f0c", put[:3])
        log.add_search_events("5f0c", put[1:])
        log.add_search_events("5f0c", [replace(put[2], at=AT + timedelta(1))])
        log.add_search_events("5f0c", [])
        assert log.search_events("5f0c") == put

    def test_all_or_no_events_are_added(self, log: SearchLog) -> None:
        log.put_search(make_search())
        log.add_search_events("5f0c", [make_event(0), make_event(1)])
        with pytest.raises(Conflict, match="event 1 is stored with other content"):
            log.add_search_events("5f0c", [make_event(1, step=7), make_event(2)])
        with pytest.raises(Conflict, match="event 1 is stored with other content"):
            log.add_search_events("5f0c", [replace(make_event(1), kind="stage")])
        for gap in ([make_event(3)], [make_event(2), make_event(4)], [make_event(1), make_event(1)]):
            with pytest.raises(InvalidSpec, match="go on with number 2, without a gap"):
                log.add_search_events("5f0c", gap)
        with pytest.raises(InvalidSpec, match=r"characters of JSON|too large|longer"):
            log.add_search_events("5f0c", [make_event(2, "stage", text="x" * LARGEST_CONTENT)])
        assert log.search_events("5f0c") == [make_event(0), make_event(1)]

    def test_a_search_ends_and_goes_on(self, log: SearchLog) -> None:
        log.put_search(make_search())
        assert log.end_search("5f0c", "failed").state == log.end_search("5f0c", "failed").state == "failed"
        with pytest.raises(InvalidSpec):
            log.end_search("5f0c", "running")
        log.put_search(make_search())
        log.add_search_events("5f0c", [make_event(0)])
        assert log.end_search("5f0c", "done") == log.get_search("5f0c")
        assert (log.get_search("5f0c").state, log.get_search("5f0c").events) == ("done", 1)

    def test_searches_are_listed_newest_first_a_page_at_a_time(self, log: SearchLog) -> None:
        assert log.list_searches() == []
        put = [log.put_search(make_search(f"s{number}")) for number in (3, 1, 2)]
        log.put_search(make_search("s3"))  # put again it is no newer
        listed = [search.id for search in log.list_searches()]
        assert listed == [search.id for search in reversed(put)] == ["s2", "s1", "s3"]
        assert [search.id for search in log.list_searches(limit=2)] == ["s2", "s1"]
        assert [search.id for search in log.list_searches(limit=2, before="s1")] == ["s3"]

    def test_one_that_is_not_there_is_an_error_that_names_the_newest(self, log: SearchLog) -> None:
        with pytest.raises(LatencyNotFound, match="no search '5f0c'; there is none yet"):
            log.get_search("5f0c")
        log.put_search(make_search("old"))
        log.put_search(make_search("new", name="b"))
        asked = (
            lambda: log.get_search("5f0c"),
            lambda: log.end_search("5f0c", "done"),
            lambda: log.search_events("5f0c"),
            lambda: log.add_search_events("5f0c", [make_event(0)]),
            lambda: log.list_searches(before="5f0c"),
        )
        for ask in asked:
            with pytest.raises(LatencyNotFound, match=r"the newest are new \(b\), old \(small on the phone\)"):
                ask()

    def test_what_events_tell_is_told_of_the_search(self, log: SearchLog) -> None:
        log.put_search(make_search())
        log.add_search_events("5f0c", [make_event(0, "stage", text="slimming"), make_event(1, "round", latency_ms=7.5)])
        assert (log.get_search("5f0c").stage, log.get_search("5f0c").share) == ("slimming", 0.5)
        found = {
            "method": "slimmed",
            "predicted_ms": 4.9,
            "measured_ms": 5.05,
            "valid_accuracy": 0.9,
            "test_accuracy": 0.85,
        }
        log.add_search_events("5f0c", [make_event(2, "network", **found), make_event(3)])
        assert (log.get_search("5f0c").share, log.get_search("5f0c").best_accuracy) == (0.03, 0.85)
