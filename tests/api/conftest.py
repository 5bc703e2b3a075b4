"""Fixtures of the service's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from db.store import SqlStore
from tests.api.support import OTHER, entry, new_client, new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store."""
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def filled(store: SqlStore) -> SqlStore:
    """A store with MB3D at three widths on one target and one of them on another."""
    rows = [entry(208), entry(224, ms=1.5), entry(224, 14, doubts=("noisy",)), entry(240, kind="interpolated")]
    store.put_many([*rows, entry(224, target=OTHER)])
    return store


@pytest.fixture
def client(filled: SqlStore) -> Iterator[httpx.Client]:
    """A client of a service over the filled store."""
    with new_client(filled) as opened:
        yield opened


@pytest.fixture
def empty_client(store: SqlStore) -> Iterator[httpx.Client]:
    """A client of a service over the empty store."""
    with new_client(store) as opened:
        yield opened
