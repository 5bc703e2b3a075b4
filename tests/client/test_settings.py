"""Settings come from the environment, with a place of their own where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelut import settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGELUT_HOME", "EDGELUT_DATABASE_URL", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_home_is_in_the_users_data_folder() -> None:
    assert settings.home() == Path.home() / ".local" / "share" / "edgelut"


def test_the_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert settings.home() == Path("/data/edgelut")
    monkeypatch.setenv("EDGELUT_HOME", "/own")
    assert settings.home() == Path("/own")
    assert settings.database_url() == "sqlite:////own/edgelut.db"


def test_a_database_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELUT_DATABASE_URL", "postgresql://host/name")
    assert settings.database_url() == "postgresql://host/name"
