"""The verdict as Markdown for a pull request or a job's summary.

All that comes from outside (names, reasons, branches) is escaped or stands in code spans: nothing in it is a link, a mention, an
image or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edgelut.render import short

from .progress import duration, plain
from .report_text import amounts, interval, ratio, titles, verdict
from .result import ORDER, FailedPoint, JobLink, Result, Row, headline, lines_of

MOST_ROWS = 150  # of one table: GitHub takes comments of 65,536 characters
LONGEST = 300  # characters of a reason
_SPECIAL = re.compile(r"[\\`*_{}\[\]()#+!|~$^=]|(?<=:)/|^(?:-|\d+\.)")
_CALLING = re.compile(r"(?:@|\\#)(?=\w)")
SIGNS = {"passed": "✅", "regression": "❌", "unclear": "❔"}


def markdown(result: Result) -> str:
    """Return the whole report: the verdict, what is slower, details, and how it was decided."""
    return "\n".join(_lines(result)).rstrip() + "\n"


def _lines(result: Result) -> Iterator[str]:
    yield f"### {SIGNS[result.outcome]} {text(result.name)}"
    yield ""
    yield f"**{text(_capital(headline(result)))}**"
    yield ""
    slower = result.of("regression")
    if slower:
        yield from _table(slower)
    if result.failures:
        yield from _failed(result.failures)
    for note in result.notes:
        yield f"- {text(note)}"
        yield ""
    unsure = result.of("unclear", "doubtful")
    if unsure:
        yield from _folded(f"{_rows(len(unsure))} too noisy or in doubt: no reason to fail", _unsure(unsure))
    rest = result.of(*ORDER)
    if rest:
        yield from _folded(f"All {_rows(len(rest))}: {result.counts()}", _table(rest, verdicts=True))
    if result.jobs:
        yield from _folded("How this was decided", _basis(result))


def _table(rows: Sequence[Row], *, verdicts: bool = False) -> Iterator[str]:
    shown, left = lines_of(rows, MOST_ROWS)
    header = " | ".join(["block", "on", *titles(shown), "ratio", "95 % interval"])
    yield f"| {header} |" + (" verdict |" if verdicts else " tolerance |")
    yield "|---|---|--:|--:|--:|--:|" + ("---|" if verdicts else "--:|")
    for row in shown:
        last = f"{verdict(row)}{', pinned' if row.verdict.pinned else ''}" if verdicts else f"{row.tolerance:.1%}"
        cells = [*amounts(row, shown), ratio(row), interval(row), last]
        yield f"| {' | '.join([cell(row.name), cell(short(row.verdict.target)), *cells])} |"
    if left:
        yield ""
        yield f"and {left} more, in the JSON report."
    yield ""


def _failed(failures: Sequence[FailedPoint]) -> Iterator[str]:
    shown, left = lines_of(failures, MOST_ROWS)
    yield "| could not be measured | on | why |"
    yield "|---|---|---|"
    for failure in shown:
        yield f"| {cell(failure.name)} | {cell(short(failure.target))} | {cell(failure.reason)} |"
    if left:
        yield ""
        yield f"and {left} more, in the JSON report."
    yield ""


def _unsure(rows: Sequence[Row]) -> Iterator[str]:
    shown, left = lines_of(rows, MOST_ROWS)
    for row in shown:
        reason = row.verdict.reason or f"the interval {interval(row)} does not tell"
        yield f"- {text(row.name)} on {text(short(row.verdict.target))}, {row.outcome}: {text(reason)}"
    if left:
        yield f"- and {left} more, in the JSON report"
    yield ""


def _basis(result: Result) -> Iterator[str]:
    beside, compared = result.interleaved
    policy = result.policy
    against = text(result.baseline or "nothing")
    yield f"- compared with: {against}" + (f", job {text(result.baseline_job)}" if result.baseline_job else "")
    if result.branch or result.commit:
        yield f"- build: branch {text(result.branch or '?')}, commit {text(result.commit[:12] or '?')}"
    if compared:
        others = "; the others (*) with runs of an earlier session" if beside < compared else ""
        yield f"- rows compared: {compared}, {beside} of them measured in the same rounds as their baseline{others}"
    if result.common is not None:
        yield f"- factor that all rows shared, removed from each: {result.common:.3f}"
    if result.uniform is not None:
        found = f"{ratio(result.uniform)} ({interval(result.uniform)})"
        yield f"- pinned network {text(result.reference)}, from which nothing is removed: {found}"
    elif result.reference:
        yield f"- pinned network {text(result.reference)}: not compared"
    else:
        yield "- no pinned network: a slowdown that all rows share would not be seen"
    yield f"- tolerance: {policy.tolerance:.1%}{_exceptions(result)}; false discovery rate: {policy.fdr:.1%}"
    yield f"- suspects measured again in a second session: {'yes' if result.confirmed else 'no'}"
    for link in result.jobs:
        yield f"- job to {link.purpose}: {_link(link)}"
    yield f"- took {duration(result.seconds)}"
    yield ""


def _link(link: JobLink) -> str:
    """Return a link to a job, where its address has no letter that could end the link."""
    whole = re.fullmatch(r"https?://[\w.:/%~-]+", link.url, re.ASCII)
    return f"[{text(link.id)}](<{link.url}>)" if whole else text(link.url)


def _exceptions(result: Result) -> str:
    others = sorted({row.tolerance for row in result.rows} - {result.policy.tolerance})
    return f" (for some rows {', '.join(f'{one:.1%}' for one in others)})" if others else ""


def _folded(title: str, inside: Iterator[str]) -> Iterator[str]:
    yield f"<details><summary>{title}</summary>"
    yield ""
    yield from inside
    yield "</details>"
    yield ""


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def text(words: str) -> str:
    """Return words from outside as prose that shows them and does nothing: no link, image, HTML, mention or reference."""
    words = _SPECIAL.sub(r"\\\g<0>", _cut(words))
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _CALLING.sub("\\g<0>\u200b", words)  # a mention writes to people, a reference to issues


def cell(words: str) -> str:
    """Return words from outside as a cell of a table."""
    words = _cut(words)
    return _code(words).replace("|", r"\|") if words else "-"


def _cut(words: str) -> str:
    words = plain(words)
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"


def _code(words: str) -> str:
    """Return a code span that no backtick in it can close."""
    longest = max((len(run) for run in re.findall("`+", words)), default=0)
    fence = "`" * (longest + 1)
    space = " " if words.startswith("`") or words.endswith("`") else ""
    return f"{fence}{space}{words}{space}{fence}"
