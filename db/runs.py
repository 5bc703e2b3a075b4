"""The raw runs in SQL, with their sweeps, failures and artifacts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

import sqlalchemy as sa

from edgelut.errors import InvalidSpec, LatencyNotFound
from edgelut.runs import Failure, Sweep, SweepState
from edgelut.types import Artifact, BlockSpec, Params, Run, Target, digest

from .connect import Database, reading, writing
from .rows import SPEC, TARGET, batches, find_ids, spec_ids, spec_of, target_ids, target_of
from .samples import pack, unpack
from .schema import artifacts, conditions, entries, failures, processes, runs, specs, sweeps, targets

Ids = Mapping[str, int]

_PLAIN = ("round", "inner", "warmups", "reference_ns", "load_ns", "compile_ns", "peak_memory_bytes", "artifact_sha256")
RUN = (
    sa.select(
        runs.c.id,
        *SPEC,
        *TARGET,
        sweeps.c.key.label("sweep"),
        processes.c.name.label("process"),
        conditions.c.facts,
        *(runs.c[name] for name in ("observed", "started_at", "wall_ns", "cpu_ns", *_PLAIN)),
    )
    .select_from(runs)
    .join(specs, specs.c.id == runs.c.spec_id)
    .join(targets, targets.c.id == runs.c.target_id)
    .join(processes, processes.c.id == runs.c.process_id)
    .join(sweeps, sweeps.c.id == processes.c.sweep_id)
    .join(conditions, conditions.c.id == runs.c.conditions_id)
    .order_by(runs.c.started_at, runs.c.id)
)


class SqlRuns(Database):
    """Raw runs in SQLite or PostgreSQL; obligations as `edgelut.runs.RunStore`.

    A run's conditions are stored once for all runs under them, its samples as bytes (`db.samples`).
    """

    def start_sweep(self, plan_key: str, plan: Mapping[str, Any]) -> Sweep:
        """Return the newest unfinished sweep of that plan, now running; or a new one."""
        with writing(self.engine) as connection:
            unfinished = sa.select(sweeps).where(sweeps.c.plan_key == plan_key, sweeps.c.state != "done")
            found = connection.execute(unfinished.order_by(sweeps.c.id.desc()).limit(1)).one_or_none()
            if found is not None:
                change = sweeps.update().where(sweeps.c.id == found.id)
                connection.execute(change.values(state="running", finished_at=None))
                return Sweep(found.key, plan_key, found.plan, "running", found.started_at)
            sweep = Sweep(uuid.uuid4().hex, plan_key, dict(plan), "running", datetime.now(UTC))
            row = {"key": sweep.id, "plan_key": plan_key, "plan": sweep.plan, "state": "running"}
            connection.execute(sweeps.insert().values(**row, started_at=sweep.started_at))
            return sweep

    def finish_sweep(self, sweep: str, state: SweepState) -> None:
        """Record how a sweep ended."""
        finished = None if state == "running" else datetime.now(UTC)
        with writing(self.engine) as connection:
            change = sweeps.update().where(sweeps.c.id == _sweep_id(connection, sweep))
            connection.execute(change.values(state=state, finished_at=finished))

    def find_sweep(self, sweep: str) -> Sweep | None:
        """Return a sweep by its id, or None."""
        with reading(self.engine) as connection:
            row = connection.execute(sa.select(sweeps).where(sweeps.c.key == sweep)).one_or_none()
        return (
            None if row is None else Sweep(row.key, row.plan_key, row.plan, row.state, row.started_at, row.finished_at)
        )

    def put_runs(self, runs: Sequence[Run]) -> None:
        """Store raw runs in one transaction; a run already stored (sweep, process, spec, target, round) stays as it is."""
        if runs:
            with writing(self.engine) as connection:
                put_runs(connection, runs)

    def runs(self, spec: BlockSpec, target: Target, sweep: str | None = None) -> list[Run]:
        """Return the raw runs of a spec on a target, oldest first; of one sweep where it is named."""
        return [run for _, run in self._runs_of(spec.key, target.key, sweep)]

    def sweep_runs(self, sweep: str) -> list[Run]:
        """Return every run of a sweep, oldest first."""
        with reading(self.engine) as connection:
            return [run_of(row) for row in connection.execute(RUN.where(sweeps.c.key == sweep)).mappings()]

    def get_run(self, id: int) -> Run:
        """Return the run of that id; raise LatencyNotFound."""
        with reading(self.engine) as connection:
            row = connection.execute(RUN.where(runs.c.id == id)).mappings().one_or_none() if 0 < id < 2**63 else None
        if row is None:
            raise LatencyNotFound(f"no run {id}")
        return run_of(row)

    def runs_of(self, entry_id: int) -> list[tuple[int, Run]]:
        """Return the runs that an entry was made of, with their ids, oldest first: those of its spec, target and sweep.

        Raises LatencyNotFound for an entry that is not there; an entry that no sweep made has none.
        """
        statement = (
            sa.select(specs.c.key.label("spec"), targets.c.key.label("target"), entries.c.provenance)
            .select_from(entries)
            .join(specs, specs.c.id == entries.c.spec_id)
            .join(targets, targets.c.id == entries.c.target_id)
            .where(entries.c.id == entry_id)
        )
        with reading(self.engine) as connection:
            row = connection.execute(statement).one_or_none() if 0 < entry_id < 2**63 else None
        if row is None:
            raise LatencyNotFound(f"no entry {entry_id}")
        sweep = row.provenance.get("sweep")
        return self._runs_of(row.spec, row.target, str(sweep)) if sweep is not None else []

    def put_failure(self, failure: Failure) -> None:
        """Store why a point of a sweep could not be measured; the same reason again changes nothing."""
        with writing(self.engine) as connection:
            put_failure(connection, failure)

    def failures(self, sweep: str) -> list[Failure]:
        """Return a sweep's failures, oldest first."""
        statement = (
            sa.select(*SPEC, *TARGET, failures.c.reason, failures.c.at)
            .select_from(failures)
            .join(specs, specs.c.id == failures.c.spec_id)
            .join(targets, targets.c.id == failures.c.target_id)
            .join(sweeps, sweeps.c.id == failures.c.sweep_id)
            .where(sweeps.c.key == sweep)
            .order_by(failures.c.id)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(statement).mappings().all()
        return [Failure(sweep, spec_of(row), target_of(row), row["reason"], row["at"]) for row in rows]

    def put_artifact(self, artifact: Artifact) -> None:
        """Store an artifact's metadata; that of a hash already stored stays as it is."""
        with writing(self.engine) as connection:
            put_artifacts(connection, [artifact])

    def find_artifact(self, sha256: str) -> Artifact | None:
        """Return an artifact's metadata by its canonical hash, or None."""
        joined = sa.select(artifacts, *SPEC).join(specs, specs.c.id == artifacts.c.spec_id)
        with reading(self.engine) as connection:
            row = connection.execute(joined.where(artifacts.c.sha256 == sha256)).mappings().one_or_none()
        if row is None:
            return None
        names = ("format", "precision", "sha256", "exporter_version", "parity_error", "size_bytes")
        return Artifact(spec_of(row), *(row[name] for name in names))

    def _runs_of(self, spec: str, target: str, sweep: str | None) -> list[tuple[int, Run]]:
        statement = RUN.where(specs.c.key == spec, targets.c.key == target)
        if sweep is not None:
            statement = statement.where(sweeps.c.key == sweep)
        with reading(self.engine) as connection:
            return [(row["id"], run_of(row)) for row in connection.execute(statement).mappings()]


def put_failure(connection: sa.Connection, failure: Failure) -> None:
    """Store a failure that is new, in the writer's transaction."""
    row = {
        "sweep_id": _sweep_id(connection, failure.sweep),
        "spec_id": spec_ids(connection, [failure.spec])[failure.spec.key],
        "target_id": target_ids(connection, [failure.target])[failure.target.key],
        "reason": failure.reason.replace("\0", "\\0"),  # a toolchain's words; PostgreSQL's text has no NUL
    }
    same = sa.select(failures.c.id).where(*(failures.c[name] == value for name, value in row.items()))
    if connection.execute(same.limit(1)).one_or_none() is None:
        connection.execute(failures.insert().values(**row, at=failure.at))


def put_artifacts(connection: sa.Connection, put: Sequence[Artifact]) -> int:
    """Store those artifacts' metadata that are new, in the writer's transaction; return how many were."""
    found = _known_artifacts(connection, [artifact.sha256 for artifact in put])
    new = {artifact.sha256: artifact for artifact in reversed(put) if artifact.sha256 not in found}
    if new:
        names = ("sha256", "format", "precision", "exporter_version", "parity_error", "size_bytes")
        of_spec = spec_ids(connection, [artifact.spec for artifact in new.values()])
        rows = [
            {name: getattr(artifact, name) for name in names} | {"spec_id": of_spec[artifact.spec.key]}
            for artifact in new.values()
        ]
        connection.execute(artifacts.insert(), rows)
    return len(new)


def _known_artifacts(connection: sa.Connection, hashes: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for batch in batches(hashes):
        rows = connection.execute(sa.select(artifacts.c.sha256).where(artifacts.c.sha256.in_(batch)))
        found.update(rows.scalars())
    return found


# Of what every round that an agent sends asks; building a statement costs more than running it.
_SWEEP = sa.select(sweeps.c.id).where(sweeps.c.key == sa.bindparam("sweep"))
_PROCESS = sa.select(processes.c.id).where(
    processes.c.sweep_id == sa.bindparam("sweep_id"), processes.c.name == sa.bindparam("name")
)
_OF_ROUNDS = sa.select(runs.c.process_id, runs.c.spec_id, runs.c.target_id, runs.c.round).where(
    runs.c.process_id == sa.bindparam("process"), runs.c.round.in_(sa.bindparam("rounds", expanding=True))
)


def run_of(row: sa.RowMapping) -> Run:
    """Return the run of a row of RUN."""
    return Run(
        spec_of(row),
        target_of(row),
        row["sweep"],
        row["process"],
        wall_ns=unpack(row["wall_ns"]),
        cpu_ns=unpack(row["cpu_ns"]),
        started_at=row["started_at"],
        facts=Params({**row["facts"], **(row["observed"] or {})}),
        **{name: row[name] for name in _PLAIN},
    )


def put_runs(connection: sa.Connection, put: Sequence[Run], ids: tuple[Ids, Ids] | None = None) -> int:
    """Store those of the runs that are new, in the writer's transaction; return how many were.

    `ids` are those of the runs' specs and targets by key, where the caller has them already.
    """
    of_spec, of_target = ids or (
        spec_ids(connection, [run.spec for run in put]),
        target_ids(connection, [run.target for run in put]),
    )
    of_process = _process_ids(connection, put)
    under = [run.conditions for run in put]
    of_conditions = _condition_ids(connection, under)
    rows: dict[tuple[int, int, int, int], dict[str, Any]] = {}
    for run, facts in zip(put, under, strict=True):
        place = (of_process[run.sweep, run.process], of_spec[run.spec.key], of_target[run.target.key], run.round)
        rows.setdefault(place, _row(run) | {"conditions_id": of_conditions[facts]})
    stored = _stored(connection, {place[0] for place in rows}, sorted({run.round for run in put}))
    new = [place for place in rows if place not in stored]
    names = ("process_id", "spec_id", "target_id", "round")
    if new:
        connection.execute(runs.insert(), [rows[place] | dict(zip(names, place, strict=True)) for place in new])
    return len(new)


def _row(run: Run) -> dict[str, Any]:
    observed = {name: value for name, value in run.facts.items() if name.startswith("observed_")}
    return {
        **{name: getattr(run, name) for name in _PLAIN},
        "started_at": run.started_at,
        "wall_ns": pack(run.wall_ns),
        "cpu_ns": pack(run.cpu_ns),
        "observed": observed or None,
    }


def _stored(connection: sa.Connection, ids: set[int], rounds: Sequence[int]) -> set[tuple[int, int, int, int]]:
    """Return which runs of those processes and rounds are stored."""
    found: set[tuple[int, int, int, int]] = set()
    for process, batch in product(ids, batches(rounds)):
        rows = connection.execute(_OF_ROUNDS, {"process": process, "rounds": batch})
        found.update((row[0], row[1], row[2], row[3]) for row in rows)
    return found


def _sweep_id(connection: sa.Connection, sweep: str) -> int:
    found = connection.execute(_SWEEP, {"sweep": sweep}).scalar_one_or_none()
    if found is None:
        raise InvalidSpec(f"no sweep {sweep!r}: start it first (start_sweep)")
    return int(found)


def _process_ids(connection: sa.Connection, put: Sequence[Run]) -> dict[tuple[str, str], int]:
    """Return the processes' ids by sweep and name, storing those that are new; raise InvalidSpec for an unknown sweep."""
    ids: dict[tuple[str, str], int] = {}
    of_sweep = {sweep: _sweep_id(connection, sweep) for sweep in dict.fromkeys(run.sweep for run in put)}
    for sweep, process in dict.fromkeys((run.sweep, run.process) for run in put):
        row = {"sweep_id": of_sweep[sweep], "name": process}
        found = connection.execute(_PROCESS, row).scalar_one_or_none()
        if found is None:
            found = connection.execute(processes.insert().values(**row).returning(processes.c.id)).scalar_one()
        ids[sweep, process] = found
    return ids


def _condition_ids(connection: sa.Connection, put: Sequence[Params]) -> dict[Params, int]:
    """Return the ids of sets of facts, storing those that are new."""
    keys = {facts: digest(dict(facts)) for facts in dict.fromkeys(put)}
    known = find_ids(connection, conditions, list(keys.values()))
    new = {key: facts for facts, key in keys.items() if key not in known}
    if new:
        connection.execute(conditions.insert(), [{"key": key, "facts": dict(facts)} for key, facts in new.items()])
        known |= find_ids(connection, conditions, list(new))
    return {facts: known[key] for facts, key in keys.items()}
