"""What a search is, what its events tell, and a service as the place that it is written to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.settings import Settings
from api.testing import InProcess
from edgelut import wire
from edgelut.errors import InvalidSpec
from edgelut.http import HttpTable
from edgelut.searches import SearchEvent, SearchRun, told
from edgelut.testing_searches import AT, SearchLogContract, make_event, make_search
from tests.api.support import new_store

TOKEN = "s3cret-token"


class TestHttpSearches(SearchLogContract):
    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[HttpTable]:
        with new_store(tmp_path) as store:
            app = create_app(store, Settings(token=TOKEN))
            with HttpTable("http://service/", TOKEN, transport=InProcess(app)) as table:
                yield table

    def test_a_long_list_is_asked_in_pages(self, log: HttpTable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edgelut.search_client.PAGE", 2)
        for number in range(5):
            log.put_search(make_search(f"s{number}"))
        assert [search.id for search in log.list_searches()] == ["s4", "s3", "s2", "s1", "s0"]
        assert [search.id for search in log.list_searches(limit=3, before="s4")] == ["s3", "s2", "s1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "a/b"},
        {"id": "x" * 101},
        {"name": "a\nb"},
        {"name": ""},
        {"state": "over"},
        {"target_ms": 0.0},
        {"target_ms": float("nan")},
        {"about": {"at": AT}},
        {"about": {1: 2}},
        {"about": [1]},
        {"about": {"n": 2**63}},
    ],
)
def test_a_search_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        make_search(**changes)


def test_an_event_that_cannot_be_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(20):
        deep = {"a": deep}
    for number, kind, content in ((-1, "stage", {}), (0, "end", {}), (0, "stage", deep), (0, "stage", {"x": object()})):
        with pytest.raises(InvalidSpec):
            SearchEvent(number, kind, content, AT)  # type: ignore[arg-type]


def test_a_search_and_an_event_are_the_same_after_json() -> None:
    event = make_event(0, "round", depths=(3, 2), loss=float("inf"), text="\ud83d", big=2**62, part=0.1)
    assert wire.decode(SearchEvent, wire.encode(event)) == event
    assert event.content == {"depths": [3, 2], "loss": None, "text": "\\ud83d", "big": 2**62, "part": 0.1}
    assert wire.decode(SearchRun, wire.encode(make_search())) == make_search()


def network(test: float | None = None, **changes: Any) -> dict[str, Any]:
    return {"predicted_ms": 4.9, "measured_ms": None, "valid_accuracy": 0.7, "test_accuracy": test, **changes}


@pytest.mark.parametrize(
    ("contents", "best"),
    [
        ([network()], 0.7),
        ([network(0.6), network(0.65), network(0.5)], 0.65),
        ([network(0.9, predicted_ms=5.2)], None),  # it does not meet the target
        ([network(0.9, measured_ms=5.2)], None),
        ([network(0.9, predicted_ms=5.2, measured_ms=5.05)], 0.9),
        ([{"method": "slimmed"}, {"predicted_ms": "4", "valid_accuracy": True}], None),
    ],
)
def test_the_best_accuracy_is_of_networks_that_meet_the_target(
    contents: list[dict[str, Any]], best: float | None
) -> None:
    events = [SearchEvent(number, "network", content, AT) for number, content in enumerate(contents)]
    assert told(make_search(), events).best_accuracy == best


def test_how_far_a_search_is_is_of_what_goes_on_now() -> None:
    run = told(make_search(), [make_event(0, "stage", text="training"), make_event(1, step=30, steps=120)])
    assert (run.stage, run.share) == ("training", 0.25)
    run = told(run, [make_event(2, "stage", text="slimming")])
    assert (run.stage, run.share) == ("slimming", None)
    assert told(run, [make_event(3, "round", latency_ms=9.0)]).share == 0.2
    assert told(run, [make_event(3, "round", latency_ms=4.0)]).share == 1.0
    assert told(replace(run, about={}), [make_event(3, "round", latency_ms=9.0)]).share is None
    assert told(run, [make_event(3, "epoch", of="x", step="1", steps=0)]).share is None
