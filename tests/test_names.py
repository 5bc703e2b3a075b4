"""Top-level names such as `db` are safe only where each comes from this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgelut.errors import BackendMissing
from profiler import origin

ROOT = Path(__file__).resolve().parent.parent
PLACES = {name: ROOT / name for name in ("api", "backends", "dashboard", "db", "migrations", "profiler", "supernet")}
PLACES["edgelut"] = ROOT / "client" / "src" / "edgelut"


@pytest.mark.parametrize("name", PLACES)
def test_a_top_level_package_comes_from_this_repository(name: str) -> None:
    found = find_spec(name)
    if found is None and name == "migrations":
        pytest.skip("migrations are read from their folder and never imported")
    assert found is not None and found.submodule_search_locations is not None
    assert {Path(place).resolve() for place in found.submodule_search_locations} == {PLACES[name]}


def test_the_check_at_start_looks_at_every_package_of_the_service() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "migrations"}
    assert set(origin.PACKAGES) <= packages
    assert {"api", "backends", "db", "profiler", "supernet"} <= set(origin.PACKAGES)
    origin.require_own_packages()


def test_the_service_cannot_be_uploaded_by_mistake() -> None:
    assert "Private :: Do Not Upload" in (metadata("edgelut-service").get_all("Classifier") or [])
    assert not metadata("edgelut").get_all("Classifier")


def run(place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "edgelut"), *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(place), "EDGELUT_HOME": str(place / "home")},
        check=False,
    )


def foreign(place: Path, name: str, **modules: str) -> Path:
    """Make a package of that name that is not ours."""
    (place / name).mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (place / name / f"{module}.py").write_text(text)
    return place / name


CLI = "import typer\napp = typer.Typer()\n\n@app.command()\ndef foreign() -> None:\n    raise SystemExit('foreign code ran')\n"


@pytest.mark.parametrize(
    ("name", "modules"),
    [("db", {}), ("db", {"cli": CLI}), ("backends", {}), ("supernet", {}), ("api", {"cli": CLI}), ("profiler", {})],
    ids=["db", "db with a cli", "backends", "supernet", "api with a cli", "profiler"],
)
def test_a_foreign_package_is_named_at_start(name: str, modules: dict[str, str], tmp_path: Path) -> None:
    place = foreign(tmp_path, name, **modules)
    done = run(tmp_path, "backends")
    assert done.returncode == 6 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert f"'{name}'" in done.stderr and str(place) in done.stderr


def test_a_foreign_module_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgelut_no_such.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(origin, "PACKAGES", ("edgelut_no_such",))
    with pytest.raises(BackendMissing, match=r"'edgelut_no_such' is found in .*edgelut_no_such\.py"):
        origin.require_own_packages()
    monkeypatch.setattr(origin, "PACKAGES", ("edgelut_none_at_all",))
    with pytest.raises(BackendMissing, match="not found"):
        origin.require_own_packages()


def test_the_check_imports_nothing() -> None:
    code = "import sys; from profiler.origin import require_own_packages; require_own_packages(); "
    code += "print(*sorted({'torch', 'sqlalchemy', 'fastapi', 'db', 'api', 'backends', 'supernet'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_client_does_not_know_the_service() -> None:
    assert import_module("edgelut").__name__ == "edgelut"
    code = (
        "import sys, edgelut, edgelut.cli; print(*({'api', 'backends', 'db', 'profiler', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
