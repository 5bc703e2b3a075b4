"""What grids load by themselves: rows as columns of figures, without a detour over the page's socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edgelut.errors import EdgelutError

from .layout import Home, NeedsLogin, target_of_query
from .rest import Calls
from .rows import JOINED, Found, Rows, choose
from .session import SESSION, Session


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
            kept = packed[key] = (found, await asyncio.to_thread(pack, rows))
        return Response(kept[1], media_type="application/json", headers={"Cache-Control": "no-store"})


def pack(rows: Sequence[Found]) -> bytes:
    """Return rows as columns: names once, and for each the values of all rows."""
    columns = {**_specs(rows), **_figures(rows), **_words(rows)}
    return msgspec.json.encode({"names": tuple(columns), "columns": tuple(columns.values())})


def _specs(rows: Sequence[Found]) -> dict[str, list[Any]]:
    words: dict[tuple[object, ...], str] = {}  # few are distinct

    def parameters(row: Found) -> str:
        key = tuple(row.spec.params.items())
        if key not in words:
            words[key] = ", ".join(f"{name}={value}" for name, value in sorted(row.spec.params.items()))
        return words[key]

    return {
        "id": [row.id for row in rows],
        "block": [row.spec.kind for row in rows],
        "width": [row.spec.width_in for row in rows],
        "width_out": [row.spec.width_out for row in rows],
        "resolution": [row.spec.resolution for row in rows],
        "batch": [row.spec.batch for row in rows],
        "params": [row.variant for row in rows],
        "all_params": [parameters(row) for row in rows],
    }


def _figures(rows: Sequence[Found]) -> dict[str, list[Any]]:
    latencies = [(row.latency, row.in_unit(1.0)) for row in rows]

    def unit(value: float | None, scale: float) -> float | None:
        return None if value is None else float(f"{value * scale:.6g}")

    return {
        "value": [unit(one.p10_ns, scale) for one, scale in latencies],
        "low": [unit(one.low_ns, scale) for one, scale in latencies],
        "high": [unit(one.high_ns, scale) for one, scale in latencies],
        "half": [round(one.half_width, 5) if one.p10_ns else None for one, _ in latencies],
        "p50": [unit(one.p50_ns, scale) for one, scale in latencies],
        "slope": [unit(one.context_ns if one.slope_ns is None else one.slope_ns, scale) for one, scale in latencies],
        "cold": [unit(one.cold_ns, scale) for one, scale in latencies],
        "runs": [one.runs for one, _ in latencies],
    }


def _words(rows: Sequence[Found]) -> dict[str, list[Any]]:
    return {
        "standing": [row.standing for row in rows],
        "doubts": [JOINED.join(row.latency.doubts) for row in rows],
        "measured_at": [row.measured_at[:19].replace("T", " ") for row in rows],
        "href": [f"/entry/{row.id}" for row in rows],
    }
