"""Earlier states of the table that others are compared with: marks, jobs, and the runs that they left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgelut.errors import InvalidSpec, LatencyNotFound
from edgelut.jobs import Baseline, JobPoint, JobRequest, Mark
from edgelut.table import replaces
from edgelut.types import BlockSpec, Entry, Params, Run, Target

from .connect import Database, reading, writing
from .job_rows import POINT, job_point_of, job_row_id, now
from .rows import ENTRY, entry_of, find_ids, storable
from .rows import batches as pieces
from .runs import RUN, run_of
from .schema import batches, conditions, entries, jobs, marks, points, runs, specs, sweeps, targets

MARK = "mark:"
Place = tuple[BlockSpec, Target]


class SqlMarks(Database):
    """Marks, and what a comparing job starts from."""

    def put_mark(self, name: str) -> Mark:
        """Name the table as it is now; a name that is there already moves here. Raises InvalidSpec for a bad name."""
        if not 1 <= len(name) <= 100 or not name.isprintable() or "/" in name or not storable(name):
            raise InvalidSpec(f"a mark's name has 1 to 100 printable characters and no '/', not {name[:120]!r}")
        with writing(self.engine) as connection:
            newest = connection.execute(sa.select(sa.func.coalesce(sa.func.max(entries.c.id), 0))).scalar_one()
            mark = Mark(name, now(), newest)
            row = {"name": name, "made_at": mark.made_at, "last_entry": newest}
            if not connection.execute(marks.update().where(marks.c.name == name).values(row)).rowcount:
                connection.execute(marks.insert().values(row))
            return mark

    def marks(self) -> list[Mark]:
        """Return all marks in order of their names."""
        with reading(self.engine) as connection:
            return [_mark(row) for row in connection.execute(sa.select(marks).order_by(marks.c.name))]

    def find_mark(self, name: str) -> Mark | None:
        """Return a mark, or None."""
        with reading(self.engine) as connection:
            row = connection.execute(sa.select(marks).where(marks.c.name == name)).one_or_none()
        return None if row is None else _mark(row)

    def delete_mark(self, name: str) -> Mark:
        """Forget a mark and return it; raise LatencyNotFound."""
        with writing(self.engine) as connection:
            row = connection.execute(sa.select(marks).where(marks.c.name == name)).one_or_none()
            if row is None:
                raise LatencyNotFound(f"no mark {name!r}")
            connection.execute(marks.delete().where(marks.c.id == row.id))
            return _mark(row)

    def entries_at(self, when: Mark | datetime, specs: Sequence[BlockSpec], target: Target) -> list[Entry | None]:
        """Return the rows that were current when a mark was made, or at a time, in order; None where there was none.

        A time is that of the database's clocks: what counts is when a row was stored.
        """
        until = entries.c.created_at <= when if isinstance(when, datetime) else entries.c.id <= when.last_entry
        with reading(self.engine) as connection:
            found = _entries_at(connection, until, specs, target)
        return [found.get(spec.key) for spec in specs]

    def find_baseline(self, request: JobRequest, before: str | None = None) -> str | None:
        """Return what a request is compared with: a job's id, `mark:NAME`, or None where there is no such thing.

        `previous` and `branch:NAME` are the newest job that is done, of the same name, and of which something was measured;
        of those before a job, where one is named. Raises InvalidSpec for these two in a request without a name.
        """
        kind, _, rest = request.baseline.partition(":")
        if kind == "mark":
            return request.baseline if self.find_mark(rest) is not None else None
        with reading(self.engine) as connection:
            if kind == "job":
                named = sa.select(jobs.c.key).where(jobs.c.key == rest)
                return connection.execute(named).scalar_one_or_none()
            if not request.name:
                raise InvalidSpec(
                    f"baseline {request.baseline!r} is an earlier job of the same name: give the job a name"
                )
            last = None if before is None else job_row_id(connection, before)
            return _newest(connection, request.name, rest if kind == "branch" else None, last)

    def baselines(self, source: str, places: Sequence[Place]) -> dict[Place, Baseline]:
        """Return what a job's or a mark's points are compared with, of those places that it has; `source` as found above.

        Raises LatencyNotFound for a source that is not there any more.
        """
        if source.startswith(MARK):
            return self._marked(source.removeprefix(MARK), places)
        found: dict[Place, Baseline] = {}
        compared: dict[str, set[Place]] = defaultdict(set)
        wanted = set(places)
        with reading(self.engine) as connection:
            rows = connection.execute(POINT.where(points.c.job_id == job_row_id(connection, source))).mappings()
            for row in rows:
                point = job_point_of(row)
                place = point.point.spec, point.point.target
                if place not in wanted:
                    continue
                if point.state == "compared":
                    compared[point.sweep].add(place)
                elif point.state in ("measured", "known") and (baseline := _of_row(row["provenance"])) is not None:
                    found[place] = baseline
            for sweep, there in compared.items():
                found |= _of_runs(connection, sweep, there)
        return found

    def job_runs(self, id: str, numbers: Sequence[int] | None = None, baseline: bool = False) -> list[Run]:
        """Return the runs of a job's points (all, or those of some numbers), oldest first; of the new side, or of the baseline.

        The baseline's are those that were measured beside the new ones; for a point that has none, the earlier ones that it is
        compared with, whose `sweep` tells them apart.
        """
        with reading(self.engine) as connection:
            statement = POINT.add_columns(batches.c.baseline_sweep_id).where(
                points.c.job_id == job_row_id(connection, id)
            )
            rows: list[sa.RowMapping] = []
            for piece in pieces(list(numbers)) if numbers is not None else [None]:
                some = statement if piece is None else statement.where(points.c.number.in_(piece))
                rows += connection.execute(some).mappings()
            found = _baseline_runs(connection, rows) if baseline else _new_runs(connection, rows)
        return sorted(found, key=lambda run: run.started_at)

    def _marked(self, name: str, places: Sequence[Place]) -> dict[Place, Baseline]:
        mark = self.find_mark(name)
        if mark is None:
            raise LatencyNotFound(f"no mark {name!r}")
        found: dict[Place, Baseline] = {}
        for target in dict.fromkeys(target for _, target in places):
            asked = [spec for spec, other in places if other == target]
            for spec, entry in zip(asked, self.entries_at(mark, asked, target), strict=True):
                baseline = None if entry is None else _of_row(entry.provenance)
                if baseline is not None:
                    found[spec, target] = baseline
        return found


def _mark(row: sa.Row[Any]) -> Mark:
    return Mark(row.name, row.made_at, row.last_entry)


def _entries_at(
    connection: sa.Connection, until: sa.ColumnElement[bool], wanted: Sequence[BlockSpec], target: Target
) -> dict[str, Entry]:
    """Return the current rows as they were by the keys of their specs: each entry in its turn replaced the one before or not."""
    current: dict[str, Entry] = {}
    of_key = {spec.key: spec for spec in wanted}
    ids = find_ids(connection, specs, list(of_key))
    target_id = find_ids(connection, targets, [target.key]).get(target.key)
    of_id = {id_: of_key[key] for key, id_ in ids.items()}
    statement = sa.select(entries.c.spec_id, *ENTRY).where(entries.c.target_id == target_id, until)
    for piece in pieces(list(of_id)) if target_id is not None else ():
        rows = connection.execute(statement.where(entries.c.spec_id.in_(piece)).order_by(entries.c.id)).mappings()
        for row in rows:
            spec = of_id[row["spec_id"]]
            entry = entry_of(row, spec, target)
            if replaces(entry, current.get(spec.key)):
                current[spec.key] = entry
    return current


def _newest(connection: sa.Connection, name: str, branch: str | None, before: int | None) -> str | None:
    """Return the newest job that is done, of that name and branch, with something to compare with."""
    told = sa.exists().where(points.c.job_id == jobs.c.id, points.c.state.in_(("measured", "known", "compared")))
    statement = sa.select(jobs.c.key, jobs.c.labels).where(jobs.c.name == name, jobs.c.state == "done", told)
    if before is not None:
        statement = statement.where(jobs.c.id < before)
    found: Iterable[sa.Row[Any]] = connection.execute(statement.order_by(jobs.c.id.desc()))
    return next((row.key for row in found if branch is None or row.labels.get("branch") == branch), None)


def _of_row(provenance: Mapping[str, Any] | Params | None) -> Baseline | None:
    """Return the baseline that an entry is, or None for one that no sweep of an artifact made."""
    said = provenance or {}
    if not said.get("artifact_sha256") or not said.get("sweep"):
        return None
    return Baseline(str(said["artifact_sha256"]), str(said["sweep"]), str(said.get("conditions", "")))


def _of_runs(connection: sa.Connection, sweep: str, places: set[Place]) -> dict[Place, Baseline]:
    """Return the baselines that runs of a sweep are: by the newest of each point."""
    statement = RUN.add_columns(conditions.c.key.label("conditions_key")).where(sweeps.c.key == sweep)
    found: dict[Place, Baseline] = {}
    for row in connection.execute(statement).mappings():
        run = run_of(row)
        if (run.spec, run.target) in places:
            found[run.spec, run.target] = Baseline(run.artifact_sha256, sweep, row["conditions_key"])
    return found


def _new_runs(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> list[Run]:
    by_sweep: dict[str, set[Place]] = defaultdict(set)
    for row in rows:
        point = job_point_of(row)
        by_sweep[point.sweep].add((point.point.spec, point.point.target))
    return [run for sweep, places in by_sweep.items() for run in _runs_in(connection, sweeps.c.key == sweep, places)]


def _baseline_runs(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> list[Run]:
    of_batch: dict[int, dict[Place, JobPoint]] = defaultdict(dict)
    for row in rows:
        if row["baseline"] is not None:
            point = job_point_of(row)
            of_batch[row["baseline_sweep_id"] or 0][point.point.spec, point.point.target] = point
    found: list[Run] = []
    earlier: dict[str, dict[Place, Baseline]] = defaultdict(dict)
    for sweep_id, there in of_batch.items():
        beside = _runs_in(connection, sweeps.c.id == sweep_id, set(there))
        found += beside
        for place in set(there) - {(run.spec, run.target) for run in beside}:
            baseline = there[place].baseline
            assert baseline is not None
            earlier[baseline.sweep][place] = baseline
    for sweep, baselines in earlier.items():
        of_sweep = _runs_in(connection, sweeps.c.key == sweep, set(baselines))
        found += [run for run in of_sweep if run.artifact_sha256 == baselines[run.spec, run.target].artifact_sha256]
    return found


def _runs_in(connection: sa.Connection, sweep: sa.ColumnElement[bool], places: set[Place]) -> list[Run]:
    """Return a sweep's runs of some places."""
    ids = find_ids(connection, specs, [spec.key for spec, _ in places])
    wanted = {(spec.key, target.key) for spec, target in places}
    found: list[Run] = []
    for piece in pieces(list(ids.values())):
        rows = connection.execute(RUN.where(sweep, runs.c.spec_id.in_(piece))).mappings()
        found += [run for row in rows if ((run := run_of(row)).spec.key, run.target.key) in wanted]
    return found
