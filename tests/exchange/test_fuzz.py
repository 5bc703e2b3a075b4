"""Whatever bytes come: rows, or a refusal of ours."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelut.errors import InvalidSpec
from edgelut.exchange import Asked, load, names

_TOKENS = b'\n " { [ - : &a *a !!int | , \xc3\xa9 % \t'.split(b" ")
_pieces = st.binary(max_size=6) | st.sampled_from([b" ", b": ", b"- ", *_TOKENS])


@pytest.mark.parametrize("name", names())
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutilated_file_is_rows_or_a_refusal(name: str, data: st.DataObject) -> None:
    form = load(name)
    content = form.example
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 20)))
        content = content[:start] + data.draw(_pieces) + content[end:]
    asked = Asked("phone", "x", values_in=form.values_in or form.usual_unit, publisher="x")
    with suppress(InvalidSpec):
        assert all(row.latency.p10_ns > 0 for row in form.read(content, asked))


@pytest.mark.parametrize("name", names())
@settings(max_examples=100, deadline=None)
@given(
    content=st.binary(max_size=200) | st.text(st.characters(exclude_categories=["Cs"]), max_size=200).map(str.encode)
)
def test_any_bytes_are_rows_or_a_refusal(name: str, content: bytes) -> None:
    form = load(name)
    asked = Asked("phone", "x", values_in=form.values_in or form.usual_unit, publisher="x")
    with suppress(InvalidSpec):
        assert form.read(content, asked)
