from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path

import pytest

from backends import registry, testing
from edgelut.errors import BackendMissing

HEAVY = ("torch", "onnx", "onnxruntime", "coremltools", "psutil", "backends.exporters.onnx", "backends.runtimes.null")
EXPORTER = """
from backends.exporters.null import Null

class {name}(Null):
    version = "{name}"
"""
numbers = count()
Join = Callable[[str], str]


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Join]:
    """A function that writes a module outside the tree, joins it by an entry point and returns the backend's name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])

    def write(source: str) -> str:
        number = next(numbers)
        (tmp_path / f"foreign_{number}.py").write_text(source)
        points.append(EntryPoint(f"foreign-{number}", f"foreign_{number}", "edgelut.exporters"))
        return f"foreign-{number}"

    yield write
    registry._load.cache_clear()
    registry._class.cache_clear()


def test_listing_imports_nothing() -> None:
    code = f"""
import sys
from backends import registry
names = {{axis: registry.names(axis) for axis in registry.AXES}}
assert "onnxruntime-cpu" in names["runtimes"] and "onnx" in names["exporters"] and "host" in names["devices"], names
assert not [module for module in {HEAVY!r} if module in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        BackendMissing, match=r"no runtime 'tpu'; there are .*onnxruntime-cpu, onnxruntime-native, torchscript-cpu"
    ):
        registry.load_runtime("tpu")


def test_a_backend_is_loaded_once() -> None:
    assert registry.load_runtime("null") is registry.load_runtime("null")


def test_a_missing_toolchain_gives_the_install_line(join: Join) -> None:
    name = join("import a_toolchain_that_nobody_has")
    with pytest.raises(BackendMissing) as caught:
        registry.load_exporter(name)
    assert str(caught.value) == (
        f"exporter '{name}' needs a_toolchain_that_nobody_has: pip install 'edgelut-service[{name}]'"
    )


def test_a_backend_outside_the_tree_joins_by_entry_point(join: Join) -> None:
    name = join(EXPORTER.format(name="Mine"))
    assert name in registry.names("exporters")
    assert registry.load_exporter(name).version == "Mine"


def test_an_entry_point_does_not_replace_a_file_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("null", "somewhere.else", "edgelut.exporters")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert registry._modules("exporters")["null"] == "backends.exporters.null"


@pytest.mark.parametrize("classes", [(), ("One", "Two")])
def test_a_file_that_does_not_hold_one_backend_is_refused(join: Join, classes: tuple[str, ...]) -> None:
    name = join("".join(EXPORTER.format(name=each) for each in classes))
    with pytest.raises(BackendMissing, match=rf"must hold one Exporter, not {len(classes)}"):
        registry.load_exporter(name)


def test_a_missing_toolchain_is_a_skip_with_its_reason(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(testing.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="pip install"):
        testing.load("exporters", join("import a_toolchain_that_nobody_has"))


@pytest.mark.parametrize("required", ["{}", "other,{}", "all"])
def test_a_missing_toolchain_is_a_failure_where_it_is_required(
    join: Join, monkeypatch: pytest.MonkeyPatch, required: str
) -> None:
    name = join("import a_toolchain_that_nobody_has")
    monkeypatch.setenv(testing.REQUIRED, required.format(name))
    with pytest.raises(BackendMissing):
        testing.load("exporters", name)
