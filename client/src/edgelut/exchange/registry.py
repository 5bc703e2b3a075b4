"""The folder is the registry: `exchange/formats/nn_meter.py` is the format `nn-meter`.

Formats outside this tree join by the entry points `edgelut.exchange`, each `name = "module"`. Listing imports nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from inspect import isabstract
from pathlib import Path
from typing import Any

from edgelut.errors import BackendMissing

from .base import Format

GROUP = "edgelut.exchange"


def names() -> list[str]:
    """List the formats, importing none of them."""
    return sorted(_modules())


@cache
def load(name: str) -> Format:
    """Return the format of that name; raise BackendMissing, which lists the formats or gives the install line."""
    modules = _modules()
    if name not in modules:
        raise BackendMissing(f"no format {name!r}; there are {', '.join(sorted(modules))}")
    try:
        module: Any = import_module(modules[name])
    except ImportError as error:
        raise BackendMissing(
            f"format {name!r} ({modules[name]}) needs {error.name or error}: install it first"
        ) from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Format)
        and not isabstract(value)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise BackendMissing(f"{module.__name__} must hold one Format, not {len(found)}")
    made: Format = found[0]()
    return made


def _modules() -> dict[str, str]:
    """Map names to modules: the files of the folder, then entry points."""
    folder = Path(__file__).parent / "formats"
    package = f"{__package__}.formats"
    own = {file.stem.replace("_", "-"): f"{package}.{file.stem}" for file in folder.glob("[a-z]*.py")}
    return {**{point.name: point.value for point in entry_points(group=GROUP)}, **own}


__all__ = ["GROUP", "load", "names"]
