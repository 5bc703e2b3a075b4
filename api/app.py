"""The application: routes, refusals and the token put together over one store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from db.store import SqlStore
from edgelut import __version__
from jobs.service import Jobs

from . import openapi, problems
from .auth import Authenticate, Guarded, needing
from .deps import Service
from .routes import (
    agents,
    batches,
    catalogue,
    check,
    entries,
    estimates,
    latency,
    marks,
    networks,
    runs,
    searches,
    service,
    tokens,
)
from .routes import (
    jobs as job_routes,
)
from .settings import Settings

NOUNS = (
    latency,
    estimates,
    networks,
    entries,
    runs,
    catalogue,
    check,
    job_routes,
    agents,
    batches,
    marks,
    searches,
    tokens,
    service,
)


def create_app(store: SqlStore, settings: Settings | None = None, jobs: Jobs | None = None) -> FastAPI:
    """Return the application over a store, which stays its maker's to close.

    The app starts and stops the jobs that it is given, with their engine; without any it has a facade that only answers.
    """
    held = Service(store, settings or Settings(), jobs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        held.begin()
        await held.work(held.start)
        yield
        held.end()
        await held.work(held.close)

    app = _Described(
        title="EdgeLUT",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_name,
    )
    app.state.service = held
    app.router.routes.append(Route("/latency", needing("read", latency.get_latency), methods=["GET"]))
    for noun in NOUNS:
        assert noun.router.route_class is Guarded, f"{noun.__name__}: its routes would be open to everybody"
        app.include_router(noun.router)
    problems.install(app)
    app.add_middleware(Authenticate, guard=held.guard)
    return app


def _name(route: APIRoute) -> str:
    return route.name


class _Described(FastAPI):
    """An app whose OpenAPI holds the endpoints that are described by hand too."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.document(self)
        return self.openapi_schema
