"""A YAML document whose values know their lines: every complaint names file, line and field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgelut.errors import BackendMissing, InvalidSpec

if TYPE_CHECKING:
    from yaml import Node

LARGEST_BYTES = 1 << 20  # of a configuration: more is another file
SHOWN = 40  # characters of a wrong value in an error


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document: `data` is None, a str, int, float, bool, a list of values, or a dict of names to values."""

    data: Any
    file: str
    line: int
    path: str = ""  # job.widths

    def wrong(self, what: str) -> NoReturn:
        """Raise InvalidSpec that says where and what."""
        at = f"{self.path}: " if self.path else ""
        raise InvalidSpec(f"{self.file}, line {self.line}: {at}{what}")

    def _expected(self, what: str) -> NoReturn:
        self.wrong(f"{what} is wanted here, not {_shown(self.data)}")

    def fields(self, allowed: Iterable[str]) -> dict[str, Value]:
        """Return a mapping's values by name, those that are left empty left out; unknown names are refused with what there is."""
        if not isinstance(self.data, dict):
            self._expected(f"a mapping with {', '.join(allowed)}")
        names = list(allowed)
        found = {}
        for name, value in self.data.items():
            if name not in names:
                near = get_close_matches(name, names, 1)
                hint = f"is it {near[0]!r}? " if near else ""
                value.wrong(f"there is no such field; {hint}There are {', '.join(names)}".replace("? There", "? there"))
            if value.data is not None:
                found[name] = value
        return found

    def items(self) -> dict[str, Value]:
        """Return a mapping's values by any names."""
        if not isinstance(self.data, dict):
            self._expected("a mapping of names to values")
        return dict(self.data)

    def many(self) -> Sequence[Value]:
        """Return a list's values; one value alone is a list of one."""
        return self.data if isinstance(self.data, list) else [self]

    def text(self) -> str:
        """Return a text; a bare `on`, `no` or number is another thing in YAML, and refused with what to type."""
        if isinstance(self.data, str) and self.data.strip():
            return self.data
        if isinstance(self.data, bool | int | float):
            self.wrong(f"a text is wanted here, and YAML reads {_shown(self.data)}: put it in quotation marks")
        self._expected("a text")

    def flag(self) -> bool:
        """Return a truth value."""
        if not isinstance(self.data, bool):
            self._expected("true or false")
        return self.data

    def whole(self) -> int:
        """Return a whole number."""
        if isinstance(self.data, bool) or not isinstance(self.data, int):
            self._expected("a whole number")
        return self.data

    def number(self) -> float:
        """Return a finite number."""
        if isinstance(self.data, bool) or not isinstance(self.data, int | float) or not math.isfinite(self.data):
            self._expected("a number")
        return float(self.data)

    def scalar(self) -> str | int | float:
        """Return a text or a number; true is 1."""
        if isinstance(self.data, str | int) or (isinstance(self.data, float) and math.isfinite(self.data)):
            return self.data
        self._expected("a text or a number")


def read(path: Path) -> Value:
    """Return a file as a value; raise InvalidSpec, or BackendMissing where there is no reader of YAML."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InvalidSpec(f"there is no {path}; 'edgelut ci init' writes one, --config names another") from None
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be read: {error.strerror}") from error
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Value:
    """Return YAML as a value; raise InvalidSpec with the line, or BackendMissing."""
    try:
        import yaml
    except ImportError as error:
        raise BackendMissing("'edgelut ci' reads YAML with pyyaml: pip install 'edgelut[ci]'") from error
    if len(content) > LARGEST_BYTES:
        raise InvalidSpec(f"{name} has {len(content)} bytes; a configuration has at most {LARGEST_BYTES}")
    try:
        node = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
        return _Reader(name).value(node, "")
    except UnicodeDecodeError:
        raise InvalidSpec(f"{name} is no UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidSpec(f"{name}, line {line}: this is no YAML: {_said(error)}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InvalidSpec(f"{name}: this is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise InvalidSpec(f"{name} is nested too deeply") from None


class _Reader:
    """Turns nodes into values. Aliases are refused: a few lines of them can stand for gigabytes."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen: set[int] = set()

    def value(self, node: Node | None, path: str) -> Value:
        import yaml

        if node is None:
            return Value(None, self._file, 1, path)
        place = Value(None, self._file, node.start_mark.line + 1, path)
        if id(node) in self._seen:
            place.wrong("aliases (*name) are not read here; write the value again")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return Value(self._mapping(node, place), self._file, place.line, path)
        if isinstance(node, yaml.SequenceNode):
            values = [self.value(item, f"{path}[{number}]") for number, item in enumerate(node.value)]
            return Value(values, self._file, place.line, path)
        return Value(self._scalar(node, place), self._file, place.line, path)

    def _mapping(self, node: Any, place: Value) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key, item in node.value:
            name = str(key.value) if isinstance(key.value, str) else ""
            at = Value(None, self._file, key.start_mark.line + 1, f"{place.path}.{name}".strip("."))
            if not name:
                at.wrong("a field's name must be a text")
            if name in found:
                at.wrong(f"it is here twice, first on line {found[name].line}")
            value = self.value(item, at.path)
            found[name] = Value(value.data, self._file, at.line, at.path)
        return found

    def _scalar(self, node: Any, place: Value) -> Any:
        import yaml

        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node)
        except yaml.MarkedYAMLError as error:
            place.wrong(f"{error.problem}")
        except ValueError as error:  # such as the date 2026-13-45
            place.wrong(f"{_shown(node.value)} cannot be read: {error}")
        finally:
            loader.dispose()


def _said(error: Any) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


def _shown(data: Any) -> str:
    if data is None:
        return "nothing"
    if isinstance(data, list | dict):
        return "a list" if isinstance(data, list) else "a mapping"
    text = repr(data).replace("True", "true").replace("False", "false")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
