"""The contract of exchanged formats as a pytest suite, for those of this tree and for yours.

from edgelut.exchange.testing import FormatContract

class TestMine(FormatContract):
    @pytest.fixture
    def form(self):
        return Mine()
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgelut.blocks import find_kind
from edgelut.errors import InvalidSpec, Unsupported
from edgelut.sequences import REFERENCE, SEQUENCES
from edgelut.types import Entry

from .base import Asked, Format, KeyedFormat

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "blank": lambda content: b" \n\n",
    "cut off": lambda content: content[: len(content) // 2],
    "something else": lambda content: b"?" * 99,
    "nested a thousandfold": lambda content: b"[" * 20_000,
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "Latin-1 in its midst": lambda content: content[: len(content) // 2] + b"\xe9" + content[len(content) // 2 :],
    "compressed": lambda content: b"\x1f\x8b\x08\x00" + content,
    "a NUL in its midst": lambda content: content[: len(content) // 2] + b"\0" + content[len(content) // 2 :],
}
NO_LATENCIES = (
    "0",
    "-1",
    "nan",
    "NaN",
    "inf",
    "Infinity",
    "-Infinity",
    "1e999",
    "none",
    "true",
    "[1]",
    "1_0",
    '"',
    "9" * 5000,
)


class FormatContract:
    """What every format does. A subclass gives the fixture `form`, and `asked` where its example needs more to be said."""

    @pytest.fixture
    def form(self) -> Format:
        """Return the format."""
        raise NotImplementedError("a subclass of FormatContract gives the fixture form")

    @pytest.fixture
    def asked(self, form: Format) -> Asked:
        """Return what has to be said of the example."""
        return Asked("phone", "tflite-cpu", values_in=form.values_in or form.usual_unit, publisher="somebody")

    @pytest.fixture
    def rows(self, form: Format, asked: Asked) -> list[Entry]:
        """The example's rows."""
        return form.read(form.example, asked)

    def test_the_format_says_what_it_holds_and_what_is_lost(self, form: Format) -> None:
        assert form.suffix.startswith(".") and form.holds and form.lost
        assert bool(form.values_in) != bool(form.usual_unit)  # the file states its unit, or the user has to

    def test_rows_are_distinct_and_above_zero(self, rows: list[Entry]) -> None:
        assert rows and len({(row.spec.key, row.target.key) for row in rows}) == len(rows)
        assert all(0 < row.latency.low_ns <= row.latency.p10_ns <= row.latency.high_ns for row in rows)

    def test_the_same_bytes_give_the_same_rows(self, form: Format, asked: Asked, rows: list[Entry]) -> None:
        assert form.read(form.example, asked) == rows
        assert form.read(b"\xef\xbb\xbf" + form.example, asked) == rows  # spreadsheets write that mark

    def test_what_is_asked_of_the_target_holds(self, form: Format, asked: Asked, rows: list[Entry]) -> None:
        assert {(row.target.device, row.target.runtime) for row in rows} == {(asked.device, asked.runtime)}

    def test_a_published_block_has_a_kind_that_none_of_ours_can_have(self, form: Format, rows: list[Entry]) -> None:
        if not isinstance(form, KeyedFormat):
            pytest.skip("its blocks are named by their own kinds")
        assert all("." in row.spec.kind and find_kind(row.spec.kind) is None for row in rows)
        assert not {row.spec.kind for row in rows} & {*SEQUENCES, REFERENCE}

    def test_a_key_is_written_again_from_its_spec(self, form: Format) -> None:
        if not isinstance(form, KeyedFormat):
            pytest.skip("it has no keys")
        keys = [figure.key for figure in form.figures(form.example)]
        assert [form.key(form.spec(key)) for key in keys] == keys

    def test_a_row_of_somebody_else_is_in_doubt(self, form: Format, rows: list[Entry]) -> None:
        if not isinstance(form, KeyedFormat):
            pytest.skip("the importer adds the doubt to whole rows")
        assert all("published by somebody" in row.latency.doubts[0] for row in rows)
        assert {row.provenance["statistic"] for row in rows} <= {"one value", "mean"}

    def test_a_key_of_unknown_form_is_refused_by_its_name(self, form: Format) -> None:
        if not isinstance(form, KeyedFormat):
            pytest.skip("it has no keys")
        for key in ("", "no such key", form.key(form.spec(form.figures(form.example)[0].key)) + "_x"):
            with pytest.raises(InvalidSpec, match=r"key "):
                form.spec(key)

    def test_a_unit_that_nobody_states_is_asked_for(self, form: Format, asked: Asked) -> None:
        if form.values_in:
            pytest.skip("the file states it")
        for said in (None, "seconds"):
            with pytest.raises(InvalidSpec, match=r"--values-in|is no unit of time"):
                form.read(form.example, Asked(asked.device, asked.runtime, values_in=said, publisher="somebody"))

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_file_is_refused_with_the_place(self, form: Format, asked: Asked, damage: str) -> None:
        with pytest.raises(InvalidSpec, match=r"line \d+|key ") as refused:
            form.read(DAMAGES[damage](form.example), asked)
        assert len(str(refused.value)) < 1000

    @pytest.mark.parametrize("value", NO_LATENCIES, ids=lambda value: value[:9])
    def test_what_is_no_latency_is_refused_with_the_place(self, form: Format, asked: Asked, value: str) -> None:
        assert form.example.count(form.example_value) == 1
        with pytest.raises(InvalidSpec, match=r"line \d+|key ") as refused:
            form.read(form.example.replace(form.example_value, value.encode()), asked)
        assert len(str(refused.value)) < 1000

    def test_what_is_written_is_read_back_whole(self, form: Format, rows: list[Entry]) -> None:
        if not form.writes:
            with pytest.raises(Unsupported, match="only read"):
                form.write(rows)
        else:
            assert form.read(form.write(rows), Asked()) == rows


__all__ = ["DAMAGES", "NO_LATENCIES", "FormatContract"]
