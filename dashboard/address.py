"""A page's address: its state as query parameters, read when it is opened and written as it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlencode

Value = str | int | None


class Address:
    """The state of one open page. `on_change` is told what changed (None: taken away); the order of names stays as they came."""

    def __init__(
        self,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        on_change: Callable[[dict[str, str | None]], object] | None = None,
    ) -> None:
        self.path = path
        self._values: dict[str, str] = {name: value for name, value in query if value}
        self._on_change = on_change

    def get(self, name: str, default: str = "") -> str:
        """Return a parameter, or the default."""
        return self._values.get(name, default)

    def number(self, name: str) -> int | None:
        """Return a parameter as a whole number; None where it is none."""
        text = self._values.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None

    def one_of(self, name: str, choices: Iterable[str], default: str = "") -> str:
        """Return a parameter that is one of the choices, else the default: an old link may name what is no more."""
        value = self._values.get(name, default)
        return value if value in set(choices) else default

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a switch: 1 or 0."""
        return {"1": True, "0": False}.get(self._values.get(name, ""), default)

    def set(self, **changes: Value) -> None:
        """Change parameters; None or an empty text takes one away."""
        changed: dict[str, str | None] = {}
        for name, value in changes.items():
            text = None if value in (None, "") else str(value)
            if self._values.get(name) == text:
                continue
            changed[name] = text
            if text is None:
                del self._values[name]
            else:
                self._values[name] = text
        if changed and self._on_change is not None:
            self._on_change(changed)

    def keep(self, **changes: Value) -> str:
        """Return what the address would be with other parameters; nothing changes."""
        other = Address(self.path, self._values.items())
        other.set(**changes)
        return str(other)

    def values(self) -> Mapping[str, str]:
        """Return the parameters."""
        return dict(self._values)

    def __str__(self) -> str:
        return link(self.path, **self._values)


def link(path: str, **params: Value) -> str:
    """Return a path with query parameters, those that are empty left out."""
    given = {name: value for name, value in params.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
