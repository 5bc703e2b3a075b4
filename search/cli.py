"""The commands `edgelut search slim` and `edgelut search presets`; heavy imports wait until a command runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from edgelut import settings, wire
from edgelut.cli import Json
from edgelut.errors import EdgelutError, InvalidSpec, StorageError

if TYPE_CHECKING:
    from edgelut.searches import SearchLog
    from edgelut.types import BlockSpec, Target

    from .filling import Estimating
    from .presets import Preset
    from .record import Recorder
    from .run import Outcome
    from .slimming import Round
    from .training import Step

app = typer.Typer()
search_app = typer.Typer(no_args_is_help=True, help="Find networks for a latency target, by the table.")
app.add_typer(search_app, name="search")
SHOWN_REASON = 2000  # characters of what another command said
MAKE_S = 120  # to make a database


@search_app.command()
def slim(
    preset: Annotated[
        str, typer.Argument(metavar="PRESET", help="'edgelut search presets' lists them.")
    ] = "fashion-small",
    target_ms: Annotated[
        float | None, typer.Option(min=1e-6, help="Latency to reach.  [default: half of the full network's]")
    ] = None,
    device: Annotated[str, typer.Option(help="Device whose table is used.")] = "host",
    runtime: Annotated[str, typer.Option(help="Runtime.")] = "onnxruntime-cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="Number of threads.")] = 1,
    unit: Annotated[str, typer.Option(help="Compute unit.")] = "cpu",
    data: Annotated[
        str | None, typer.Option(help="fashion-mnist, digits, or a folder with one folder of images a class.")
    ] = None,
    measure_missing: Annotated[
        bool, typer.Option("--measure-missing", help="Measure what the table lacks, and wait for it.")
    ] = False,
    estimate_missing: Annotated[
        bool,
        typer.Option(
            "--estimate-missing",
            help="Estimate what the table lacks; with --measure-missing measure as much as that needs.",
        ),
    ] = False,
    measure_share: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1.0, help="With both: of the space's blocks that are measured at least.  [default: 0.2]"
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE[/RUNTIME...]", help="With --estimate-missing: another target whose table is to help."
        ),
    ] = None,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Do not measure what was found as a whole.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Search by random, evolution and uniform scaling too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the supernet and of the search.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Train what was found so many times.")] = 1,
    importance: Annotated[str | None, typer.Option(help="published or normalised.  [default: the preset's]")] = None,
    latency_weight: Annotated[
        float | None, typer.Option(min=0.0, help="Of the expected latency in the supernet's loss.")
    ] = None,
    initial: Annotated[
        Path | None, typer.Option("--init", metavar="FILE", help="Checkpoint of L1, L3 or L7 to start from.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Train in so many processes, or on so many GPUs.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where all is kept.  [default: in --home]")] = None,
    database: Annotated[str | None, typer.Option(help="Table's database.  [default: $EDGELUT_DATABASE_URL]")] = None,
    url: Annotated[str | None, typer.Option(help="Table's service.  [default: $EDGELUT_URL]")] = None,
    home: Annotated[Path | None, typer.Option(help="Data folder.  [default: $EDGELUT_HOME]")] = None,
    as_json: Json = False,
) -> None:
    """Find a network for a latency target: `edgelut search slim --target-ms 0.4 --measure-missing`.

    Trains a supernet, slims it by the table, trains what it found and measures it as a whole. Ctrl-C stops it; the same command
    goes on where it stopped.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the core to what else there is to do
    from edgelut.types import Target

    from . import presets
    from .run import Plan, Search

    chosen = _chosen(presets.get(preset), data, importance, latency_weight)
    root = (home or settings.home()).resolve()
    target = Target(device, runtime, precision, threads, unit)
    place = _place(url, database, root)
    plan = Plan(chosen, target, target_ms, seed, seeds, compare, initial.resolve() if initial else None, processes)
    estimating = _estimating(target, estimate_missing, measure_missing, measure_share, like)
    where = (folder or root / "searches" / f"{chosen.name}-{device}-{runtime}-{seed}").resolve()
    with _Shown(where, plan.target, chosen, quiet=as_json) as shown:
        from edgelut.sources import open_source

        measuring = _Measuring(where, target, chosen, place, root, shown)
        if not place[0]:
            _make_database(place[1])
        source = open_source(place[1])
        shown.record(source, seed)
        search = Search(
            plan, source, where, shown, measure=measuring if measure_missing else None, estimating=estimating
        )
        found = search.run(measure_found=None if no_measure else measuring)
        _report(found, where, as_json)


@search_app.command(name="presets")
def presets_command(as_json: Json = False) -> None:
    """List the presets of a search: images, the largest network, how long it trains."""
    from dataclasses import asdict

    from rich import box
    from rich.table import Table

    from .presets import PRESETS

    if as_json:
        sys.stdout.write(wire.encode([asdict(one) for one in PRESETS.values()]).decode() + "\n")
        return
    table = Table(
        "preset", "images", "px", "widths", "depths", "epochs", box=box.SIMPLE, pad_edge=False, padding=(0, 1)
    )
    for one in PRESETS.values():
        widths, depths = ("-".join(map(str, values)) for values in (one.config.widths, one.config.depths))
        epochs = f"{one.supernet.epochs} + {one.network.epochs}"
        table.add_row(one.name, one.data or "--data FOLDER", str(one.config.resolution), widths, depths, epochs)
    Console().print(table)


def _chosen(preset: Preset, data: str | None, importance: str | None, latency_weight: float | None) -> Preset:
    """Return the preset with what was said otherwise; raise InvalidSpec."""
    if data is not None:
        preset = replace(preset, data=data)
    if not preset.data:
        raise InvalidSpec(f"{preset.name} needs images: give --data FOLDER, with one folder of images a class")
    if importance is not None:
        if importance not in ("published", "normalised"):
            raise InvalidSpec(f"--importance is published or normalised, not {importance!r}")
        how: Literal["published", "normalised"] = "published" if importance == "published" else "normalised"
        preset = replace(preset, slim=replace(preset.slim, importance=how))
    return preset if latency_weight is None else replace(preset, latency_weight=latency_weight)


def _estimating(
    target: Target, estimate: bool, measure: bool, share: float | None, like: str | None
) -> Estimating | None:
    """Return how the table's gaps are estimated, None where they are not to be; raise InvalidSpec for what needs another option."""
    from edgelut.estimated import like_target

    from .filling import SHARE, Estimating

    if like is not None and not estimate:
        raise InvalidSpec("--like helps estimates: give --estimate-missing too")
    if share is not None and not (estimate and measure):
        raise InvalidSpec(
            "--measure-share says how much is measured where the rest is estimated: give --measure-missing and "
            "--estimate-missing too"
        )
    return Estimating(SHARE if share is None else share, like_target(like, target)) if estimate else None


def _place(url: str | None, database: str | None, root: Path) -> tuple[str, str]:
    """Return the option that names the table's place for other commands, and the place; raise InvalidSpec for two."""
    if url and database:
        raise InvalidSpec("--url reads a service's table, --database that of a database: give one of them")
    if url:
        return "--url", url
    if database:
        return "--database", database
    named = os.environ.get("EDGELUT_URL")
    return ("--url", named) if named else ("", settings.database_url(root))


def _make_database(location: str) -> None:
    """Make the embedded database, which the search writes to, where it is not there yet."""
    path = location.removeprefix("sqlite:///")
    if path == location or Path(path).exists():
        return
    environment = {**os.environ, "EDGELUT_DATABASE_URL": location}
    command = [sys.executable, "-m", "edgelut", "db", "upgrade"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MAKE_S, check=False)
    if done.returncode:
        raise StorageError(f"{path} could not be made: {(done.stderr or done.stdout).strip()[-SHOWN_REASON:]}")


class _Measuring:
    """Has rows measured by `edgelut profile`, which asks a service for a job where one is named, and waits for them."""

    def __init__(
        self, folder: Path, target: Target, preset: Preset, place: tuple[str, str], home: Path, shown: _Shown
    ) -> None:
        self._folder, self._target, self._preset = folder, target, preset
        self._place, self._home, self._shown = place, home, shown

    def __call__(self, specs: Sequence[BlockSpec]) -> None:
        wanted, said = self._folder / "wanted.json", self._folder / "measured.txt"
        wanted.write_bytes(wire.encode(list(specs)))
        target, preset = self._target, self._preset
        command = ["--specs", str(wanted), "--device", target.device, "--runtime", target.runtime]
        command += ["--precision", target.precision, "--threads", str(target.threads), "--unit", target.unit]
        command += ["--half-width", str(preset.half_width), "--max-rounds", str(preset.max_rounds)]
        command += ["--home", str(self._home), *(self._place if self._place[0] else ())]
        with said.open("w") as file, self._shown.aside():
            done = subprocess.run([sys.executable, "-m", "edgelut", "profile", *command], stdout=file, check=False)
        if done.returncode:
            reason = said.read_text()[-SHOWN_REASON:].strip()
            raise EdgelutError(f"measuring ended with {done.returncode}: {reason or 'see above'}")


class _Shown(AbstractContextManager["_Shown"]):
    """Shows how far a search is, and writes it down."""

    def __init__(self, folder: Path, target: Target, preset: Preset, *, quiet: bool) -> None:
        self._target, self._preset, self._quiet = target, preset, quiet
        self._recorder: Recorder | None = None
        self._log: SearchLog | None = None
        self._folder = folder
        self._about: dict[str, Any] = {}
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, console=console, disable=quiet, transient=True)
        self._task = self._bar.add_task("search", total=None, note="", visible=False)

    def __enter__(self) -> Self:
        self._bar.start()
        self._say(f"{self._preset.name} on {self._target}, in {self._folder}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()
        if self._recorder is not None:
            interrupted = kind is not None and not issubclass(kind, Exception)
            self._recorder.end("interrupted" if interrupted else "failed" if kind else "done")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to another command, which shows how far it is itself."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def record(self, source: object, seed: int) -> None:
        """Write the search down in its table's place too, if that can hold searches."""
        from edgelut.searches import SearchLog

        self._log = source if isinstance(source, SearchLog) else None
        self._about = {"preset": self._preset.name, "data": self._preset.data, "seed": seed, **_about(self._preset)}

    def begun(self, full_ms: float, target_ms: float, rows: Mapping[str, int]) -> None:
        """Say what is searched for."""
        from datetime import UTC, datetime

        from edgelut.searches import SearchRun

        from .record import Recorder, search_id

        now = datetime.now(UTC)
        about = {**self._about, "full_ms": full_ms, "rows": dict(rows)}
        name = f"{self._preset.name} for {target_ms:.3g} ms on {self._target.device}"
        run = SearchRun(search_id(self._folder), name, "running", self._target, target_ms, about, now, now)
        self._recorder = Recorder(self._folder, run, self._log, self._warn)
        share = f"{target_ms / full_ms:.0%} of the full network's {full_ms:.4g} ms"
        estimated = f"the table has {rows['measured']} rows, and {rows['estimated']} are estimates"
        table = estimated if rows["estimated"] else "the table has all rows"
        self._say(f"{table}; looking for {target_ms:.4g} ms, {share}")

    def stage(self, text: str) -> None:
        """Show that something else begins."""
        self._tell("stage", {"text": text})
        self._say(text)

    def step(self, of: str, step: Step) -> None:
        """Show how far a training is."""
        from .record import step_content

        self._tell("epoch", step_content(of, step))
        accuracy = "" if step.accuracy is None else f", {step.accuracy:.1%} of the validation images"
        left = f"{step.seconds_left:.0f} s left" if step.step < step.steps else "done"
        note = f"epoch {step.epoch:g}, loss {step.loss:.3f}{accuracy}, {left}"
        self._bar.update(self._task, description=of, total=step.steps, completed=step.step, note=note, visible=True)
        if step.step >= step.steps:
            self._say(f"  {of}: loss {step.loss:.3f}{accuracy}")

    def round(self, found: Round) -> None:
        """Show what slimming did."""
        from .record import round_content

        self._tell("round", round_content(found))
        self._bar.update(self._task, visible=False)
        taken = None if found.chosen is None else found.actions[found.chosen]
        then = "meets the target" if taken is None else f"{taken.what} ({-taken.drop:+.1%}, {-taken.saving_ms:+.4f} ms)"
        self._say(f"  round {found.number}: {found.latency_ms:.4f} ms, {found.accuracy:.1%}: {then}")

    def network(self, found: Mapping[str, Any]) -> None:
        """Write down what was found."""
        self._tell("network", found)
        self._bar.update(self._task, visible=False)

    def _tell(self, kind: Any, content: Mapping[str, Any]) -> None:
        if self._recorder is not None:
            self._recorder.tell(kind, content)

    def _warn(self, text: str) -> None:
        """Say what has to be known even where JSON is printed."""
        self._bar.console.print(text, markup=False)

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._bar.console.print(text, markup=False)


def _about(preset: Preset) -> dict[str, Any]:
    config = preset.config
    return {
        "config": {"widths": list(config.widths), "depths": list(config.depths), "resolution": config.resolution},
        "importance": preset.slim.importance,
        "criterion": preset.criterion,
        "images": preset.images,
    }


def _report(found: Outcome, folder: Path, as_json: bool) -> None:
    """Plot and print what a search came to."""
    from .report import plot_front, plot_path, results_table, write_csv
    from .run import outcome_json

    plot_path(found.rounds, found.target_ms, folder / "path.png")
    plot_front(found.rounds, found.networks, found.target_ms, folder / "front.png")
    write_csv(found.networks, folder / "networks.csv")
    if as_json:
        sys.stdout.write(wire.encode(outcome_json(found)).decode() + "\n")
        return
    console = Console()
    console.print(results_table(found.networks))
    if found.rows["estimated"]:
        console.print(
            f"{found.rows['measured']} rows were measured and {found.rows['estimated']} estimated", highlight=False
        )
    share = "" if found.lookup_share is None else f", {found.lookup_share:.2%} of the time of slimming"
    console.print(
        f"{found.lookups} look-ups in the table{share}; path.png, front.png, networks.csv in", highlight=False
    )
    console.print(str(folder), highlight=False, soft_wrap=True)
