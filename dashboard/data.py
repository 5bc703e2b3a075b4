"""What grids load by themselves: rows as columns of figures, without a detour over the page's socket."""

from __future__ import annotations

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edgelut.errors import EdgelutError

from .layout import Home, NeedsLogin, target_of_query
from .rest import Calls
from .rows import Found, Rows, choose
from .session import SESSION, Session

NAMES = (
    "id",
    "block",
    "width",
    "width_out",
    "resolution",
    "batch",
    "params",
    "value",
    "low",
    "high",
    "half",
    "p50",
    "slope",
    "cold",
    "runs",
    "standing",
    "doubts",
    "measured_at",
    "href",
    "all_params",
)


def install(app: FastAPI, home: Home) -> None:
    """Add the route that a target's rows are loaded from."""
    packed: dict[tuple[str | None, str, tuple[str, ...]], tuple[Rows, bytes]] = {}

    @app.get("/data/rows")
    async def answer(request: Request) -> Response:
        session: Session = request.scope[SESSION]
        query = dict(request.query_params)
        calls = Calls(home.service, lambda: session.token)
        chosen = (query.get("block", ""), query.get("variant", ""), query.get("measure", "time"))
        try:
            await home.caller(session.token)  # what is kept here is for who may read it now
            target = target_of_query(query)
            found = await home.rows.get(calls, target, query.get("version", ""))
        except NeedsLogin:
            return PlainTextResponse("log in first", 401)
        except EdgelutError as error:
            return PlainTextResponse(str(error), 502)
        key = (session.token, str(target), chosen)
        kept = packed.get(key)
        if kept is None or kept[0] is not found:
            if len(packed) > 12:
                packed.clear()
            block, variant, measure = chosen
            rows = choose(found.rows, block=block, variant=variant, measure=measure)
            kept = packed[key] = (found, pack(rows))
        return Response(kept[1], media_type="application/json", headers={"Cache-Control": "no-store"})


def pack(rows: list[Found]) -> bytes:
    """Return rows as columns: names once, and for each the values of all rows."""
    columns = list(map(list, zip(*map(_line, rows), strict=True))) if rows else []
    return msgspec.json.encode({"names": NAMES, "columns": columns})


def _line(row: Found) -> tuple[object, ...]:
    latency, spec = row.latency, row.spec

    def unit(value: float | None) -> float | None:
        return None if value is None else float(f"{row.in_unit(value):.6g}")

    half = (latency.high_ns - latency.low_ns) / 2 / latency.p10_ns if latency.p10_ns else None
    return (
        row.id,
        spec.kind,
        spec.width_in,
        spec.width_out,
        spec.resolution,
        spec.batch,
        row.variant,
        unit(latency.p10_ns),
        unit(latency.low_ns),
        unit(latency.high_ns),
        None if half is None else round(half, 5),
        unit(latency.p50_ns),
        unit(latency.slope_ns if latency.slope_ns is not None else latency.context_ns),
        unit(latency.cold_ns),
        latency.runs,
        row.standing,
        "; ".join(latency.doubts),
        row.measured_at[:19].replace("T", " "),
        f"/entry/{row.id}",
        ", ".join(f"{name}={value}" for name, value in sorted(spec.params.items())),
    )
