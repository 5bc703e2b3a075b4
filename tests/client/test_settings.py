"""Where data lies, as the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelut import settings

NAMES = ("EDGELUT_HOME", "EDGELUT_DATABASE_URL", "EDGELUT_URL", "XDG_DATA_HOME")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_home_is_named_or_lies_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.home() == tmp_path / ".local" / "share" / "edgelut"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert settings.home() == Path("/data/edgelut")
    monkeypatch.setenv("EDGELUT_HOME", "~/mine")
    assert settings.home() == tmp_path / "mine"
    monkeypatch.setenv("EDGELUT_HOME", "mine")
    assert settings.home() == Path.cwd() / "mine"


def test_asking_for_the_home_makes_nothing(tmp_path: Path) -> None:
    settings.home()
    assert list(tmp_path.iterdir()) == []


def test_the_database_is_named_or_lies_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELUT_HOME", "/h")
    assert settings.database_url() == "sqlite:////h/edgelut.db"
    assert settings.database_url(Path("/other")) == "sqlite:////other/edgelut.db"
    monkeypatch.setenv("EDGELUT_DATABASE_URL", "postgresql://db/x")
    assert settings.database_url(Path("/other")) == "postgresql://db/x"


def test_a_table_is_read_from_the_service_where_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELUT_HOME", "/h")
    assert settings.default_source() == "sqlite:////h/edgelut.db"
    monkeypatch.setenv("EDGELUT_URL", "http://lut:8321")
    assert settings.default_source() == "http://lut:8321"


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_is_none(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(name, "")
    assert settings.default_source() == f"sqlite:///{tmp_path}/.local/share/edgelut/edgelut.db"
