"""Bytes of a file as keys and values: UTF-8, JSON and YAML read strictly, with the line or the key of what is wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from edgelut.errors import BackendMissing, InvalidSpec

from .base import shown

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK": "a zip archive or a workbook"}


def text_of(content: bytes) -> str:
    """Return UTF-8 text, with or without a byte order mark; raise InvalidSpec with the line that is not."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
        line = content.count(b"\n", 0, error.start) + 1
        hint = f"; it looks like {said}" if said else ""
        raise InvalidSpec(f"line {line}: byte {error.start} is no UTF-8 text{hint}: save the file as UTF-8") from None
    if "\0" in text:
        raise InvalidSpec(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: there is a NUL: this is no text")
    if not text.strip():
        raise InvalidSpec("line 1: the file is empty")
    return text


def number(place: str, value: object) -> float:
    """Return a finite number as a float; raise InvalidSpec with its place."""
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(found := float(value)):
                return found
        except OverflowError:
            pass
    raise InvalidSpec(f"{place}: {shown(value)} is no finite number")


def positive(place: str, value: object) -> float:
    """Return a finite number above zero; raise InvalidSpec with its place."""
    found = number(place, value)
    if found <= 0:
        raise InvalidSpec(f"{place}: a latency is above zero, not {shown(value)}; a row that is missing is left out")
    return found


def json_table(content: bytes) -> dict[str, Any]:
    """Return the object that a JSON file holds; raise InvalidSpec for another form, and for a key that is there twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InvalidSpec(f"key {shown(key)} is in the file twice: which one holds cannot be told")
            found[key] = value
        return found

    try:
        data = json.loads(text_of(content), object_pairs_hook=unique, parse_int=float)
    except json.JSONDecodeError as error:
        raise InvalidSpec(f"line {error.lineno}, column {error.colno}: this is no JSON: {error.msg}") from None
    except RecursionError:
        raise InvalidSpec("line 1: the JSON is nested too deeply: give one object of keys and numbers") from None
    if not isinstance(data, dict) or not data:
        raise InvalidSpec(f"line 1: the file must hold one object of keys and latencies, not {shown(data)}")
    return data


def yaml_table(content: bytes, fields: Mapping[str, str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the mapping of keys to mappings of exactly those fields that a YAML file holds: (place, texts) by key.

    Values stay text: what is a number is for the format to say. Raises InvalidSpec, or BackendMissing without pyyaml.
    """
    try:
        import yaml
    except ImportError as error:
        raise BackendMissing("this format is YAML, read with pyyaml: pip install 'edgelut[exchange]'") from error
    text = text_of(content)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidSpec(f"line {line}: this is no YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InvalidSpec(f"line 1: this is no YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InvalidSpec("line 1: the YAML is nested too deeply") from None
    if not text.endswith("\n"):  # a number that lost its last digits is a number
        raise InvalidSpec(f"line {text.count(chr(10)) + 1}: the last line has no end: was the file cut off?")
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for key, place, value in _pairs(node, "the file", "line 1"):
        if key in found:
            raise InvalidSpec(f"{place}: key {shown(key)} is in the file twice, first on {found[key][0]}")
        found[key] = (place, _fields(key, place, value, fields))
    return found


def _fields(key: str, place: str, node: Any, fields: Mapping[str, str]) -> dict[str, str]:
    """Return a row's fields as texts."""
    import yaml

    row: dict[str, str] = {}
    for name, at, value in _pairs(node, f"key {shown(key)}", place):
        if name not in fields or name in row:
            said = "is there twice" if name in row else f"is none of its fields: {', '.join(fields)}"
            raise InvalidSpec(f"{at}, key {shown(key)}: {shown(name)} {said}")
        if not isinstance(value, yaml.ScalarNode):
            raise InvalidSpec(f"{at}, key {shown(key)}: {name} must be a number")
        row[name] = value.value
    if missing := [name for name in fields if name not in row]:
        raise InvalidSpec(f"{place}, key {shown(key)}: {', '.join(missing)} is missing; was the file cut off?")
    return row


def _pairs(node: Any, what: str, place: str) -> list[tuple[str, str, Any]]:
    """Return a mapping node's keys with their places and values; raise InvalidSpec for any other node."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise InvalidSpec(f"{place}: {what} must be a mapping of keys to values")
    pairs = []
    for key, value in node.value:
        at = f"line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidSpec(f"{at}: a key must be a text")
        pairs.append((str(key.value), at, value))
    return pairs


__all__ = ["NUMBER", "json_table", "number", "positive", "text_of", "yaml_table"]
