"""Where this machine keeps its data, as the environment says."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return the data folder: EDGELUT_HOME, else `edgelut` in XDG_DATA_HOME, else ~/.local/share/edgelut. It may not exist yet."""
    named = os.environ.get("EDGELUT_HOME")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "edgelut"


def database_url(folder: Path | None = None) -> str:
    """Return EDGELUT_DATABASE_URL, else the URL of the SQLite file `edgelut.db` in that folder (default: the data folder)."""
    return os.environ.get("EDGELUT_DATABASE_URL") or f"sqlite:///{(folder or home()) / 'edgelut.db'}"


def default_source() -> str:
    """Return where a table is read when nothing else is said: EDGELUT_URL (a service), else the local database."""
    return os.environ.get("EDGELUT_URL") or database_url()
