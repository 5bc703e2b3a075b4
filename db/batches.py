"""What agents say of batches: rounds, rows, points that ended otherwise, and that they are through with one.

Every message may come twice, and may come from an agent that lost the batch meanwhile. Then what it sends is taken for points
that are still open, and dropped for those that are closed: a point closes once.

A round that two agents measured, the one that lost the batch and the one that took it up, is kept from both: each is a run of
its own process, measured while nobody else measured on that device (the host's file lock sees to that), and the row of either
was made of its own. Runs of one process and round are one run, so nothing is doubled by being sent twice; and as runs of a
closed point are dropped, those that `runs_of` gives for a row are at least all that it was made of, and do not grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

import sqlalchemy as sa

from edgelut import wire
from edgelut.errors import InvalidSpec, LatencyNotFound
from edgelut.jobs import Closed, PointState, Progress, Standing
from edgelut.sequences import REFERENCE, label
from edgelut.types import Artifact, BlockSpec, Entry, Run, Target

from .connect import Database, reading, writing
from .job_rows import log, now, words
from .rows import batches as pieces
from .rows import spec_of
from .runs import RUN, put_artifacts, put_runs, run_of
from .schema import (
    batches,
    entries,
    failures,
    is_current,
    jobs,
    leases,
    points,
    processes,
    runs,
    specs,
    sweeps,
    targets,
)
from .table import put_entries, standing_of

LEASE_S = 30.0  # a batch whose lease was not renewed for so long goes to somebody else
MOST_FRUITLESS = 25  # attempts in a row that stored nothing, until a batch is given up

_baseline_sweeps = sweeps.alias("baseline_sweeps")
_BATCH = (
    sa.select(
        batches.c.id,
        batches.c.job_id,
        batches.c.number,
        batches.c.device,
        batches.c.state,
        batches.c.cancelled,
        batches.c.fruitless,
        batches.c.agent,
        batches.c.sweep_id,
        batches.c.baseline_sweep_id,
        sweeps.c.key.label("sweep"),
        _baseline_sweeps.c.key.label("baseline_sweep"),
        jobs.c.compares,
        leases.c.session,
    )
    .select_from(batches)
    .join(jobs, jobs.c.id == batches.c.job_id)
    .join(sweeps, sweeps.c.id == batches.c.sweep_id, isouter=True)
    .join(_baseline_sweeps, _baseline_sweeps.c.id == batches.c.baseline_sweep_id, isouter=True)
)
_OF_LEASE = _BATCH.join(
    leases, sa.and_(leases.c.batch_id == batches.c.id, leases.c.token == sa.bindparam("lease")), isouter=True
).where(batches.c.key == sa.bindparam("batch"))
_PLACES = (
    sa.select(
        specs.c.key,
        targets.c.key,
        points.c.id,
        points.c.number,
        points.c.batch_id,
        points.c.spec_id,
        points.c.target_id,
        points.c.state == "open",
    )
    .select_from(points)
    .join(specs, specs.c.id == points.c.spec_id)
    .join(targets, targets.c.id == points.c.target_id)
    .where(
        points.c.job_id == sa.bindparam("job"),
        targets.c.device == sa.bindparam("device"),
        specs.c.key.in_(sa.bindparam("keys", expanding=True)),
    )
)
_BEAT = (
    leases.update()
    .where(leases.c.session == sa.bindparam("of_session"))
    .values(beat=leases.c.beat + 1, expires_at=sa.bindparam("until"))
)
LEASED = _BATCH.add_columns(batches.c.key, leases.c.token, leases.c.beat).join(
    leases, leases.c.batch_id == batches.c.id
)


@dataclass(frozen=True, slots=True)
class _Place:
    """A point of a job, as a message finds it."""

    id: int
    number: int
    batch_id: int
    spec_id: int
    target_id: int
    is_open: bool


Places = dict[tuple[str, str], _Place]  # by the keys of spec and target


class SqlBatches(Database):
    """The messages about a batch. Each raises LatencyNotFound for a batch that is not there."""

    def put_batch_runs(
        self,
        batch: str,
        lease: str,
        runs: Sequence[Run],
        baseline_runs: Sequence[Run] = (),
        progress: Progress | None = None,
    ) -> Standing:
        """Store those runs whose points are open; raise InvalidSpec for runs that are not of the batch's job and sweeps.

        `cancelled` is answered too where no point of the batch is open any more: another agent has closed them.
        """
        sent = [*runs, *baseline_runs]
        with writing(self.engine) as connection:
            row = _message(connection, batch, lease)
            _check_sweep(runs, row.sweep)
            _check_sweep(baseline_runs, row.baseline_sweep)
            places = _places(connection, row, [(run.spec, run.target) for run in sent])
            taken = [run for run in sent if places[run.spec.key, run.target.key].is_open]
            new = put_runs(connection, taken, _ids(places)) if taken else 0
            _note(connection, row, stored=new, rounds=new, progress=progress)
            standing = _standing(row)
        return Standing("cancelled") if standing.state == "held" and row.state == "closed" else standing

    def put_batch_entries(self, batch: str, lease: str, entries: Sequence[Entry]) -> Standing:
        """Store the rows of open points and close these as measured; store a machine's reference where it has none.

        Raises InvalidSpec for rows of other points, of another sweep, or of a job that compares and fills no table.
        """
        with writing(self.engine) as connection:
            row = _message(connection, batch, lease)
            for entry in entries:
                _check_entry(entry, row)
            of_points = [entry for entry in entries if entry.spec.kind != REFERENCE]
            places = _places(connection, row, [(entry.spec, entry.target) for entry in of_points])
            known = _known_references(connection, [entry for entry in entries if entry.spec.kind == REFERENCE])
            taken: dict[tuple[str, str], Entry] = {}
            for entry in entries:
                key = entry.spec.key, entry.target.key
                if places[key].is_open if key in places else key not in known:
                    taken.setdefault(key, entry)
            put_entries(connection, list(taken.values()))
            found = standing_of(connection, entries)
            ids = {
                places[entry.spec.key, entry.target.key].id: id_
                for entry, (id_, _) in zip(entries, found, strict=True)
                if entry is taken.get((entry.spec.key, entry.target.key)) and entry.spec.kind != REFERENCE
            }
            _close_measured(connection, ids)
            close_empty(connection, {place.batch_id for place in places.values() if place.id in ids})
            _note(connection, row, stored=len(taken))
            return _standing(row, tuple(current for _, current in found))

    def close_points(self, batch: str, lease: str, closed: Sequence[Closed]) -> Standing:
        """Close open points without a row of their own; raise InvalidSpec for points that are not of the batch's job.

        A failure that is told by who lost the batch is dropped: it may be the loss that it failed by, and if it is the point's
        own, whoever takes the batch up will find it too.
        """
        with writing(self.engine) as connection:
            row = _message(connection, batch, lease)
            told = {one.number: one for one in closed}
            _check_closed(told.values(), row)
            found = _of_numbers(connection, row, list(told))
            open_ = [place for place in found if place["state"] == "open"]
            if row.session is None:
                open_ = [place for place in open_ if told[place["number"]].state != "failed"]
            for place in open_:
                _close_one(connection, row, place, told[place["number"]])
            close_empty(connection, {place["batch_id"] for place in open_})
            _note(connection, row, stored=len(open_))
            return _standing(row)

    def put_batch_artifacts(self, batch: str, lease: str, artifacts: Sequence[Artifact]) -> Standing:
        """Store the metadata of files that were exported for the batch."""
        with writing(self.engine) as connection:
            row = _message(connection, batch, lease)
            new = put_artifacts(connection, artifacts)
            _note(connection, row, stored=new)
            return _standing(row)

    def put_batch_progress(self, batch: str, lease: str, progress: Progress) -> Standing:
        """Store how far the batch is; who lost it is not listened to."""
        with writing(self.engine) as connection:
            row = _message(connection, batch, lease)
            _note(connection, row, progress=progress)
            return _standing(row)

    def finish_batch(self, batch: str, lease: str, interrupted: bool, reason: str = "") -> Standing:
        """Give the batch back. Its open points fail, or wait for the next claim if the agent was interrupted."""
        with writing(self.engine) as connection:
            row = _message(connection, batch, lease)
            if row.session is not None:
                if not interrupted:
                    fail_open(connection, row, reason or "the agent finished the batch without this point")
                    close_empty(connection, {row.id})
                    row = _message(connection, batch, lease)
                release(connection, row, reason or "the agent was stopped", lost=False)
            return _standing(row)

    def batch_runs(self, batch: str, baseline: bool = False) -> list[Run]:
        """Return the runs of the batch's open points, oldest first: with them whoever takes the batch up goes on."""
        with reading(self.engine) as connection:
            row = _find(connection, batch, "")
            sweep = row.baseline_sweep_id if baseline else row.sweep_id
            is_open = sa.and_(
                points.c.job_id == row.job_id,
                points.c.spec_id == runs.c.spec_id,
                points.c.target_id == runs.c.target_id,
                points.c.state == "open",
            )
            statement = RUN.join(points, is_open).where(processes.c.sweep_id == sweep)
            return [run_of(found) for found in connection.execute(statement).mappings()] if sweep is not None else []

    def batch_job(self, batch: str) -> str:
        """Return the id of the job that a batch is of."""
        with reading(self.engine) as connection:
            of_batch = sa.select(jobs.c.key).join(batches, batches.c.job_id == jobs.c.id).where(batches.c.key == batch)
            found = connection.execute(of_batch).scalar_one_or_none()
        if found is None:
            raise LatencyNotFound(f"no batch {batch!r}")
        return str(found)


def _find(connection: sa.Connection, batch: str, lease: str) -> sa.Row[Any]:
    found = connection.execute(_OF_LEASE, {"batch": batch, "lease": lease}).all()
    if not found:
        raise LatencyNotFound(f"no batch {batch!r}")
    return cast("sa.Row[Any]", found[0])


def _message(connection: sa.Connection, batch: str, lease: str) -> sa.Row[Any]:
    """Return the batch, with the session that sends under that lease (None: lost); the message is a sign of life."""
    row = _find(connection, batch, lease)
    if row.session is not None:
        beat(connection, row.session)
    return row


def beat(connection: sa.Connection, session: str) -> None:
    """Renew all leases of a session."""
    connection.execute(_BEAT, {"of_session": session, "until": now() + timedelta(seconds=LEASE_S)})


def _standing(row: sa.Row[Any], current: tuple[bool, ...] = ()) -> Standing:
    state: Literal["held", "lost", "cancelled"] = "held"
    if row.session is None:
        state = "lost"
    elif row.cancelled:
        state = "cancelled"
    return Standing(state, current)


def _note(
    connection: sa.Connection, row: sa.Row[Any], *, stored: int = 0, rounds: int = 0, progress: Progress | None = None
) -> None:
    """Keep what a message did to the batch."""
    change: dict[str, Any] = {}
    if rounds:
        change["rounds"] = batches.c.rounds + rounds
    if stored and row.fruitless:
        change["fruitless"] = 0
    if progress is not None and row.session is not None:
        change["progress"] = wire.dump(progress)
    if change:
        connection.execute(batches.update().where(batches.c.id == row.id).values(change))


def _places(connection: sa.Connection, row: sa.Row[Any], wanted: Sequence[tuple[BlockSpec, Target]]) -> Places:
    """Return the job's points of those specs and targets; raise InvalidSpec where one is none of this batch's device."""
    pairs = {(spec.key, target.key): (spec, target) for spec, target in wanted}
    found: Places = {}
    for piece in pieces(sorted({spec for spec, _ in pairs})):
        asked = {"job": row.job_id, "device": row.device, "keys": piece}
        for spec, target, *place in connection.execute(_PLACES, asked):
            found[spec, target] = _Place(*place)
    for key, (spec, target) in pairs.items():
        if key not in found:
            raise InvalidSpec(
                f"{label(spec)} on {target} is no point of this batch (number {row.number}, {row.device})"
            )
    return found


def _ids(places: Places) -> tuple[dict[str, int], dict[str, int]]:
    return (
        {spec: place.spec_id for (spec, _), place in places.items()},
        {target: place.target_id for (_, target), place in places.items()},
    )


def _check_sweep(sent: Sequence[Run], sweep: str | None) -> None:
    for run in sent:
        if sweep is None or run.sweep != sweep:
            raise InvalidSpec(f"a run of sweep {run.sweep!r} was sent for a batch whose sweep is {sweep!r}")


def _check_entry(entry: Entry, row: sa.Row[Any]) -> None:
    if entry.spec.kind == REFERENCE:
        if entry.target != Target(row.device, REFERENCE):
            raise InvalidSpec(f"a reference of this batch is one of {row.device}, not of {entry.target}")
    elif row.compares:
        raise InvalidSpec("this job compares and fills no table: close its points as compared")
    elif entry.provenance.get("sweep", row.sweep) != row.sweep:
        raise InvalidSpec(
            f"a row of sweep {entry.provenance['sweep']!r} was sent for a batch whose sweep is {row.sweep!r}"
        )


def _check_closed(closed: Iterable[Closed], row: sa.Row[Any]) -> None:
    for one in closed:
        if one.state == ("known" if row.compares else "compared"):
            raise InvalidSpec(f"point {one.number} cannot be {one.state}: its job {_does(row.compares)}")


def _does(compares: bool) -> str:
    return "compares and fills no table" if compares else "compares nothing"


def _known_references(connection: sa.Connection, put: Sequence[Entry]) -> set[tuple[str, str]]:
    """Return which references are stored: a machine's speed is fixed once, and a late message does not move it."""
    known: set[tuple[str, str]] = set()
    for entry in put:
        statement = (
            sa.select(entries.c.id)
            .join(specs, specs.c.id == entries.c.spec_id)
            .join(targets, targets.c.id == entries.c.target_id)
            .where(specs.c.key == entry.spec.key, targets.c.key == entry.target.key, is_current)
        )
        if connection.execute(statement).first() is not None:
            known.add((entry.spec.key, entry.target.key))
    return known


def _close_measured(connection: sa.Connection, ids: dict[int, int]) -> None:
    """Close points with the ids of their entries."""
    if ids:
        change = points.update().where(points.c.id == sa.bindparam("point"), points.c.state == "open")
        change = change.values(state="measured", entry_id=sa.bindparam("entry"), closed_at=now(), reason="")
        connection.execute(change, [{"point": point, "entry": entry} for point, entry in ids.items()])


def _of_numbers(connection: sa.Connection, row: sa.Row[Any], numbers: Sequence[int]) -> list[sa.RowMapping]:
    """Return the job's points of those numbers; raise InvalidSpec where one is none of this batch's device."""
    columns = (points.c.id, points.c.number, points.c.batch_id, points.c.state, points.c.spec_id, points.c.target_id)
    statement = (
        sa.select(*columns, specs.c.kind, specs.c.width_in, specs.c.width_out, specs.c.resolution, specs.c.batch)
        .add_columns(specs.c.params)
        .join(specs, specs.c.id == points.c.spec_id)
        .join(targets, targets.c.id == points.c.target_id)
        .where(points.c.job_id == row.job_id, targets.c.device == row.device)
        .order_by(points.c.number)
    )
    found: list[sa.RowMapping] = []
    for piece in pieces(numbers):
        found += connection.execute(statement.where(points.c.number.in_(piece))).mappings()
    missing = set(numbers) - {place["number"] for place in found}
    if missing:
        raise InvalidSpec(f"no point {min(missing)} of this batch (number {row.number}, {row.device})")
    return found


def _close_one(connection: sa.Connection, row: sa.Row[Any], place: sa.RowMapping, told: Closed) -> None:
    """Close an open point as an agent tells."""
    change: dict[str, Any] = {"state": told.state, "reason": words(told.reason), "closed_at": now()}
    if told.state == "known":
        of_point = (entries.c.spec_id == place["spec_id"], entries.c.target_id == place["target_id"])
        change["entry_id"] = connection.execute(sa.select(entries.c.id).where(*of_point, is_current)).scalar()
        if change["entry_id"] is None:
            raise InvalidSpec(f"point {told.number} cannot be known: the table has no row of it")
    connection.execute(points.update().where(points.c.id == place["id"]).values(change))
    if told.state == "failed":
        _store_failures(connection, row, points.c.id == place["id"], told.reason)
        text = f"point {told.number} ({label(spec_of(place))}) failed: {told.reason}"
        log(connection, row.job_id, "warning", text)


def _store_failures(connection: sa.Connection, row: sa.Row[Any], which: sa.ColumnElement[bool], reason: str) -> None:
    """Keep why points failed with the sweep that they failed in, where the batch has one."""
    if row.sweep_id is not None:
        columns = (sa.literal(row.sweep_id), points.c.spec_id, points.c.target_id, sa.literal(words(reason)))
        rows = sa.select(*columns, sa.literal(now(), failures.c.at.type)).where(which)
        connection.execute(failures.insert().from_select(["sweep_id", "spec_id", "target_id", "reason", "at"], rows))


def fail_open(connection: sa.Connection, row: sa.Row[Any], reason: str) -> None:
    """Close all open points of a batch as failed."""
    _store_failures(connection, row, sa.and_(points.c.batch_id == row.id, points.c.state == "open"), reason)
    failed = close_open(connection, points.c.batch_id == row.id, "failed", reason)
    if failed:
        log(connection, row.job_id, "error", f"{failed} points of batch {row.number} on {row.device} failed: {reason}")


def close_open(connection: sa.Connection, which: sa.ColumnElement[bool], state: PointState, reason: str) -> int:
    """Close those of some points that are open; return how many."""
    change = points.update().where(which, points.c.state == "open")
    return connection.execute(change.values(state=state, reason=words(reason), closed_at=now())).rowcount


def close_empty(connection: sa.Connection, ids: Iterable[int]) -> None:
    """Close those of some batches that have no open point."""
    left = sa.exists().where(points.c.batch_id == batches.c.id, points.c.state == "open")
    for piece in pieces(list(ids)):
        change = batches.update().where(batches.c.id.in_(piece), batches.c.state != "closed", ~left)
        connection.execute(change.values(state="closed", closed_at=now()))


def release(connection: sa.Connection, row: sa.Row[Any], why: str, *, lost: bool) -> None:
    """End a batch's lease; a batch with open points can be claimed again, unless it was tried too often for nothing."""
    connection.execute(leases.delete().where(leases.c.batch_id == row.id))
    if row.state == "claimed":
        change = {"state": "open", "progress": None, "lost_by": row.session if lost else None}
        connection.execute(batches.update().where(batches.c.id == row.id).values(change))
        level: Literal["info", "warning"] = "warning" if lost else "info"
        log(connection, row.job_id, level, f"batch {row.number} on {row.device} is left by agent {row.agent}: {why}")
        if row.fruitless >= MOST_FRUITLESS:
            fail_open(connection, row, f"given up after {row.fruitless} attempts that stored nothing: {why}")
            close_empty(connection, {row.id})
    state = "done" if row.state == "closed" and not row.cancelled else "interrupted"
    sweeps_ = [sweep for sweep in (row.sweep_id, row.baseline_sweep_id) if sweep is not None]
    connection.execute(sweeps.update().where(sweeps.c.id.in_(sweeps_)).values(state=state, finished_at=now()))
