"""The one way to open a table by where it is: a service's URL, a snapshot file, or a database that a plug-in opens."""

from __future__ import annotations

import os
import re
from importlib.metadata import EntryPoint, entry_points

from .errors import BackendMissing, InvalidSpec
from .table import LatencySource

GROUP = "edgelut.sources"
# postgresql+psycopg:// is postgresql's; the C:\ of a Windows path is no scheme
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]+)(?:\+[A-Za-z0-9_]+)?:/")


def open_source(location: str, *, token: str | None = None) -> LatencySource:
    """Return the table at a location: http(s)://host, a path ending .json or .json.gz, or what a plug-in opens.

    `token` is for a service; without it EDGELUT_TOKEN of the environment is taken. Plug-ins are entry points of the
    group `edgelut.sources`, named by scheme, each a function of the location. Raises InvalidSpec, which lists what can
    be opened.
    """
    matched = _SCHEME.match(location)
    scheme = matched.group(1).lower() if matched else ""
    if scheme in ("http", "https"):
        from .http import HttpTable

        return HttpTable(location, token if token is not None else os.environ.get("EDGELUT_TOKEN") or None)
    if scheme:
        return _plugged(scheme, location)
    if location.endswith((".json", ".json.gz")):
        from .snapshot import Snapshot

        return Snapshot(location)
    raise InvalidSpec(f"{location!r} is not a place to read latencies from; {_openable()}")


def _plugged(scheme: str, location: str) -> LatencySource:
    """Return what the plug-in of that scheme opens. The location is in no message: it may hold a password."""
    found = _plugins().get(scheme)
    if found is None:
        hint = "; pip install edgelut-service opens databases" if scheme in ("sqlite", "postgresql", "postgres") else ""
        raise InvalidSpec(f"nothing here opens {scheme}://; {_openable()}{hint}")
    try:
        opened = found.load()
    except ImportError as error:
        raise BackendMissing(f"the plug-in for {scheme}:// ({found.value}) cannot be imported: {error}") from error
    source = opened(location)
    if not isinstance(source, LatencySource):
        raise BackendMissing(
            f"the plug-in for {scheme}:// ({found.value}) returned a {type(source).__name__}, not a table"
        )
    return source


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _openable() -> str:
    schemes = ["http", "https", *sorted(_plugins())]
    return f"give {', '.join(f'{scheme}://…' for scheme in schemes)}, or the path of a snapshot (.json or .json.gz)"
