"""The verdict as JUnit XML: one test case a row."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from edgelut.render import short
from edgelut.types import Target

from .report_text import amount, basis, interval, ratio
from .result import Result, Row, headline

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 has no way to write


def junit(result: Result) -> bytes:
    """Return the document. Regressions are failures; doubtful, unclear and new rows are skipped; unmeasured ones are errors."""
    suites = Element("testsuites", name="edgelut ci")
    suite = SubElement(suites, "testsuite", name=_clean(result.name), timestamp=result.started_at.isoformat())
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for row in result.rows:
        case = _case(suite, result, row.name, row.verdict.target)
        _told(case, row, counts)
        SubElement(case, "system-out").text = _clean(_line(row))
    for failure in result.failures:
        case = _case(suite, result, failure.name, failure.target)
        counts["errors"] += 1
        SubElement(case, "error", message=_clean(failure.reason), type="not measured")
    if result.outcome == "unclear" and not result.failures:
        case = SubElement(suite, "testcase", classname=_clean(f"edgelut.{result.name}"), name="verdict")
        counts["errors"] += 1
        SubElement(case, "error", message=_clean(headline(result)), type="could not tell")
    SubElement(suite, "system-out").text = _clean(f"{headline(result)}\n{basis(result)}")
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("time", f"{result.seconds:.3f}")
    for name, count in counts.items():
        suite.set(name, str(count))
    indent(suites)
    found: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return found


def _case(suite: Element, result: Result, name: str, target: Target) -> Element:
    where = short(target).replace(".", "_")  # readers cut class names at dots
    return SubElement(suite, "testcase", classname=_clean(f"edgelut.{result.name}.{where}"), name=_clean(name))


def _told(case: Element, row: Row, counts: dict[str, int]) -> None:
    if row.outcome == "regression":
        counts["failures"] += 1
        message = f"{ratio(row)} times its baseline, {interval(row)} at 95 %; tolerance {row.tolerance:.1%}"
        SubElement(case, "failure", message=_clean(message), type="regression")
    elif row.outcome in ("doubtful", "unclear", "new"):
        counts["skipped"] += 1
        SubElement(case, "skipped", message=_clean(f"{row.outcome}: {row.verdict.reason or interval(row)}"))


def _line(row: Row) -> str:
    times = f"{amount(row, row.old_ns, True)} before, {amount(row, row.new_ns, True)} now"
    return f"{row.outcome}: {times}, ratio {ratio(row)} ({interval(row)})"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
