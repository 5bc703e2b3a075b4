"""Every format of the folder keeps the contract, and so does one from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelut.errors import BackendMissing
from edgelut.exchange import registry
from edgelut.exchange.base import Format
from edgelut.exchange.testing import FormatContract
from tests.fakes import install_plugins

OUTSIDE = """
from edgelut.exchange.base import Figure, KeyedFormat
from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec
from edgelut.exchange.text import positive, text_of


class Lines(KeyedFormat):
    suffix, holds, lost, usual_unit, publisher = ".txt", "a width and a time a line", "all else", "us", "a friend"
    example, example_value = b"16 3.5\\n32 7.25\\n", b"3.5"

    def figures(self, content):
        rows = [(number, line.split(" ")) for number, line in enumerate(text_of(content).splitlines(), 1)]
        for number, row in rows:
            if len(row) != 2 or "\\0" in "".join(row) or not 0 < len(row[1]) < 100 or number == len(rows) == 1:
                raise InvalidSpec(f"line {number}: a width and a time, please")
        return [Figure(row[0], positive(f"line {number}", row[1])) for number, row in rows]

    def spec(self, key):
        if not key.isdigit():
            raise InvalidSpec(f"key {key!r} is no width")
        return BlockSpec("lines.conv", int(key), int(key), 1)

    def key(self, spec):
        return str(spec.width_in)
"""


@pytest.mark.parametrize("name", registry.names())
class TestFormats(FormatContract):
    @pytest.fixture
    def form(self, name: str) -> Format:
        return registry.load(name)


class TestOutside(FormatContract):
    @pytest.fixture
    def form(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Format:
        (tmp_path / "lines_outside.py").write_text(OUTSIDE)
        install_plugins(tmp_path, {registry.GROUP: {"lines": "lines_outside"}})
        monkeypatch.syspath_prepend(str(tmp_path))
        assert "lines" in registry.names()
        registry.load.cache_clear()
        return registry.load("lines")


def test_the_folder_is_the_registry() -> None:
    folder = Path(registry.__file__).parent / "formats"
    assert registry.names() == sorted(file.stem.replace("_", "-") for file in folder.glob("[a-z]*.py"))
    assert {"csv", "nn-meter", "ofa", "proxylessnas"} <= set(registry.names())


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(BackendMissing, match="no format 'onnx'; there are csv, nn-meter, ofa"):
        registry.load("onnx")
