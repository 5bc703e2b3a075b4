"""Whether the service's packages are its own: `db` and `api` are names that a foreign package may have too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgelut.errors import BackendMissing

PACKAGES = ("api", "backends", "dashboard", "db", "emulator", "jobs", "profiler", "search", "supernet")


def require_own_packages() -> None:
    """Raise BackendMissing, which names the foreign one, unless all packages lie beside this one; imports none of them."""
    root = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        places = _places(name)
        if places != [root / name]:
            found = f"found in {', '.join(map(str, places))}" if places else "not found"
            raise BackendMissing(
                f"the package {name!r} is {found}, not in {root / name}: "
                "take the foreign one off PYTHONPATH, or install edgelut-service in an environment of its own"
            )


def _places(name: str) -> list[Path]:
    """Return where a package would be imported from; a lone module counts by its file."""
    found = find_spec(name)
    if found is None:
        return []
    inside = found.submodule_search_locations
    return [Path(place).resolve() for place in (inside if inside is not None else [found.origin or "nowhere"])]
