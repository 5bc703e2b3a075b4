"""The fleet: agents with their devices, who holds which device, and what is claimed next.

A lease lives while its `beat` grows: with each sign of life of its session, beats of all its leases grow by one. Whoever watches
them by a clock that cannot be set (`jobs`) frees those that stand still; times in the rows are for people.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from edgelut import wire
from edgelut.errors import Conflict, Forbidden, InvalidSpec
from edgelut.jobs import Agent, Announcement, BatchPoint, Claim, DeviceInfo, FleetDevice, Pulse, RuntimeInfo
from edgelut.plan import Policy, describe
from edgelut.types import Params

from .batches import LEASE_S, LEASED, MOST_FRUITLESS, beat, release
from .connect import Database, reading, writing
from .job_rows import POINT, baseline_of, log, now, point_of, words
from .rows import batches as pieces
from .rows import storable
from .schema import agents, batches, devices, jobs, leases, points, sweeps

LIVE_S = 30.0  # an agent that was not heard of for so long is away

# The batch that is next on each of an agent's free devices: one step in ix_batches_claim for each.
_FREE = sa.select(devices.c.name).where(
    devices.c.name.in_(sa.bindparam("names", expanding=True)),
    devices.c.usable.is_(sa.true()),
    devices.c.name.not_in(sa.select(leases.c.device)),
)
_ORDER = (batches.c.rank, batches.c.job_id, batches.c.number)
_NEXT = (
    sa.select(batches.c.id)
    .where(batches.c.device == devices.c.name, batches.c.state == "open")
    .order_by(*_ORDER)
    .limit(1)
    .correlate(devices)
    .scalar_subquery()
)
_WAITS = _FREE.with_only_columns(devices.c.id).where(_NEXT.is_not(None)).limit(1)
_firsts = (
    _FREE.with_only_columns(_NEXT.label("id")).where(devices.c.agent_id == sa.bindparam("agent")).subquery("firsts")
)
_CLAIMED = (
    sa.select(
        batches,
        *(jobs.c[name] for name in ("policy", "again", "compares", "environment")),
        jobs.c.key.label("job_key"),
        jobs.c.state.label("job_state"),
    )
    .join(_firsts, _firsts.c.id == batches.c.id)
    .join(jobs, jobs.c.id == batches.c.job_id)
    .order_by(*_ORDER)
    .limit(1)
)

_HELD = (
    sa.select(
        batches,
        *(jobs.c[name] for name in ("policy", "again", "compares", "environment")),
        jobs.c.key.label("job_key"),
        leases.c.token,
    )
    .join(leases, leases.c.batch_id == batches.c.id)
    .join(jobs, jobs.c.id == batches.c.job_id)
    .where(leases.c.session == sa.bindparam("session"), leases.c.device.in_(sa.bindparam("names", expanding=True)))
    .order_by(*_ORDER)
)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds a device. `beat` grows with each sign of life of the session; a lease whose beat stands still is dead."""

    device: str
    token: str
    session: str
    batch: str
    beat: int


class SqlFleet(Database):
    """Agents, devices and leases in SQLite or PostgreSQL."""

    def announce(
        self, announcement: Announcement, token_devices: Sequence[str] = (), live_s: float = LIVE_S
    ) -> list[str]:
        """Take in what an agent says of itself; return the batches that this freed.

        A new session of an installation ends the old one, and what that held is free at once. Raises Conflict where the name
        is held by another installation or a device by another agent, and that one was heard of within `live_s`; Forbidden for
        a device that the token is not bound to (no devices: bound to none in particular); InvalidSpec for names that are none.
        """
        _check_announcement(announcement)
        _check_bound(announcement.devices, token_devices)
        with writing(self.engine) as connection:
            same, named = _agents_like(connection, announcement)
            if (
                named is not None
                and named.installation != announcement.installation
                and _is_live(named.seen_at, live_s)
            ):
                raise Conflict(
                    f"agent {announcement.name!r} is another installation, heard of {_ago(named.seen_at)}: "
                    "give this one another name, or stop that one"
                )
            freed: list[str] = []
            if same is not None and same.session != announcement.session:
                freed = _free(
                    connection,
                    _leased(connection, leases.c.session, [same.session]),
                    f"agent {same.name} was started again",
                )
            agent_id = _put_agent(connection, announcement, token_devices, same, named)
            _put_devices(connection, agent_id, announcement.devices, live_s)
            return freed

    def pulse(self, name: str, session: str, devices: Sequence[DeviceInfo] | None = None) -> Pulse:
        """Note that an agent lives, and its devices where they changed; say which of its batches it should stop.

        Raises Conflict (`session`) for a session that is not the agent's, and what `announce` raises for devices; those that
        its token is bound to are the ones that it was announced with.
        """
        with writing(self.engine) as connection:
            agent_id, bound = _get_agent(connection, name, session)
            connection.execute(agents.update().where(agents.c.id == agent_id).values(seen_at=now()))
            beat(connection, session)
            if devices is not None:
                _check_devices(devices)
                _check_bound(devices, bound)
                _put_devices(connection, agent_id, devices, LIVE_S)
            return Pulse(tuple(_to_stop(connection, session)))

    def agents(self, live_s: float = LIVE_S) -> list[Agent]:
        """Return the agents in order of their names; one that was heard of within `live_s` is live."""
        with reading(self.engine) as connection:
            owned: dict[int, list[str]] = {}
            for agent_id, name in connection.execute(
                sa.select(devices.c.agent_id, devices.c.name).order_by(devices.c.name)
            ):
                owned.setdefault(agent_id, []).append(name)
            rows = connection.execute(sa.select(agents).order_by(agents.c.name)).all()
        return [_agent(row, live_s, owned.get(row.id, [])) for row in rows]

    def fleet(self, live_s: float = LIVE_S) -> list[FleetDevice]:
        """Return every device in order of their names: whose it is, what it is doing, and how many points wait for it."""
        statement = (
            sa.select(devices, agents.c.name.label("agent"), agents.c.seen_at, jobs.c.key.label("job"))
            .join(agents, agents.c.id == devices.c.agent_id)
            .join(leases, leases.c.device == devices.c.name, isouter=True)
            .join(batches, batches.c.id == leases.c.batch_id, isouter=True)
            .join(jobs, jobs.c.id == batches.c.job_id, isouter=True)
            .order_by(devices.c.name)
        )
        with reading(self.engine) as connection:
            waiting = {device: count for device, count in connection.execute(_WAITING)}
            return [_fleet_device(row, waiting, live_s) for row in connection.execute(statement)]

    def leases(self) -> list[Lease]:
        """Return the leases there are."""
        columns = (leases.c.device, leases.c.token, leases.c.session, batches.c.key, leases.c.beat)
        # An outer join, though every lease has its batch: it makes SQLite begin with the few leases, not with all batches.
        joined = leases.join(batches, batches.c.id == leases.c.batch_id, isouter=True)
        statement = sa.select(*columns).select_from(joined).order_by(leases.c.id)
        with reading(self.engine) as connection:
            return [Lease(*row) for row in connection.execute(statement)]

    def free_leases(self, dead: Sequence[tuple[str, int]], why: str = "its agent was not heard of") -> list[str]:
        """Free the leases of those tokens whose beat is still the one that was seen; return the batches."""
        seen = dict(dead)
        with writing(self.engine) as connection:
            rows = _leased(connection, leases.c.token, list(seen))
            return _free(connection, [row for row in rows if row.beat == seen[row.token]], why)

    def has_work(self, devices: Sequence[str]) -> bool:
        """Say whether a batch waits for one of the devices that nobody holds; a read that waits for nobody."""
        with reading(self.engine) as connection:
            return connection.execute(_WAITS, {"names": list(devices)}).first() is not None

    def claim(self, name: str, session: str, devices: Sequence[str]) -> Claim | None:
        """Give an agent the next batch of its free devices, or None: by priority, then the older job, then the first batch.

        Devices that are not the agent's own, not usable or held by another are passed over. A device that this very session
        holds is called free by an agent that never got the answer to its claim, or whose word that it finished was never
        heard: it is given the same batch under the same lease, or the device is free if nothing of that batch is open.
        Raises Conflict (`session`) for a session that is not the agent's: it has to announce itself again.
        """
        asked = {"names": list(devices), "session": session}
        with writing(self.engine) as connection:
            agent_id, _ = _get_agent(connection, name, session)
            for held in connection.execute(_HELD, asked).mappings().all():
                if held["state"] == "claimed" and held["fruitless"] < MOST_FRUITLESS:
                    return _give_again(connection, held)
                ended = _leased(connection, leases.c.token, [held["token"]])
                release(connection, ended[0], "its agent said that the device was free", lost=False)
            found = connection.execute(_CLAIMED, {"names": list(devices), "agent": agent_id}).mappings().first()
            return None if found is None else _take(connection, found, name, session)


_WAITING = (
    sa.select(batches.c.device, sa.func.count())
    .join(points, points.c.batch_id == batches.c.id)
    .where(batches.c.state.in_(("open", "claimed")), points.c.state == "open")
    .group_by(batches.c.device)
)


def _check_announcement(announcement: Announcement) -> None:
    names = {"name": announcement.name, "installation": announcement.installation, "session": announcement.session}
    for what, name in names.items():
        _check_name(f"an agent's {what}", name)
    _check_devices(announcement.devices)


def _check_devices(announced: Sequence[DeviceInfo]) -> None:
    seen: set[str] = set()
    for device in announced:
        _check_name("a device's name", device.name)
        if "/" in device.name or device.name in seen:
            raise InvalidSpec(f"a device's name has no '/' and is announced once, not {device.name!r}")
        seen.add(device.name)


def _check_name(what: str, name: str) -> None:
    if not 1 <= len(name) <= 200 or not name.isprintable() or not storable(name):
        raise InvalidSpec(f"{what} has 1 to 200 printable characters, not {name[:250]!r}")


def _check_bound(announced: Sequence[DeviceInfo], bound: Sequence[str]) -> None:
    """Raise Forbidden for a device that a token is not for."""
    others = [device.name for device in announced if bound and device.name not in bound]
    if others:
        raise Forbidden(f"this token is for {', '.join(bound)} and not for {', '.join(others)}")


def _is_live(seen_at: datetime, live_s: float) -> bool:
    """Say whether an agent was heard of lately. A time to come is a clock that was set back, and says nothing."""
    return abs((now() - seen_at).total_seconds()) <= live_s


def _ago(seen_at: datetime) -> str:
    return f"{max(0.0, (now() - seen_at).total_seconds()):.0f} s ago"


def _agents_like(
    connection: sa.Connection, announcement: Announcement
) -> tuple[sa.Row[Any] | None, sa.Row[Any] | None]:
    """Return the agent of that installation, and the one of that name."""
    which = (agents.c.installation == announcement.installation, agents.c.name == announcement.name)
    same, named = (connection.execute(sa.select(agents).where(one)).one_or_none() for one in which)
    return same, named


def _put_agent(
    connection: sa.Connection,
    said: Announcement,
    bound: Sequence[str],
    same: sa.Row[Any] | None,
    named: sa.Row[Any] | None,
) -> int:
    """Store what an agent says of itself; return its row id. An installation that has another name now keeps its row."""
    row = {name: getattr(said, name) for name in ("name", "installation", "session")}
    row |= {"version": words(said.version), "facts": dict(said.facts), "environments": list(said.environments)}
    row |= {"bound": list(bound), "announced_at": now(), "seen_at": now()}
    if same is not None and named is not None and same.id != named.id:  # the name of one that is away
        connection.execute(devices.update().where(devices.c.agent_id == named.id).values(agent_id=same.id))
        connection.execute(agents.delete().where(agents.c.id == named.id))
    kept = same if same is not None else named
    if kept is None:
        return int(connection.execute(agents.insert().values(row).returning(agents.c.id)).scalar_one())
    connection.execute(agents.update().where(agents.c.id == kept.id).values(row))
    return int(kept.id)


def _put_devices(connection: sa.Connection, agent_id: int, said: Sequence[DeviceInfo], live_s: float) -> None:
    """Store an agent's devices as it tells them. One that it does not tell of any more is forgotten, unless points wait for it."""
    owners = sa.select(devices.c.id, devices.c.name, devices.c.agent_id, agents.c.name.label("agent"), agents.c.seen_at)
    joined = owners.join(agents, agents.c.id == devices.c.agent_id)
    which = sa.or_(devices.c.agent_id == agent_id, devices.c.name.in_([device.name for device in said]))
    known = {row.name: row for row in connection.execute(joined.where(which))}
    for device in said:
        found = known.pop(device.name, None)
        if found is not None and found.agent_id != agent_id and _is_live(found.seen_at, live_s):
            raise Conflict(
                f"device {device.name!r} is agent {found.agent}'s, heard of {_ago(found.seen_at)}: "
                "give this one another name (--device LOCAL=NAME)"
            )
        row = {"agent_id": agent_id, "facts": dict(device.facts), "runtimes": wire.dump(device.runtimes)}
        row |= {"usable": device.usable, "reason": words(device.reason)}
        if found is None:
            connection.execute(devices.insert().values(row | {"name": device.name}))
        else:
            connection.execute(devices.update().where(devices.c.id == found.id).values(row))
    for name, found in known.items():
        _forget_device(connection, found.id, name)


def _forget_device(connection: sa.Connection, id_: int, name: str) -> None:
    """Forget a device that is announced no more; where batches wait for it, say so to who looks for the reason."""
    waits = sa.select(batches.c.id).where(batches.c.device == name, batches.c.state.in_(("open", "claimed"))).limit(1)
    if connection.execute(waits).first() is None:
        connection.execute(devices.delete().where(devices.c.id == id_))
    else:
        gone = {"usable": False, "reason": "its agent does not announce it any more"}
        connection.execute(devices.update().where(devices.c.id == id_).values(gone))


def _get_agent(connection: sa.Connection, name: str, session: str) -> tuple[int, list[str]]:
    """Return an agent's row id and the devices that its token is for; raise Conflict where that is not its session."""
    mine = sa.select(agents.c.id, agents.c.bound).where(agents.c.name == name, agents.c.session == session)
    found = connection.execute(mine).one_or_none()
    if found is None:
        raise Conflict(f"agent {name!r} has no such session: announce it again", problem="session")
    return int(found.id), list(found.bound)


def _leased(connection: sa.Connection, column: sa.Column[str], values: Sequence[str]) -> list[sa.Row[Any]]:
    """Return the leases that a column finds, with their batches."""
    found: list[sa.Row[Any]] = []
    for piece in pieces(values):
        found += connection.execute(LEASED.where(column.in_(piece)).order_by(leases.c.id)).all()
    return found


def _free(connection: sa.Connection, held: Sequence[sa.Row[Any]], why: str) -> list[str]:
    """End leases; return their batches."""
    for row in held:
        release(connection, row, why, lost=True)
    return [row.key for row in held]


def _to_stop(connection: sa.Connection, session: str) -> list[str]:
    """Return the batches of a session that nobody wants any more, or that it lost."""
    held = sa.select(batches.c.key).join(leases, leases.c.batch_id == batches.c.id)
    unwanted = held.where(leases.c.session == session, batches.c.cancelled.is_(sa.true()))
    lost = sa.select(batches.c.key).where(batches.c.lost_by == session, batches.c.state != "closed")
    return [*connection.execute(unwanted).scalars(), *connection.execute(lost).scalars()]


def _take(connection: sa.Connection, row: sa.RowMapping, name: str, session: str) -> Claim:
    """Give a batch to an agent."""
    open_ = _open_points(connection, row["id"])
    at, token = now(), uuid.uuid4().hex
    lease = {"device": row["device"], "token": token, "batch_id": row["id"], "agent": name, "session": session}
    lease |= {"beat": 0, "taken_at": at, "expires_at": at + timedelta(seconds=LEASE_S)}
    connection.execute(leases.insert().values(lease))
    plan = dict(describe([one.point for one in open_], wire.load(Policy, row["policy"])))
    plan |= {"job": row["job_key"], "batch": row["key"]}
    sweep_id, sweep = _sweep(connection, row["sweep_id"], f"batch {row['key']}", plan)
    change: dict[str, Any] = {"state": "claimed", "agent": name, "claimed_at": at, "lost_by": None, "progress": None}
    change |= {"attempts": row["attempts"] + 1, "fruitless": row["fruitless"] + 1, "sweep_id": sweep_id}
    baseline_sweep = ""
    if row["compares"]:
        plan_key = f"baseline of batch {row['key']}"
        change["baseline_sweep_id"], baseline_sweep = _sweep(connection, row["baseline_sweep_id"], plan_key, plan)
    connection.execute(batches.update().where(batches.c.id == row["id"]).values(change))
    if row["job_state"] == "queued":
        started = sa.func.coalesce(jobs.c.started_at, sa.literal(at, jobs.c.started_at.type))
        connection.execute(jobs.update().where(jobs.c.id == row["job_id"]).values(state="running", started_at=started))
    again = "taken up again" if row["attempts"] else f"({len(open_)} points) taken"
    log(connection, row["job_id"], "info", f"batch {row['number']} on {row['device']} {again} by agent {name}")
    return _claim(row, token, sweep, baseline_sweep, open_)


def _give_again(connection: sa.Connection, row: sa.RowMapping) -> Claim:
    """Return the claim that an agent holds already. It counts as an attempt: an agent may fail over it each time."""
    count = {"attempts": row["attempts"] + 1, "fruitless": row["fruitless"] + 1}
    connection.execute(batches.update().where(batches.c.id == row["id"]).values(count))
    ids = [id_ for id_ in (row["sweep_id"], row["baseline_sweep_id"]) if id_ is not None]
    found = connection.execute(sa.select(sweeps.c.id, sweeps.c.key).where(sweeps.c.id.in_(ids)))
    keys = {id_: str(key) for id_, key in found}
    baseline_sweep = keys.get(row["baseline_sweep_id"], "")
    return _claim(row, row["token"], keys[row["sweep_id"]], baseline_sweep, _open_points(connection, row["id"]))


def _open_points(connection: sa.Connection, batch_id: int) -> tuple[BatchPoint, ...]:
    which = (points.c.batch_id == batch_id, points.c.state == "open")
    rows = connection.execute(POINT.where(*which)).mappings()
    return tuple(BatchPoint(row["number"], point_of(row), baseline_of(row)) for row in rows)


def _claim(
    row: sa.RowMapping, token: str, sweep: str, baseline_sweep: str, open_points: tuple[BatchPoint, ...]
) -> Claim:
    return Claim(
        batch=row["key"],
        job=row["job_key"],
        device=row["device"],
        lease=token,
        sweep=sweep,
        points=open_points,
        policy=wire.load(Policy, row["policy"]),
        again=row["again"],
        baseline_sweep=baseline_sweep,
        environment=row["environment"],
    )


def _sweep(connection: sa.Connection, id_: int | None, plan_key: str, plan: dict[str, Any]) -> tuple[int, str]:
    """Return the row id and the id of a batch's sweep, now running, which comes to be with the first claim.

    Its plan's key is the batch's own: `edgelut profile` on the same database must not take it for its own that was cut off.
    """
    if id_ is None:
        row = {"key": uuid.uuid4().hex, "plan_key": plan_key, "plan": plan, "state": "running", "started_at": now()}
        return int(connection.execute(sweeps.insert().values(row).returning(sweeps.c.id)).scalar_one()), str(row["key"])
    connection.execute(sweeps.update().where(sweeps.c.id == id_).values(state="running", finished_at=None))
    return id_, str(connection.execute(sa.select(sweeps.c.key).where(sweeps.c.id == id_)).scalar_one())


def _agent(row: sa.Row[Any], live_s: float, owned: Sequence[str]) -> Agent:
    return Agent(
        name=row.name,
        version=row.version,
        live=_is_live(row.seen_at, live_s),
        seen_at=row.seen_at,
        facts=Params(row.facts),
        devices=tuple(owned),
        environments=tuple(row.environments),
    )


def _fleet_device(row: sa.Row[Any], waiting: dict[str, int], live_s: float) -> FleetDevice:
    runtimes = tuple(wire.load(RuntimeInfo, runtime) for runtime in row.runtimes)
    info = DeviceInfo(row.name, Params(row.facts), runtimes, row.usable, row.reason)
    state: Literal["idle", "measuring", "unusable", "away"] = "idle"
    if not _is_live(row.seen_at, live_s):
        state = "away"
    elif row.job is not None:
        state = "measuring"
    elif not row.usable:
        state = "unusable"
    return FleetDevice(info, row.agent, state, row.seen_at, row.job or "", waiting.get(row.name, 0))
