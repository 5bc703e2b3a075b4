from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgelut import snapshot, sources
from edgelut.errors import BackendMissing, InvalidSpec, SnapshotCorrupted
from edgelut.http import HttpTable
from edgelut.snapshot import Snapshot
from edgelut.sources import open_source
from edgelut.table import MemoryTable
from edgelut.testing import make_entry


def a_table(location: str) -> MemoryTable:
    """A plug-in of this test."""
    assert location.lower().startswith("memory")
    return MemoryTable([make_entry()])


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three plug-ins: one that works, one whose module is missing, one that returns no table."""
    here = f"{__name__}:a_table"
    found = {"memory": here, "missing": "no_such_module:open", "odd": "builtins:str"}
    points = {name: EntryPoint(name, value, sources.GROUP) for name, value in found.items()}
    monkeypatch.setattr(sources, "_plugins", lambda: points)


def test_a_services_address_opens_a_table_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELUT_TOKEN", "from-the-environment")
    for location in ("http://127.0.0.1:8321", "https://host/edgelut/", "HTTP://host"):
        opened = open_source(location)
        assert isinstance(opened, HttpTable)
        assert opened._connection._client.headers["authorization"] == "Bearer from-the-environment"
        opened.close()
    given = open_source("http://host", token="given")
    assert isinstance(given, HttpTable)
    assert given._connection._client.headers["authorization"] == "Bearer given"
    given.close()


@pytest.mark.parametrize("name", ["table.json", "table.json.gz"])
def test_a_path_opens_a_snapshot(tmp_path: Path, name: str) -> None:
    snapshot.write(tmp_path / name, [make_entry()])
    assert isinstance(open_source(str(tmp_path / name)), Snapshot)


def test_a_damaged_snapshot_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SnapshotCorrupted):
        open_source(str(tmp_path / "x.json"))


@pytest.mark.parametrize("location", ["memory://here", "MEMORY://here", "memory+driver://here"])
def test_any_other_scheme_is_opened_by_its_plug_in(location: str) -> None:
    assert isinstance(open_source(location), MemoryTable)


def test_an_unknown_scheme_lists_what_can_be_opened_and_repeats_no_password() -> None:
    with pytest.raises(InvalidSpec, match=r"http://.*https://.*memory://.*snapshot") as caught:
        open_source("mysql://me:pass@host/x")
    assert "pass" not in str(caught.value)
    with pytest.raises(InvalidSpec, match="edgelut-service"):
        open_source("sqlite:///x.db")


@pytest.mark.parametrize("location", ["table.db", "", "C:\\table.csv", "table"])
def test_what_is_no_location_lists_what_can_be_opened(location: str) -> None:
    with pytest.raises(InvalidSpec, match=r"memory://"):
        open_source(location)


def test_a_plug_in_that_cannot_be_imported_or_is_none_is_named() -> None:
    with pytest.raises(BackendMissing, match="no_such_module"):
        open_source("missing://x")
    with pytest.raises(BackendMissing, match="returned a str"):
        open_source("odd://x")
