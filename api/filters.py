"""Query parameters of a list: each stated once, for the code that reads it and for the OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .bodies import LARGE
from .parameters import pairs, text_of, whole_of
from .problems import Problem


@dataclass(frozen=True, slots=True)
class Filter:
    """One query parameter."""

    name: str
    about: str
    schema: dict[str, Any]
    parse: Callable[[str], Any]
    example: Any = None
    default: Any = None
    needed: bool = False

    def described(self) -> dict[str, Any]:
        """Return its description."""
        described: dict[str, Any] = {"name": self.name, "in": "query", "description": self.about, "schema": self.schema}
        if self.needed:
            described["required"] = True
        return described if self.example is None else {**described, "example": self.example}


def read_filters(raw: bytes, filters: Sequence[Filter]) -> dict[str, Any]:
    """Return the value of each filter by name; raise the 422 problem for an unknown or repeated name and a bad value."""
    known = {one.name: one for one in filters}
    found: dict[str, Any] = {}
    for name, text in pairs(raw):
        if name not in known:
            detail = f"there is no query parameter {name[:40]!r}; there are {', '.join(known)}"
            raise Problem("invalid", detail, members={"known": list(known)})
        if name in found:
            raise Problem("invalid", f"{name} is given twice; give it once")
        found[name] = known[name].parse(text)
    for one in filters:
        if one.needed and one.name not in found:
            raise Problem("invalid", f"give {one.name}: {one.about[0].lower()}{one.about[1:]}")
    return {one.name: found.get(one.name, one.default) for one in filters}


def one_of(name: str, about: str, values: Sequence[str], default: str | None = None) -> Filter:
    """Return a filter that takes one of some words."""

    def parse(text: str) -> str:
        if text not in values:
            detail = f"{name} must be one of {', '.join(values)}, not {text[:40]!r}"
            raise Problem("invalid", detail, members={"known": list(values)})
        return text

    schema = {"type": "string", "enum": list(values)} | ({} if default is None else {"default": default})
    return Filter(name, about, schema, parse, default=default)


def word(name: str, about: str, example: str) -> Filter:
    """Return a filter that takes 1 to 200 printable characters."""
    schema = {"type": "string", "minLength": 1, "maxLength": 200}
    return Filter(name, about, schema, lambda text: text_of(name, text), example)


def whole(name: str, about: str, *, default: int, most: int = LARGE, least: int = 1) -> Filter:
    """Return a filter that takes a whole number."""
    schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return Filter(name, about, schema, lambda text: whole_of(name, text, most, least), default=default)


def limit(most: int, default: int) -> Filter:
    """Return the filter that says how many a page has."""
    return whole("limit", "How many a page has", default=default, most=most)


def cursor(about: str = "The previous page's next_cursor") -> Filter:
    """Return the filter that asks for the next page."""
    return Filter("cursor", about, {"type": "string", "minLength": 1, "maxLength": 200}, lambda t: text_of("cursor", t))


def numbers(name: str, about: str, most: int) -> Filter:
    """Return a filter that takes whole numbers from 0 with commas between them, and cannot be left out."""

    def parse(text: str) -> list[int]:
        parts = text.split(",")
        if len(parts) > most:
            raise Problem("invalid", f"{name} may have {most} numbers at once, not {len(parts)}")
        return [whole_of(name, part, LARGE, 0) for part in parts]

    schema = {"type": "string", "pattern": r"^[0-9]{1,18}(,[0-9]{1,18})*$", "minLength": 1, "maxLength": 2000}
    return Filter(name, about, schema, parse, example="0,1,2", needed=True)


__all__ = ["Filter", "cursor", "limit", "numbers", "one_of", "read_filters", "whole", "whole_of", "word"]
