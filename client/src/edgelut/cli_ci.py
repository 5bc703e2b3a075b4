"""The command `edgelut ci`: measure a build, compare it with a baseline, and say so by a table, reports and an exit code."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from . import wire
from .cli import Json
from .errors import EdgelutError, InvalidSpec

if TYPE_CHECKING:
    from .ci.config import Config
    from .ci.progress import Progress
    from .ci.result import Result
    from .job_client import HttpJobs

FILE = "edgelut-ci.yaml"

app = typer.Typer()
ci = typer.Typer(rich_markup_mode=None)
app.add_typer(ci, name="ci")

ConfigFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="Configuration.")]
Reports = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report there, whatever the verdict.")]


@ci.callback(invoke_without_command=True)
def ci_command(
    context: typer.Context,
    config: ConfigFile = Path(FILE),
    url: Annotated[
        str | None, typer.Option(help="Service.  [default: the configuration's, else $EDGELUT_URL]", show_default=False)
    ] = None,
    branch: Annotated[
        str, typer.Option(help="Branch.  [default: GitHub's variables, else git]", show_default=False)
    ] = "",
    commit: Annotated[
        str, typer.Option(help="Commit.  [default: GitHub's variables, else git]", show_default=False)
    ] = "",
    run_id: Annotated[
        str,
        typer.Option(
            help="Name of this build: the same name joins its own jobs.  [default: GitHub's]", show_default=False
        ),
    ] = "",
    allow_no_baseline: Annotated[
        bool, typer.Option("--allow-no-baseline", help="Let the first build pass and be the baseline.")
    ] = False,
    wait_for_devices: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for devices whose agent is only starting.")
    ] = 0.0,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Measure the gate itself: how often it is wrong, and what it finds.")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Builds of the self-test.")] = 20,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdict as Markdown.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdict as JUnit XML.")] = None,
    json_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdict as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Compare a build with a baseline: exit 0 passed, 1 regression, 2 could not tell."""
    if context.invoked_subcommand is not None:
        return
    if self_test:
        if markdown is not None or junit is not None:
            raise InvalidSpec("--self-test prints rates, as JSON too: it writes no --markdown and no --junit")
        _self_test(config, url, run_id, wait_for_devices, runs, json_file, as_json)
    result = _verdict(config, url, allow_no_baseline, wait_for_devices, branch=branch, commit=commit, run=run_id)
    _write_reports(result, markdown, junit, json_file)
    _print(result, as_json)
    raise typer.Exit(result.exit_code)


def _verdict(config: Path, url: str | None, allow_no_baseline: bool, wait_s: float, **build: str) -> Result:
    """Measure the build and compare it; what makes that impossible is a verdict too. `build`: its branch, commit and run."""
    from .ci.config import load
    from .ci.flow import Flow
    from .ci.progress import Progress
    from .ci.result import UNDECIDED, Result
    from .ci.surroundings import find

    started = datetime.now(UTC)
    try:
        surroundings = find(os.environ, Path.cwd(), **build)
        with _terminated(), Progress(sys.stderr, github=surroundings.github) as progress:
            asked = load(config)
            kind, _, name = asked.baseline.partition(":")
            apart = surroundings.beside(asked.record_on, name if kind == "branch" else "")
            with _connect(asked, url) as jobs:
                result = Flow(jobs, asked, apart, progress, allow_no_baseline, wait_s).run()
            _annotate(result, progress)
        return result
    except EdgelutError as error:  # nothing was sent yet: a configuration, an address, a package that is missing
        return Result("unclear", UNDECIDED, str(error), "edgelut ci", started)
    except Exception as error:  # noqa: BLE001 - Python would end with 1, and a mistake of ours is no regression of theirs
        Console(stderr=True).print(format_exc(), markup=False, highlight=False, soft_wrap=True)
        return Result(
            "unclear", UNDECIDED, f"edgelut itself failed: {type(error).__name__}: {error}", "edgelut ci", started
        )


def _self_test(
    config: Path, url: str | None, run_id: str, wait_s: float, runs: int, json_file: Path | None, as_json: bool
) -> NoReturn:
    """Measure the gate and print what came of it; what makes that impossible ends as everywhere, but with 2."""
    from .ci import self_test
    from .ci.config import load
    from .ci.flow import Flow
    from .ci.progress import Progress
    from .ci.result import UNDECIDED
    from .ci.surroundings import find

    try:
        asked = load(config)
        surroundings = find(os.environ, Path.cwd(), run=run_id)
        with _terminated(), Progress(sys.stderr, github=surroundings.github) as progress, _connect(asked, url) as jobs:
            flow = Flow(jobs, asked, surroundings, progress, wait_for_devices_s=wait_s)
            found = self_test.run(flow, runs)
    except EdgelutError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(UNDECIDED) from error
    content = self_test.as_json(found)
    if json_file is not None:
        _write(json_file, content + b"\n")
    if as_json:
        sys.stdout.write(content.decode() + "\n")
    else:
        for line in self_test.lines(found):
            Console().print(line, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0)


def _annotate(result: Result, progress: Progress) -> None:
    for row in result.of("regression"):
        progress.annotate("error", "slower", f"{row.name}: {row.verdict.ratio:.3f} times its baseline")
    if result.outcome == "unclear":
        progress.annotate("error", "edgelut ci could not tell", result.reason)


def _connect(config: Config, url: str | None) -> HttpJobs:
    """Return the connection to the service; the token is read from the environment alone."""
    from .job_client import HttpJobs

    address = url or config.url or os.environ.get("EDGELUT_URL", "")
    if not address.startswith(("http://", "https://")):
        raise InvalidSpec(
            f"no service is named: put 'url: https://...' into {config.file}, or set EDGELUT_URL, or give --url"
        )
    return HttpJobs(address, os.environ.get("EDGELUT_TOKEN") or None)


@contextmanager
def _terminated() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C: a runner that cancels a build sends either, and its jobs must not go on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_reports(result: Result, markdown: Path | None, junit: Path | None, json_file: Path | None) -> None:
    from .ci import report_junit, report_markdown

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    text = report_markdown.markdown(result)
    if markdown is not None:
        _write(markdown, text.encode())
    if junit is not None:
        _write(junit, report_junit.junit(result))
    if json_file is not None:
        _write(json_file, wire.encode(result) + b"\n")
    if summary:
        _write(Path(summary), text.encode() + b"\n", append=True)


def _write(path: Path, content: bytes, *, append: bool = False) -> None:
    """Write a report; one that cannot be written is said and changes no verdict."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if append else "wb") as file:
            file.write(content)
    except OSError as error:
        Console(stderr=True).print(
            f"warning: {path} cannot be written: {error.strerror}", markup=False, highlight=False
        )


def _print(result: Result, as_json: bool) -> None:
    """Print the verdict; what stands in it is no command to a runner."""
    from .ci import report_text
    from .ci.progress import plain
    from .ci.result import headline

    if as_json:
        sys.stdout.write(wire.encode(result).decode() + "\n")
        return
    if result.outcome == "unclear" and not result.rows:
        Console(stderr=True).print(f"error: {plain(headline(result))}", markup=False, highlight=False, soft_wrap=True)
        return
    console = Console()
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    stop = f"stop-{secrets.token_hex(8)}"
    if on_github:
        console.print(f"::stop-commands::{stop}", markup=False, highlight=False)
    for table in report_text.tables(result):
        console.print(table)
    for line in report_text.lines(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if on_github:
        console.print(f"::{stop}::", markup=False, highlight=False)


@ci.command()
def init(config: ConfigFile = Path(FILE)) -> None:
    """Write a configuration with comments, to begin with."""
    from .ci.example import EXAMPLE

    try:
        with config.open("x") as file:
            file.write(EXAMPLE)
    except FileExistsError:
        raise InvalidSpec(f"{config} is there already; nothing was written") from None
    except OSError as error:
        raise InvalidSpec(f"{config} cannot be written: {error.strerror}") from error
    Console().print(f"{config} is written: name your device and service in it", highlight=False, soft_wrap=True)
