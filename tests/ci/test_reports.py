"""The reports: as they were read and approved (golden/), and what names and reasons from outside cannot do in them."""

from __future__ import annotations

import io
import json
import math
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from edgelut import MB3D, MB4D, BlockSpec, wire
from edgelut.ci import report_text
from edgelut.ci.report_junit import junit
from edgelut.ci.report_markdown import MOST_ROWS, cell, markdown, text
from edgelut.ci.result import FailedPoint, JobLink, Result, Row, headline, names
from edgelut.gate import RowOutcome, RowVerdict
from edgelut.presets import whole
from edgelut.sequences import network_spec
from edgelut.types import Params, Target

GOLDEN = Path(__file__).parent / "golden"
HOST = Target("host", "onnxruntime-cpu")
PHONE = Target("pixel|8", "litert")
AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NETWORK = network_spec(whole("l1"))
NASTY = "`x` <img src=x onerror=alert(1)> | @octocat #12 ![i](http://e.vil) **b**\n::error::no\x1b[31m\x00 \U0001f600"


def row(
    spec: BlockSpec,
    ratio: float,
    outcome: RowOutcome,
    *,
    name: str = "",
    target: Target = HOST,
    half: float = 0.02,
    reason: str = "",
    interleaved: bool = True,
    tolerance: float = 0.05,
) -> Row:
    """Return a row of a report."""
    known = not math.isnan(ratio)
    low, high = ratio - half, ratio + half
    pinned = spec == NETWORK
    found = RowVerdict(
        spec, target, ratio, low, high, 0.1, 0.2, outcome, reason, interleaved, pinned, tolerance, 1.01, 0.02, 0.0, 9.0
    )
    old = 1e4 * spec.width_in if known else None
    return Row(name or names([spec])[spec], found, 1e4 * spec.width_in * (ratio if known else 1), old)


ROWS = (
    row(MB4D.spec(48, 56), 1.002, "unchanged"),
    row(MB4D.spec(96, 28), 1.1234, "regression"),
    row(MB4D.spec(224, 14), 1.31, "regression", target=PHONE, tolerance=0.1),
    row(MB3D.spec(448, 7), 1.03, "unclear", half=0.1, reason="the interval is wide"),
    row(MB3D.spec(448, 14), 1.2, "doubtful", reason=NASTY),
    row(MB3D.spec(32, 7), math.nan, "new", reason="no baseline"),
    row(MB4D.spec(448, 7), 0.8, "improvement", interleaved=False),
    row(NETWORK, 1.01, "unchanged"),
)
FULL = Result(
    "regression",
    1,
    "2 rows are slower than the tolerance allows in both sessions: MB4D 224 @14 takes 1.31 times as long",
    "my <blocks>",
    AT,
    seconds=754.3,
    baseline="branch:main",
    baseline_job="0123",
    branch="feature/`x`",
    commit="facade" * 6,
    rows=ROWS,
    failures=(FailedPoint("MB4D 64 @56", HOST, NASTY),),
    jobs=(
        JobLink("compare", "0456", "https://lut.example.com/jobs/0456"),
        JobLink("confirm", "0789", "https://e)vil/"),
    ),
    common=1.024,
    uniform=ROWS[-1],
    reference="efficientformer-l1",
    confirmed=True,
    notes=("the table was not filled: no room",),
)
PASSED = Result("passed", 0, "none of 1 rows is slower", "b", AT, rows=ROWS[:1], common=1.0, jobs=FULL.jobs[:1])
AWAY = Result("unclear", 2, "cannot reach http://x: refused; is 'edgelut serve' running there?", "b", AT)
RESULTS = {"full": FULL, "passed": PASSED, "away": AWAY}


def printed(result: Result) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80)
    for table in report_text.tables(result):
        console.print(table)
    for line in report_text.lines(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def test_counts_of_instructions_are_labelled_in_every_report() -> None:
    counted = replace(ROWS[0], old_ns=12_000_000.0, new_ns=12_345_678.0, measure="instructions")
    for rows in ((counted,), (counted, ROWS[1])):
        result = replace(PASSED, rows=rows)
        for report in (printed(result), markdown(result), junit(result).decode()):
            assert "12.000 M instr." in report and "12.346 M instr." in report
            assert len(rows) == 2 or " ms" not in report
    assert json.loads(wire.encode(result))["rows"][0]["measure"] == "instructions"


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("form", ["txt", "md", "xml", "json"])
def test_a_report_is_as_approved(name: str, form: str) -> None:
    """With EDGELUT_APPROVE=1 the files are written anew: read the difference before it is committed."""
    result = RESULTS[name]
    forms = {
        "txt": lambda: printed(result).encode(),
        "md": lambda: markdown(result).encode(),
        "xml": lambda: junit(result) + b"\n",
        "json": lambda: json.dumps(json.loads(wire.encode(result)), indent=1, ensure_ascii=True).encode() + b"\n",
    }
    found, file = forms[form](), GOLDEN / f"{name}.{form}"
    if os.environ.get("EDGELUT_APPROVE"):
        file.write_bytes(found)
    assert found.decode() == file.read_text()


def test_a_table_fits_eighty_columns() -> None:
    lines = printed(FULL).splitlines()
    table = lines[: next(number for number, line in enumerate(lines) if "regression, 1 unclear" in line)]
    assert len(table) > 8 and max(map(len, table)) <= 80


def test_the_verdict_comes_first_in_markdown() -> None:
    lines = markdown(FULL).splitlines()
    assert lines[2].startswith("**Regression: 2 rows are slower")
    assert lines[4].startswith("| block |") and "1.310" in lines[6] and "1.123" in lines[7]


def test_nothing_from_outside_is_live_in_markdown() -> None:
    found = markdown(FULL)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", found)  # what is not in code spans
    tags = set(re.findall(r"<[^>]*>", outside)) - {"<details>", "</details>", "<summary>", "</summary>"}
    assert tags == {"<https://lut.example.com/jobs/0456>"}
    assert not re.search(r"[@#]\w", outside)
    assert not re.search(r"(?<!\\)!\[", outside)
    assert re.findall(r"(?<!\\)\]\(", outside) == ["]("]
    assert "\x1b" not in found and "\x00" not in found


@pytest.mark.parametrize(
    "words", ["", "plain words", NASTY, "``", "`", "a``b`c", "\\", "|", "a|b\\|c", "x" * 1000, "\u2028"]
)
def test_a_cell_is_one_code_span_of_one_row(words: str) -> None:
    found = cell(words)
    assert "\n" not in found and len(found) < 400
    if found != "-":
        fence = re.match("`+", found)
        assert fence is not None and found.endswith(fence[0])
        inside = found[len(fence[0]) : -len(fence[0])]
        assert not re.search(rf"(?<!`){fence[0]}(?!`)", inside)
    assert not re.search(r"(?<!\\)\|", found)


def test_a_word_at_the_start_makes_no_list() -> None:
    assert text("- x") == "\\- x" and text("1. x").startswith("\\1.")


def test_a_thousand_rows_fit_a_comment() -> None:
    many = tuple(row(MB4D.spec(n + 1, 7), 1.2, "regression") for n in range(1000))
    found = markdown(replace(FULL, rows=many, failures=FULL.failures * 1000))
    assert len(found) < 65_536
    assert f"and {1000 - MOST_ROWS} more, in the JSON report." in found


def test_junit_counts_what_it_holds() -> None:
    suite = ElementTree.fromstring(junit(FULL)).find("testsuite")
    assert suite is not None
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "9", "failures": "2", "errors": "1", "skipped": "3"}
    assert len(suite.findall(".//failure")) == 2 and len(suite.findall(".//skipped")) == 3
    reasons = [case.get("message") or "" for case in suite.findall(".//skipped")]
    assert reasons[0] == "unclear: the interval is wide" and reasons[1].startswith("doubtful: `x` <img")


def test_junit_says_that_nothing_could_be_told() -> None:
    suite = ElementTree.fromstring(junit(AWAY)).find("testsuite")
    assert suite is not None and suite.get("errors") == "1" and suite.get("tests") == "1"


def test_json_has_all_there_is() -> None:
    found = json.loads(wire.encode(FULL))
    assert (found["outcome"], found["exit_code"]) == ("regression", 1)
    assert found["rows"][5]["verdict"]["ratio"] is None
    assert found["rows"][1]["verdict"]["spec"]["key"] == MB4D.spec(96, 28).key


def test_rows_that_differ_in_parameters_alone_have_other_names() -> None:
    specs = [MB3D.spec(448, 7), MB3D.spec(448, 7, params={"expansion": 3}), MB4D.spec(48, 56)]
    called = names(specs)
    assert called[specs[2]] == "MB4D 48 @56"
    assert len(set(called.values())) == 3 and "expansion=3" in called[specs[1]]
    odd = [BlockSpec("x", 1, 1, 1, params=Params({"a": "b" * 100, "c": n})) for n in range(2)]
    assert all(len(name) < 90 for name in names(odd).values())


def test_a_headline_is_a_sentence() -> None:
    assert headline(AWAY) == "could not tell: cannot reach http://x: refused; is 'edgelut serve' running there?"


def live(document: str) -> list[str]:
    """Return what of a document is more than text: HTML, links, images, headings and the like, as a Markdown reader finds it."""
    found = []
    waiting = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(document)
    while waiting:
        token = waiting.pop(0)
        waiting = [*(token.children or []), *waiting]
        if token.type in ("html_block", "html_inline"):
            found += re.findall(r"<[^>]*>", token.content)
        elif token.type == "image" or token.type.endswith("_open"):
            found.append(f"{token.type} {token.attrGet('href') or ''}".strip())
    return found


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_words_are_live_as_prose(words: str) -> None:
    assert set(live(f"a {text(words)} b")) <= {"paragraph_open"}
    assert set(live(text(words))) <= {"paragraph_open"}
    assert not re.search(r"[@#]\w", text(words))


@given(st.text(st.sampled_from("`|\\ \n<>[]()!*_~@#a1-+.&;:/"), max_size=30))
def test_no_punctuation_is_live_in_prose_or_in_a_cell(words: str) -> None:
    assert set(live(text(words))) <= {"paragraph_open"}
    table = f"| x | y |\n|---|---|\n| {cell(words)} | z |\n"
    opened = [one for one in live(table) if one not in ("table_open", "thead_open", "tbody_open")]
    assert opened == ["tr_open", "th_open", "th_open", "tr_open", "td_open", "td_open"]
    assert "<td>z</td>" in MarkdownIt("commonmark").enable("table").render(table)


def test_a_reader_of_markdown_finds_what_was_meant_to_be_live_and_nothing_else() -> None:
    kinds = {one.partition(" ")[0] for one in live(markdown(FULL)) if not one.startswith("<")}
    assert "image" not in kinds
    assert [one for one in live(markdown(FULL)) if one.startswith("link_open")] == [
        "link_open https://lut.example.com/jobs/0456"
    ]
    assert {one for one in live(markdown(FULL)) if one.startswith("<")} == {
        "<details>", "</details>", "<summary>", "</summary>",
    }  # fmt: skip


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_words_make_readable_xml(words: str) -> None:
    odd = replace(FULL, name=words, reason=words, failures=(FailedPoint(words, HOST, words),))
    ElementTree.fromstring(junit(odd))
