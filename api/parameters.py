"""A query string as a `Query`: every name and value checked, and each refusal says what would be accepted."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from edgelut.query import Query
from edgelut.types import Params

from .bodies import SMALL, Value
from .problems import Problem

NAMES = ("block", "device", "runtime", "precision", "unit")
ROWS = ("kind", "measure", "require_unit")  # what is asked of a row itself
NUMBERS = ("width", "width_out", "resolution", "batch", "threads")
MOST_ROWS = 1000
PARAM = "param."
ACCEPTED = (*NAMES, *NUMBERS, *ROWS, "limit", "cursor", f"{PARAM}<name>")
_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_LONGEST = {"cursor": 4000, "like": 1000}  # a name may have 200 characters, and a cursor holds one in base64


def parse_query(raw: bytes) -> Query:
    """Return what a query string asks; raise the 422 problem for an unknown or repeated name and a malformed value."""
    given: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for name, text in pairs(raw):
        if name in given or name in params:
            raise Problem("invalid", f"{name} is given twice; give it once")
        if name.startswith(PARAM) and len(name) > len(PARAM):
            params[name] = _value(name, text)
        else:
            given[name] = _checked(name, text)
    return Query(**given, params=Params({name[len(PARAM) :]: value for name, value in params.items()}))


def pairs(raw: bytes) -> list[tuple[str, str]]:
    """Return the names and texts of a query string; raise the 422 problem where it cannot be read."""
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:  # UnicodeDecodeError and too many fields alike
        raise Problem("invalid", "the query string is not UTF-8 in percent signs, or has more than 50 names") from None


def _checked(name: str, text: str) -> str | int:
    if name in NAMES or name in ROWS or name == "cursor":
        return text_of(name, text)
    if name in NUMBERS:
        return whole_of(name, text, SMALL)
    if name == "limit":
        return whole_of(name, text, MOST_ROWS)
    detail = f"there is no query parameter {_short(name)!r}; there are {', '.join(ACCEPTED)}"
    raise Problem("invalid", detail, members={"known": list(ACCEPTED)})


def whole_of(name: str, text: str, most: int, least: int = 1) -> int:
    """Return a whole number within bounds, or raise the 422 problem that names them."""
    number = int(text) if _WHOLE.fullmatch(text) else -1
    if not least <= number <= most:
        raise Problem("invalid", f"{name} must be a whole number from {least} to {most}, not {_short(text)!r}")
    return number


def text_of(name: str, text: str) -> str:
    """Return a text of 1 to 200 printable characters (a cursor of GET /latency may have more), or raise the 422 problem."""
    longest = _LONGEST.get(name, 200)
    if not text or len(text) > longest or not text.isprintable():
        raise Problem("invalid", f"{name} must be 1 to {longest} printable characters, not {_short(text)!r}")
    return text


def _value(name: str, text: str) -> str | int | float:
    """Return a block parameter: JSON where it is a number or a quoted text, else the text as it stands."""
    try:
        value: str | int | float = msgspec.json.decode(text, type=Value)
    except msgspec.ValidationError as error:
        if text in ("true", "false", "null") or text[:1] in "[{":
            return text_of(name, text)
        raise Problem("invalid", f"{name} must be a text or a number: {error}") from None
    except msgspec.DecodeError:
        return text_of(name, text)
    return value if not isinstance(value, str) else text_of(name, value)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
