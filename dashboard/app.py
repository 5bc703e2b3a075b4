"""The application: pages, files and the way in, put together over one service."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.staticfiles import StaticFiles

from . import data, login
from . import pages as pages_package
from .layout import Home, Page, register
from .rest import Service
from .session import Door
from .settings import Settings, is_loopback

STATIC = Path(__file__).parent / "static"
FIRST = ("style.css", "dashboard.js")  # others add to them
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#0a58a8"/>'
    '<path d="M7 24V13h5v11zm7 0V8h5v16zm7 0V16h4v8z" fill="#fff"/></svg>'
)


def create_app(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """Return the dashboard of one service. One a process: the library keeps its pages in the process."""
    home = Home(settings, Service(settings, transport), pages=pages())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await home.feeds.close()
        await home.service.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.home = home
    version = sha256(b"".join(file.read_bytes() for file in sorted(STATIC.iterdir()))).hexdigest()[:12]
    app.mount(f"/static/{version}", StaticFiles(directory=STATIC))
    tags = {
        ".css": '<link rel="stylesheet" href="/static/{}/{}">',
        ".js": '<script src="/static/{}/{}"></script>',
    }
    files = sorted(STATIC.iterdir(), key=lambda file: (file.name not in FIRST, file.name))
    ui.add_head_html("".join(tags[file.suffix].format(version, file.name) for file in files), shared=True)
    login.install(app, home)
    data.install(app, home)
    for page in home.pages:
        register(home, page)
    nicegui_app.on_exception(lambda _: None)
    ui.run_with(
        app,
        title="EdgeLUT",
        favicon=ICON,
        dark=None,
        language="en-US",
        binding_refresh_interval=None,  # nothing is bound: an idle page costs nothing
        reconnect_timeout=10.0,
        tailwind=False,
        show_welcome_message=False,
        # Between processes of one machine packing costs more than it saves.
        gzip_middleware_factory=None if is_loopback(settings.host) else lambda inner: GZipMiddleware(inner, 1000, 5),
    )
    app.add_middleware(Door, settings=settings, sessions=home.sessions)
    return app


def pages() -> tuple[Page, ...]:
    """Return the pages: each module of `dashboard.pages` has its own in PAGES."""
    names = sorted(module.name for module in pkgutil.iter_modules(pages_package.__path__))
    return tuple(page for name in names for page in import_module(f"{pages_package.__name__}.{name}").PAGES)
