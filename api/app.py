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

from . import openapi, problems
from .auth import RequireToken
from .deps import Service
from .routes import catalogue, check, entries, latency, networks, runs, service
from .settings import Settings


def create_app(store: SqlStore, settings: Settings | None = None) -> FastAPI:
    """Return the application over a store, which stays its maker's to close."""
    settings = settings or Settings()
    held = Service(store, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        held.close()

    app = _Described(
        title="EdgeLUT",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_name,
    )
    app.state.service = held
    app.router.routes.append(Route("/latency", latency.get_latency, methods=["GET"]))
    for noun in (latency, networks, entries, runs, catalogue, check, service):
        app.include_router(noun.router)
    problems.install(app)
    if settings.token is not None:
        app.add_middleware(RequireToken, token=settings.token)
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
