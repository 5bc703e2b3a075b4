"""Searches in both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from db.engine import SqlStore
from edgelut.errors import InvalidSpec
from edgelut.searches import MOST_EVENTS
from edgelut.testing_searches import SearchLogContract, make_event, make_search


class TestSqlSearches(SearchLogContract):
    @pytest.fixture
    def log(self, store: SqlStore) -> SqlStore:
        return store


def test_what_was_put_is_there_for_another_holder(make_store: Callable[[], SqlStore]) -> None:
    mine, theirs = make_store(), make_store()
    put = mine.put_search(make_search())
    mine.add_search_events(put.id, [make_event(0)])
    assert theirs.search_events(put.id) == [make_event(0)]
    assert [replace(one, updated_at=put.updated_at) for one in theirs.list_searches()] == [
        replace(put, events=1, share=0.0)
    ]


def test_a_list_costs_one_statement_however_many_events_there_are(
    store: SqlStore, statements: list[tuple[str, object]]
) -> None:
    store.put_search(make_search())
    store.add_search_events("5f0c", [make_event(number) for number in range(MOST_EVENTS)])
    with pytest.raises(InvalidSpec, match="at most 1000 events"):
        store.add_search_events("5f0c", [make_event(number) for number in range(MOST_EVENTS + 1)])
    statements.clear()
    assert store.list_searches()[0].events == MOST_EVENTS
    assert len([one for one, _ in statements if one.startswith("SELECT")]) == 1
