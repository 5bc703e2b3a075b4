"""The commands `edgelut jobs`, `fleet`, `mark` and `marks`: what a service measures, on what, over REST."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import exits, wire
from .cli import Json, parse_params
from .errors import InvalidSpec, LatencyNotFound

if TYPE_CHECKING:
    from rich.console import Console

    from .job_client import HttpJobs
    from .jobs import Job, JobEvent

app = typer.Typer()
jobs_app = typer.Typer(name="jobs", invoke_without_command=True)
app.add_typer(jobs_app)

LOCAL = "http://127.0.0.1:8321"
ID_LENGTH = 32
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"The service.  [default: $EDGELUT_URL, else {LOCAL}]"),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its beginning.")]
Words = list[str] | None


@jobs_app.callback()
def jobs(
    context: typer.Context,
    state: Annotated[
        Literal["queued", "running", "done", "cancelled"] | None, typer.Option(help="Only jobs in this state.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs of this series.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List a service's jobs, newest first; or show, watch, cancel, retry or submit one.

    The service's token, where it has one, is read from EDGELUT_TOKEN.
    """
    if context.invoked_subcommand is not None:
        return
    with open_jobs(url) as service:
        found = service.jobs(state=state, name=name, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        from .job_tables import jobs_table

        console().print(jobs_table(found))
    else:
        say("no jobs; 'edgelut jobs submit efficientformer-l1 --device DEVICE' makes one")


@jobs_app.command()
def show(
    id: Id,
    points: Annotated[bool, typer.Option("--points", help="List every point.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Print the whole log, not its end alone.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show a job: how far it is, what failed and why, and its log."""
    with open_jobs(url) as service:
        job = service.job(find_id(service, id))
        listed = service.points(job.id, state=None if points or as_json else "failed")
        lines = service.log(job.id)
    if as_json:
        print_json({"job": job, "points": listed, "log": lines})
        return
    from .job_tables import failure_line, points_table

    _describe(job)
    if points:
        console().print(points_table(listed))
    for point in listed:
        if point.state == "failed":
            say(failure_line(point))
    shown = lines if log else lines[-10:]
    if len(shown) < len(lines):
        say(f"... {len(lines) - len(shown)} lines of the log before these: --log")
    for line in shown:
        say(_log_line(line))


@jobs_app.command()
def watch(id: Id, url: Url = None, as_json: Json = False) -> None:
    """Watch a job until it has ended; exit 1 if points failed or were cancelled."""
    with open_jobs(url) as service:
        _watch(service, find_id(service, id), as_json)


@jobs_app.command()
def cancel(id: Id, url: Url = None, as_json: Json = False) -> None:
    """Cancel what is open of a job; rows that it has stay."""
    with open_jobs(url) as service:
        job = service.cancel(find_id(service, id))
    print_json(job) if as_json else _describe(job)


@jobs_app.command()
def retry(id: Id, url: Url = None, as_json: Json = False) -> None:
    """Measure again what failed or was cancelled of a job that has ended."""
    with open_jobs(url) as service:
        job = service.retry(find_id(service, id))
    print_json(job) if as_json else _describe(job)


@jobs_app.command()
def submit(
    preset: Annotated[Words, typer.Argument(metavar="PRESET", help="Such as efficientformer-l1 or demo.")] = None,
    block: Annotated[Words, typer.Option(help="Kind of block, such as MB3D; may be repeated.")] = None,
    width: Annotated[Words, typer.Option(metavar="N", help="224, or 208,224, or 208..240:16.")] = None,
    resolution: Annotated[Words, typer.Option(metavar="N", help="Side of the input map.")] = None,
    width_out: Annotated[Words, typer.Option(metavar="N", help="Output width of stem, embedding, head.")] = None,
    batch: Annotated[Words, typer.Option(metavar="N", help="Batch size.")] = None,
    param: Annotated[Words, typer.Option(metavar="NAME=VALUE", help="Block parameter, such as expansion=3.")] = None,
    device: Annotated[Words, typer.Option(help="Device, as 'edgelut fleet' lists them; may be repeated.")] = None,
    selector: Annotated[
        Words, typer.Option(metavar="NAME=VALUE", help="Every device with this fact, such as device_model='Pixel 8'.")
    ] = None,
    runtime: Annotated[Words, typer.Option(help="[default: onnxruntime-cpu]; may be repeated.")] = None,
    precision: Annotated[Words, typer.Option(help="fp32, fp16 or int8; may be repeated.")] = None,
    threads: Annotated[Words, typer.Option(metavar="N", help="Number of threads.")] = None,
    unit: Annotated[str, typer.Option(help="Compute unit.")] = "cpu",
    format_: Annotated[Words, typer.Option("--format", help="[default: what the runtime reads]")] = None,
    option: Annotated[Words, typer.Option(metavar="NAME=VALUE", help="Option of the exporter.")] = None,
    half_width: Annotated[float, typer.Option(min=0.001, max=0.5, help="A row is done at this half-width.")] = 0.02,
    max_rounds: Annotated[int, typer.Option(min=2, help="A row ends after so many rounds, in doubt or not.")] = 30,
    alone: Annotated[
        bool, typer.Option("--alone", help="Without the chains, contexts and cold runs that make sums hold.")
    ] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Measure the presets as whole networks too.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the order of rounds.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Measure known rows again.")] = False,
    priority: Annotated[int, typer.Option(help="Higher goes first, -100 to 100.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the series that the job belongs to.")] = "",
    label: Annotated[Words, typer.Option(metavar="NAME=VALUE", help="Such as branch=main; may be repeated.")] = None,
    key: Annotated[str, typer.Option(help="Idempotency key: the same one is the same job.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it has ended; exit 1 if points failed.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Submit a job: `edgelut jobs submit efficientformer-l1 --device lab-1`."""
    from .jobs import JobRequest
    from .request import parse_numbers

    if not device and not selector:
        raise InvalidSpec("give --device or --selector; 'edgelut fleet' lists the devices with their facts")
    request = JobRequest(
        presets=tuple(preset or ()),
        blocks=tuple(block or ()),
        widths=tuple(parse_numbers(width, "width")),
        widths_out=tuple(parse_numbers(width_out, "width-out")),
        resolutions=tuple(parse_numbers(resolution, "resolution")),
        batches=tuple(parse_numbers(batch, "batch") or (1,)),
        params=parse_params(param),
        networks=tuple(preset or ()) if whole else (),
        alone=alone,
        devices=tuple(device or ()),
        selector=parse_params(selector),
        runtimes=tuple(runtime or ("onnxruntime-cpu",)),
        precisions=tuple(precision or ("fp32",)),
        threads=tuple(parse_numbers(threads, "threads") or (1,)),
        unit=unit,
        formats=tuple(format_ or ()),
        options=parse_params(option),
        half_width=half_width,
        max_rounds=max_rounds,
        seed=seed,
        again=again,
        priority=priority,
        name=name,
        labels=parse_params(label),
    )
    with open_jobs(url) as service:
        job = service.submit(request, key=key)
        if wait:
            _watch(service, job.id, as_json)
    if as_json:
        print_json(job)
    else:
        _describe(job)
        say(f"$ edgelut jobs watch {job.id[:8]}")


@app.command()
def fleet(url: Url = None, as_json: Json = False) -> None:
    """List the agents and their devices: what each is doing, and what waits for it."""
    with open_jobs(url) as service:
        devices, agents = service.fleet(), service.agents()
    if as_json:
        print_json({"devices": devices, "agents": agents})
    elif not agents:
        say("no agent has announced itself; 'edgelut agent' on the host of a device does")
    else:
        from .job_tables import agents_table, fleet_table

        if devices:
            console().print(fleet_table(devices))
        console().print(agents_table(agents))


@app.command()
def mark(
    name: Annotated[str, typer.Argument(help="Name of the mark.")],
    delete: Annotated[bool, typer.Option("--delete", help="Delete the mark; the rows stay.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Name the table's present state, to compare with later; a mark of that name is moved."""
    with open_jobs(url) as service:
        found = service.delete_mark(name) if delete else service.mark(name)
    if as_json:
        print_json(found)
    else:
        say(f"{'deleted ' if delete else ''}mark {found.name}: entries up to {found.last_entry}")


@app.command()
def marks(url: Url = None, as_json: Json = False) -> None:
    """List the marks."""
    with open_jobs(url) as service:
        found = service.marks()
    if as_json:
        print_json(found)
    elif not found:
        say("no marks; 'edgelut mark NAME' makes one")
    else:
        from .job_tables import marks_table

        console().print(marks_table(found))


def open_jobs(url: str | None) -> HttpJobs:
    """Return the jobs of the service at a URL; without one, of EDGELUT_URL or of this machine."""
    from .job_client import HttpJobs

    return HttpJobs(url or os.environ.get("EDGELUT_URL") or LOCAL, os.environ.get("EDGELUT_TOKEN") or None)


def find_id(service: HttpJobs, text: str) -> str:
    """Return the id of the job that a text is the beginning of; raise LatencyNotFound or InvalidSpec."""
    if len(text) >= ID_LENGTH:
        return text
    found = [job for job in service.jobs(limit=500) if job.id.startswith(text)]
    if not found:
        raise LatencyNotFound(f"no job begins with {text!r}; 'edgelut jobs' lists them")
    if len(found) > 1:
        raise InvalidSpec(f"{len(found)} jobs begin with {text!r}: {', '.join(job.id for job in found[:5])}")
    return found[0].id


def console(stderr: bool = False) -> Console:
    """Return the terminal."""
    from rich.console import Console

    return Console(stderr=stderr)


def say(text: str) -> None:
    """Print one line as it is, however long."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(wire.encode(value).decode() + "\n")


def _watch(service: HttpJobs, job_id: str, as_json: bool) -> None:
    """Show a job until it has ended, and exit with 1 where points failed or were cancelled."""
    from .job_tables import failure_line

    service.job(job_id)  # what is not there is one line, without a display
    with _Display(quiet=as_json) as display:
        job = service.wait(job_id, display.job, display.event)
    failed = service.points(job.id, state="failed") if job.points.failed else []
    if as_json:
        print_json(job)
    else:
        _describe(job)
        _say_first(10, [failure_line(point) for point in failed], f"'edgelut jobs show {job.id[:8]}' lists them all")
    raise typer.Exit(exits.FAILED if job.points.failed or job.state == "cancelled" else exits.OK)


class _Display:
    """A job's live progress on standard error."""

    def __init__(self, quiet: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._quiet = quiet
        self._bar = Progress(*columns, console=console(stderr=True), disable=quiet)
        self._task = self._bar.add_task("job", total=None, note="")

    def job(self, job: Job) -> None:
        """Show how far it is."""
        from .job_tables import ID, duration

        notes = [job.state if job.state != "running" else f"{job.rounds} rounds"]
        if job.seconds_left is not None:
            notes.append(f"{duration(job.seconds_left)} left")
        if job.points.failed:
            notes.append(f"{job.points.failed} failed")
        self._bar.update(
            self._task,
            description=job.id[:ID],
            total=job.points.total,
            completed=job.points.closed,
            note=", ".join(notes),
        )

    def event(self, event: JobEvent) -> None:
        """Print a line of its log above."""
        if not self._quiet:
            self._bar.console.print(_log_line(event), highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _describe(job: Job) -> None:
    """Say in a few lines what a job is and how far it is."""
    from .job_tables import ago, counted, duration

    request = job.request
    named = f" ({request.name})" if request.name else ""
    say(f"job {job.id}{named} is {job.state}: {counted(job)}")
    what = [*request.presets, *request.blocks, *(f"{len(request.specs)} specs" for _ in range(bool(request.specs)))]
    what += [f"{name} as a whole" for name in request.networks]
    say(
        f"  {', '.join(what)} on {', '.join(job.devices)} ({', '.join(request.runtimes)}, {', '.join(request.precisions)})"
    )
    submitted = f"submitted {ago(job.created_at)}" + (f" by {job.submitter}" if job.submitter else "")
    if job.finished_at is not None and job.started_at is not None:
        took = (job.finished_at - job.started_at).total_seconds()
        submitted += f", took {duration(took)}"
    elif job.seconds_left is not None:
        submitted += f", about {duration(job.seconds_left)} left"
    labels = ", ".join(f"{name}={value}" for name, value in request.labels.items())
    say(f"  {submitted}, {job.rounds} rounds" + (f"; {labels}" if labels else ""))


def _log_line(event: JobEvent) -> str:
    mark = "" if event.level == "info" else f"{event.level}: "
    return f"{event.at:%H:%M:%S} {mark}{event.text}"


def _say_first(count: int, lines: Sequence[str], rest: str) -> None:
    for line in lines[:count]:
        say(line)
    if len(lines) > count:
        say(f"and {len(lines) - count} more; {rest}")
