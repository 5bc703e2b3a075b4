"""The commands `edgelut profile`, `export` and `backends`; heavy imports wait until a command runs."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from edgelut import exits, wire
from edgelut.cli import Json, parse_params
from edgelut.render import pivot_table, short
from edgelut.sequences import SEQUENCES, label

from .cli_agent import app as agent_app
from .cli_devices import app as devices_app
from .cli_request import points_of, request_of, specs_in, specs_of
from .origin import require_own_packages

if TYPE_CHECKING:
    from edgelut.jobs import Job, JobEvent, JobRequest
    from edgelut.plan import Point, Policy
    from edgelut.runs import RunStore
    from edgelut.types import Entry

    from .cli_job import Place

require_own_packages()  # at start: what runs after it imports them

app = typer.Typer()
app.add_typer(agent_app)
app.add_typer(devices_app)

Presets = Annotated[list[str] | None, typer.Argument(metavar="PRESET", help="Such as efficientformer-l1 or demo.")]
Block = Annotated[list[str] | None, typer.Option(help="Kind of block, such as MB3D; may be repeated.")]
Width = Annotated[list[str] | None, typer.Option(metavar="N", help="224, or 208,224, or 208..240:16.")]
WidthOut = Annotated[list[str] | None, typer.Option(metavar="N", help="Output width of stem, embedding, head.")]
Resolution = Annotated[list[str] | None, typer.Option(metavar="N", help="Side of the input map.")]
Batch = Annotated[list[str] | None, typer.Option(metavar="N", help="Batch size.")]
Param = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Block parameter, such as expansion=3.")]
ExportOption = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Option of the exporter.")
]
Format = Annotated[list[str] | None, typer.Option(help="onnx, torchscript or coreml; may be repeated.")]
Precision = Annotated[list[str] | None, typer.Option(help="fp32, fp16 or int8; may be repeated.")]
Home = Annotated[Path | None, typer.Option(help="Where artifacts and the database lie.  [default: $EDGELUT_HOME]")]


@app.command()
def profile(
    preset: Presets = None,
    block: Block = None,
    width: Width = None,
    resolution: Resolution = None,
    width_out: WidthOut = None,
    batch: Batch = None,
    param: Param = None,
    specs_file: Annotated[
        Path | None,
        typer.Option("--specs", metavar="FILE", help="Blocks as a JSON list; '-' reads the standard input."),
    ] = None,
    runtime: Annotated[list[str] | None, typer.Option(help="[default: the device's]; may be repeated.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Name or serial.  [default: host]; may be repeated.")] = None,
    format_: Annotated[list[str] | None, typer.Option("--format", help="[default: what the runtime reads]")] = None,
    precision: Precision = None,
    threads: Annotated[list[str] | None, typer.Option(metavar="N", help="Number of threads.")] = None,
    unit: Annotated[str | None, typer.Option(help="Compute unit.  [default: the runtime's first]")] = None,
    option: ExportOption = None,
    half_width: Annotated[float, typer.Option(min=0.001, max=0.5, help="A row is done at this half-width.")] = 0.02,
    max_rounds: Annotated[int, typer.Option(min=2, help="A row ends after so many rounds, in doubt or not.")] = 30,
    alone: Annotated[
        bool, typer.Option("--alone", help="Without the chains, contexts and cold runs that make sums hold.")
    ] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Measure the presets as whole networks too.")] = False,
    random_networks: Annotated[int, typer.Option(min=0, help="Measure so many random networks too.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of random networks and of the order of rounds.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Measure known rows again.")] = False,
    database: Annotated[str | None, typer.Option(help="Database URL.  [default: $EDGELUT_DATABASE_URL]")] = None,
    url: Annotated[
        str | None, typer.Option(help="Measure by the service there.  [default: $EDGELUT_URL, or one on --home]")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Measure in this process, whatever service there is.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Measure blocks and keep the rows: `edgelut profile efficientformer-l1`.

    Ctrl-C stops it; the same command goes on where it stopped. By a service it is a job, which Ctrl-C leaves running.
    """
    from edgelut import presets, settings
    from edgelut.slopes import with_needs

    from .cli_job import find_service

    root = (home or settings.home()).resolve()
    place = find_service(url, root, local=local, database=database)
    if place is not None and not place.said and _are_attached_here(device):
        place = None  # whoever runs on this data folder knows nothing of them
    listed = [] if specs_file is None else specs_in(specs_file)
    named = not listed or any((preset, block, width, width_out, resolution, batch, param))
    specs = [*listed, *(specs_of(preset, block, width, width_out, resolution, batch, param) if named else ())]
    networks = [
        *(presets.whole(name) for name in preset or () if whole),
        *presets.random_networks(random_networks, seed),
    ]
    specs = presets.with_networks(specs, networks)
    specs = specs if alone else with_needs(specs)
    if place is not None:
        how: dict[str, Any] = {"half_width": half_width, "max_rounds": max_rounds, "seed": seed, "again": again}
        how |= {"unit": unit} if unit else {}
        request = request_of(specs, device, runtime, precision, threads, format_, option, how)
        _profile_by(place, request, as_json)
        return
    policy = _policy(half_width, max_rounds, seed)
    points = points_of(specs, device, runtime, precision, threads, unit, format_, option)
    _profile_here(points, policy, root, database, again, as_json)


def _profile_here(
    points: list[Point], policy: Policy, root: Path, database: str | None, again: bool, as_json: bool
) -> None:
    """Measure in this process."""
    from .sweep import run_sweep

    with _open(database, root) as store, _Watcher(len(points), quiet=as_json) as watcher, _terminable():
        result = run_sweep(points, store, root, policy, again=again, observer=watcher.observer)
    if as_json:
        _print_json(
            {"sweep": result.sweep, "measured": result.measured, "known": result.known, "failures": result.failures}
        )
    else:
        _summary([*result.known, *result.measured], result.failures)
    raise typer.Exit(exits.FAILED if result.failures else exits.OK)


def _profile_by(place: Place, request: JobRequest, as_json: bool) -> None:
    """Measure by a service: submit a job and watch it."""
    from .cli_job import run_job

    console = Console(stderr=True)
    told: list[str] = []
    with _bar(as_json) as bar, _terminable():
        task = bar.add_task("job", total=None)

        def submitted(job: Job) -> None:
            told.append(job.id)
            bar.update(task, total=job.points.total)
            if not as_json:
                bar.console.print(f"job {job.id} at {place.url}", highlight=False, soft_wrap=True)

        def changed(job: Job) -> None:
            left = "" if job.seconds_left is None else f", {_duration(job.seconds_left)} left"
            bar.update(task, completed=job.points.closed, note=f"{job.state}, {job.rounds} rounds{left}")

        def said(event: JobEvent) -> None:
            if event.level != "info":
                bar.console.print(event.text, highlight=False, markup=False, soft_wrap=True)

        try:
            result = run_job(place, request, changed, said, submitted)
        except BaseException:
            if told:
                hint = f"'edgelut jobs watch {told[0]}' shows it, 'edgelut jobs cancel {told[0]}' ends it"
                console.print(f"the job goes on: {hint}", highlight=False, markup=False, soft_wrap=True)
            raise
    rows = {"measured": result.measured, "known": result.known, "failures": result.failures}
    if as_json:
        _print_json({"sweep": result.sweep, **rows, "job": result.job.id})
    else:
        _summary([*result.known, *result.measured], result.failures)
    raise typer.Exit(exits.FAILED if result.failures else exits.OK)


@app.command()
def export(
    preset: Presets = None,
    block: Block = None,
    width: Width = None,
    resolution: Resolution = None,
    width_out: WidthOut = None,
    batch: Batch = None,
    param: Param = None,
    format_: Annotated[list[str] | None, typer.Option("--format", help="[default: onnx, torchscript, coreml]")] = None,
    precision: Precision = None,
    option: ExportOption = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Export blocks, check their outputs, and keep the files: `edgelut export --block MB3D --width 448 --resolution 7`."""
    from edgelut import settings

    from .export_points import ExportPool
    from .request import exports

    specs = specs_of(preset, block, width, width_out, resolution, batch, param)
    wanted = exports(specs, format_ or ("onnx", "torchscript", "coreml"), precision or (), parse_params(option))
    root = (home or settings.home()).resolve()
    stored: dict[int, Any] = {}
    failures: list[dict[str, str]] = []
    with _bar(as_json) as bar, ExportPool(root / "artifacts") as pool:
        task = bar.add_task("export", total=len(wanted))

        def done(index: int, artifact: Any, made: bool) -> None:
            stored[index] = {"path": str(artifact.path), "made": made, "artifact": artifact.artifact}
            bar.advance(task)

        def failed(index: int, error: Exception) -> None:
            failures.append({"export": str(wanted[index]), "reason": str(error)})
            bar.advance(task)

        pool.export_all(wanted, done, failed)
    if as_json:
        _print_json({"artifacts": [stored[index] for index in sorted(stored)], "failures": failures})
    else:
        _export_summary([stored[index] for index in sorted(stored)], failures, root)
    raise typer.Exit(exits.FAILED if failures else exits.OK)


@app.command()
def backends(as_json: Json = False) -> None:
    """List exporters, runtimes and devices, and what to install for those that are missing."""
    from .inventory import inventory, inventory_table

    rows = inventory()
    if as_json:
        _print_json(rows)
    else:
        Console().print(inventory_table(rows))


def _are_attached_here(device: list[str] | None) -> bool:
    """Say whether all of some devices are phones of this host."""
    from backends import registry
    from edgelut.errors import EdgelutError

    from .devices import resolve

    try:
        return bool(device) and all(registry.device_class(resolve(text)).instanced for text in device or ())
    except EdgelutError:
        return False


def _policy(half_width: float, max_rounds: int, seed: int) -> Policy:
    from edgelut.plan import Policy

    least = min(Policy().min_rounds, max_rounds)
    return Policy(half_width=half_width, max_rounds=max_rounds, min_rounds=least, seed=seed)


@contextmanager
def _open(database: str | None, root: Path) -> Iterator[RunStore]:
    from db.engine import open_store
    from edgelut import settings

    store = open_store(database or settings.database_url(root), migrate=True)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a sweep as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Watcher:
    """Shows a sweep in the terminal: exports, rows done, time left."""

    def __init__(self, points: int, quiet: bool) -> None:
        from .observer import Observer
        from .observer import Progress as SweepProgress

        watcher = self
        self._bar = _bar(quiet)
        self._export = self._bar.add_task("export", total=points)
        self._measure = self._bar.add_task("measure", total=points, visible=False)
        self._known = 0

        class Watching(Observer):
            def exported(self, done: int, total: int, point: Point, made: bool) -> None:
                watcher._bar.update(watcher._export, completed=done, total=total, note="" if made else "in the store")

            def known(self, point: Point, entry: Entry) -> None:
                watcher._known += 1
                watcher._start()

            def waiting(self, device: str, why: str) -> None:
                watcher._bar.console.print(f"waiting for {device}: {why}", highlight=False, markup=False)

            def resumed(self, rounds: int) -> None:
                watcher._bar.console.print(f"going on with {rounds} rounds that were measured before", highlight=False)

            def progress(self, progress: SweepProgress) -> None:
                watcher._start()
                note = f"round {progress.round}, {_duration(progress.seconds_left)} left"
                done = min(points, watcher._known + progress.done)  # of several devices, some count what was known
                watcher._bar.update(watcher._measure, completed=done, note=note)

            def row(self, point: Point, entry: Entry, current: bool) -> None:
                watcher._start()
                if not current:
                    watcher._bar.console.print(
                        f"kept the stable row of {point}: the new one is in doubt", highlight=False
                    )

            def failed(self, point: Point, reason: str) -> None:
                watcher._bar.console.print(f"failed: {point}: {reason}", highlight=False, markup=False)

        self.observer = Watching()

    def _start(self) -> None:
        self._bar.update(self._measure, visible=True)

    def __enter__(self) -> _Watcher:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _bar(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return _NotedProgress(*columns, console=Console(stderr=True), disable=quiet)


class _NotedProgress(Progress):
    """A progress display whose tasks have a note."""

    def add_task(self, description: str, *args: Any, **fields: Any) -> Any:
        return super().add_task(description, *args, **{"note": "", **fields})


def _duration(seconds: float) -> str:
    return time.strftime(
        "%-H h %M min" if seconds >= 3600 else "%-M min %S s" if seconds >= 60 else "%-S s", time.gmtime(seconds)
    )


def _summary(entries: Sequence[Entry], failures: Sequence[Any]) -> None:
    console = Console()
    if entries:
        console.print(pivot_table(entries))
    doubtful = [entry for entry in entries if not entry.latency.stable]
    beside = sum(entry.spec.kind in SEQUENCES for entry in entries)
    rows = f"{len(entries)} rows" + (f", {beside} of them chains, contexts and cold runs" if beside else "")
    console.print(f"{rows}; {len(doubtful)} in doubt, {len(failures)} failed", highlight=False)
    for entry in doubtful[:10]:
        console.print(
            f"? {label(entry.spec)} on {short(entry.target)}: {'; '.join(entry.latency.doubts)}", highlight=False
        )
    for failure in failures[:10]:
        console.print(
            f"failed: {label(failure.spec)} on {short(failure.target)}: {failure.reason}", highlight=False, markup=False
        )


def _export_summary(stored: Sequence[dict[str, Any]], failures: Sequence[dict[str, str]], root: Path) -> None:
    from .inventory import artifacts_table

    console = Console()
    if stored:
        console.print(artifacts_table([row["artifact"] for row in stored]))
        made = sum(row["made"] for row in stored)
        console.print(
            f"{len(stored)} artifacts, {made} made now, in {root / 'artifacts'}", highlight=False, soft_wrap=True
        )
    for failure in failures:
        console.print(f"failed: {failure['export']}: {failure['reason']}", highlight=False, markup=False)


def _print_json(value: Any) -> None:
    sys.stdout.write(wire.encode(value).decode() + "\n")
