from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dashboard.moments import day_of, options, parse, said
from edgelut.errors import InvalidSpec


def test_a_moment_is_now_a_mark_a_day_or_a_time() -> None:
    assert parse("").is_now and parse("").asked() == {}
    assert parse("mark:v1").asked() == {"mark": "v1"} and said("mark:v1") == "mark v1"
    assert parse("2026-09-14").at == datetime(2026, 9, 14, 23, 59, 59, tzinfo=UTC)
    assert parse("2026-09-14T08:00").at == datetime(2026, 9, 14, 8, tzinfo=UTC)
    assert parse("2026-09-14T08:00+02:00").asked() == {"at": datetime(2026, 9, 14, 6, tzinfo=UTC)}


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-9-1", "14.09.2026"])
def test_what_is_no_moment_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InvalidSpec, match="mark:NAME"):
        parse(text)


def test_the_newest_day_is_offered_first_and_what_is_chosen_stays() -> None:
    offered = options(["v1"], ["2026-09-14", "2026-11-02"], "2026-10-01T10:00")
    assert list(offered) == ["", "mark:v1", "2026-11-02", "2026-09-14", "2026-10-01T10:00"]
    assert day_of("2026-09-14T09:30:00+00:00") == "2026-09-14" and day_of("x") == ""
