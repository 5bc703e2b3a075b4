"""Moments that a table is looked at: now, a mark, a day or a time, as addresses hold them and as REST asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from edgelut.errors import InvalidSpec

MARK = "mark:"
NOW = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment: neither is now."""

    mark: str = ""
    at: datetime | None = None

    @property
    def is_now(self) -> bool:
        """Whether it is the table as it is."""
        return not self.mark and self.at is None

    def asked(self) -> dict[str, object]:
        """Return what POST /latency/batch is asked beside specs and target."""
        if self.mark:
            return {"mark": self.mark}
        return {} if self.at is None else {"at": self.at}


def parse(text: str) -> Moment:
    """Return the moment that an address names; a day is its end, a time without zone is UTC's. Raises InvalidSpec."""
    if text == NOW:
        return Moment()
    if text.startswith(MARK):
        return Moment(mark=text.removeprefix(MARK))
    try:
        if len(text) == 10:
            return Moment(at=datetime.combine(date.fromisoformat(text), time(23, 59, 59), UTC))
        found = datetime.fromisoformat(text)
        return Moment(at=found if found.tzinfo is not None else found.replace(tzinfo=UTC))
    except ValueError:
        raise InvalidSpec(f"{text[:40]!r} is no moment: write 2026-11-02, 2026-11-02T14:05, or mark:NAME") from None


def options(marks: Iterable[str], days: Iterable[str], chosen: str = "") -> dict[str, str]:
    """Return what a choice of moments shows, by what an address holds: now, marks, days from the newest on."""
    found = {NOW: "now", **{f"{MARK}{name}": f"mark {name}" for name in marks}}
    found |= {day: f"{day} (end of the day)" for day in sorted(set(days), reverse=True)}
    return found if chosen in found else found | {chosen: said(chosen)}


def said(text: str) -> str:
    """Return a moment in words."""
    if text == NOW:
        return "now"
    return f"mark {text.removeprefix(MARK)}" if text.startswith(MARK) else text


def day_of(text: str) -> str:
    """Return the day of an ISO 8601 time; empty for what is none."""
    return text[:10] if len(text) >= 10 and text[4:5] == text[7:8] == "-" else ""
