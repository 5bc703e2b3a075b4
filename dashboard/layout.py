"""What every page has: the way in, header and navigation, banner, content, footer with its REST calls, and its updates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec
from nicegui import Client, background_tasks, ui
from nicegui.elements.mixins.text_element import TextElement
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from edgelut.errors import EdgelutError, Forbidden, InvalidSpec, ServiceError
from edgelut.types import Target

from .address import Address
from .feeds import Feeds
from .poller import Poller, Watch
from .rest import AWAY, Call, Calls, Service
from .rows import RowCache
from .session import SESSION, Session, Sessions
from .settings import Settings, is_loopback

T = TypeVar("T")
PATIENCE_S = 1.5  # what a page's first answers may take before it is shown without them
GONE = (AWAY, "storage", "internal")  # problems that pass by themselves: the page waits
THEMES = ("auto", "light", "dark")


class Caller(msgspec.Struct, frozen=True):
    """Who asks, as GET /caller says. `guarded` is false where the service asks for no token."""

    name: str = ""
    scopes: tuple[str, ...] = ()
    guarded: bool = False


class NeedsLogin(Exception):
    """The service wants a token, and this session has none that is valid."""


@dataclass(slots=True)
class Home:
    """What all pages of one process share."""

    settings: Settings
    service: Service
    sessions: Sessions = field(default_factory=Sessions)
    poller: Poller = field(default_factory=Poller)
    rows: RowCache = field(default_factory=RowCache)
    pages: tuple[Page, ...] = ()
    feeds: Feeds = field(init=False)

    def __post_init__(self) -> None:
        self.feeds = Feeds(self.settings)

    async def caller(self, token: str | None, fresh_s: float = 4.0) -> Caller:
        """Return who asks with that token; raise NeedsLogin, or ServiceError."""
        try:
            caller = await self.service.shared(Caller, Call.of("GET", "/caller"), token, fresh_s)
        except ServiceError as error:
            if error.problem == "unauthorized":
                raise NeedsLogin from None
            raise
        if not caller.guarded and not is_loopback(self.settings.host):
            raise Forbidden(
                f"others can reach this dashboard at {self.settings.host}, and its service asks for no token: anybody could act. "
                "Make one ('edgelut db token NAME --scope admin'), or start the dashboard with --host 127.0.0.1"
            )
        return caller


Build = Callable[["View"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its path (FastAPI's form), its title, what builds it, and its place in the navigation if it has one."""

    path: str
    title: str
    build: Build
    nav: int | None = None


class View:
    """One open page. `address` is its state, `calls` asks the service for this session, `content` holds what is shown."""

    def __init__(self, home: Home, page: Page, request: Request, caller: Caller) -> None:
        self.home, self.page, self.caller = home, page, caller
        self.client: Client = ui.context.client
        self.session: Session = request.scope[SESSION]
        self.path_params: dict[str, str] = dict(request.path_params)
        self.address = Address(request.url.path, request.query_params.multi_items(), self._moved)
        self.calls = Calls(home.service, lambda: self.session.token, lambda _: self._show_calls())
        self.closed = False  # what was waited for meanwhile is shown to nobody
        self._ends: list[Callable[[], None]] = []
        self._built = False
        self.client.on_delete(self._end)
        with self.client.layout:  # outside <main>, before it
            header(self).move(target_index=0)
        self._banner = ui.element("div").props("role=status aria-live=polite")
        with ui.element("div").classes("el-main").props("tabindex=-1") as main:
            self.heading = Text("", "h1")
            self.content = ui.element("div")
            self._footer = ui.element("section").classes("el-calls").props('aria-label="REST calls"')
        ui.skip_link("Skip to content", target=main)
        self.title(page.title)

    def title(self, text: str) -> None:
        """Set the heading and the window's title."""
        self.heading.set_text(text)
        self.client.title = f"{text} · EdgeLUT"
        if self._built:
            self.js(f"document.title = {json.dumps(self.client.title)}")

    def why_not(self, scope: str = "submit") -> str:
        """Return why this session may not do what needs a scope; empty where it may."""
        if not self.caller.guarded or scope in self.caller.scopes:
            return ""
        return f"the token {self.caller.name!r} may look only: this needs the scope {scope}"

    def on_end(self, end: Callable[[], None]) -> None:
        """Call this once the page is closed."""
        self._ends.append(end)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that the page is not to wait for; what it makes goes into `content`, and so does a refusal."""

        async def inside() -> None:
            with self.content:
                try:
                    await work
                except EdgelutError as error:
                    problem(error)

        background_tasks.create(inside(), name=f"beside {self.page.path}")

    def js(self, code: str) -> None:
        """Run JavaScript in the page."""
        self.client.run_javascript(code)

    def watch(
        self,
        type_: type[T],
        path: str,
        told: Callable[[T], Coroutine[Any, Any, None]],
        *,
        every_s: float | None = None,
        failed: Callable[[EdgelutError], Coroutine[Any, Any, None]] | None = None,
        **params: Any,
    ) -> Callable[[], None]:
        """Read a resource again and again, together with all pages of this token, and tell every change while the page is open.

        Returns what ends it earlier. Elements that `told` makes go into `content` unless it enters others.
        """
        call = Call.of("GET", path, params)
        self.calls.note(call)
        token, service = self.session.token, self.home.service
        every = every_s or self.home.settings.poll_s

        async def inside(value: T) -> None:
            with self.content:
                await told(value)

        async def refused(error: EdgelutError) -> None:
            with self.content:
                await (failed or self.complain)(error)

        end = self.home.poller.watch(
            (token, call, type_), lambda: service.ask(type_, call, token), Watch(inside, refused), every
        )
        self._ends.append(end)
        return end

    async def complain(self, error: EdgelutError) -> None:
        """Say what went wrong, for as long as it takes to read it."""
        ui.notify(str(error), type="negative", timeout=8000, close_button="Close", multi_line=True)

    async def show(self) -> None:
        """Build the page; what the service refuses is said in its place, and a service that is away is waited for."""
        poller, token = self.home.poller, self.session.token
        self._ends.append(poller.watch_away(self._away))
        alive = Watch(_nothing, self._refused)
        self._ends.append(
            poller.watch(("caller", token), lambda: self.home.caller(token, 0.0), alive, self.home.settings.poll_s)
        )
        building = asyncio.ensure_future(self._build())
        done, _ = await asyncio.wait([building], timeout=PATIENCE_S)
        if not done:
            await self.client.connected()
            await building
        self._show_calls()

    async def _build(self) -> None:
        with self.content:
            try:
                await self.page.build(self)
                self._built = True
            except EdgelutError as error:
                if isinstance(error, ServiceError) and error.problem in GONE:
                    await self.home.poller.note(error)
                    await self._away(error)
                else:
                    problem(error)

    async def _away(self, error: ServiceError | None) -> None:
        """Show the banner while the service is away; a page that could not be built is loaded again when it is back."""
        self._banner.clear()
        if error is None:
            if not self._built:
                self.js("location.reload()")
            return
        with self._banner, ui.element("div").classes("el-banner"):
            text(f"The service does not answer ({error}). This page goes on by itself as soon as it does.")

    async def _refused(self, error: EdgelutError) -> None:
        if isinstance(error, ServiceError) and error.problem == "unauthorized":
            self.js(f"location.assign({json.dumps(login_link(str(self.address)))})")

    def _moved(self, changes: dict[str, str | None]) -> None:
        self.js(f"edgelut.address({json.dumps(changes)})")

    def _show_calls(self) -> None:
        self._footer.clear()
        with self._footer, ui.element("details"):
            with ui.element("summary"):
                text("REST: the calls behind this page")
            for call in self.calls.asked.values():
                with ui.element("pre").props("tabindex=0"):
                    text(call.curl(self.home.settings.public_url, self.caller.guarded))

    def _end(self) -> None:
        self.closed = True
        for end in self._ends:
            end()
        self._ends.clear()


def register(home: Home, page: Page) -> None:
    """Let a page be opened at its path."""

    @ui.page(page.path, title=f"{page.title} · EdgeLUT")
    async def show(request: Request) -> Response | None:
        session: Session = request.scope[SESSION]
        try:
            caller = await home.caller(session.token)
        except NeedsLogin:
            home.sessions.log_out(session)
            return RedirectResponse(login_link(str(Address(request.url.path, request.query_params.multi_items()))), 303)
        except Forbidden as error:
            return PlainTextResponse(str(error), 403)
        except EdgelutError:
            caller = Caller()  # away: the page says so itself
        await View(home, page, request, caller).show()
        return None


def header(view: View) -> ui.element:
    """Add the navigation, the theme, and who is logged in."""
    with ui.element("header").classes("el-top") as made:
        ui.link("EdgeLUT", "/").classes("el-brand")
        with ui.element("nav").classes("el-nav").props('aria-label="Pages"'):
            for page in sorted((one for one in view.home.pages if one.nav is not None), key=lambda one: one.nav or 0):
                entry = ui.link(page.title, page.path)
                if page.path == view.page.path:
                    entry.props("aria-current=page")
        with ui.element("div").classes("el-tools"):
            theme(view.client.request.cookies.get("edgelut-theme", "auto"))
            if view.caller.guarded:
                logout(view.caller)
    return made


def theme(chosen: str) -> None:
    """Add the choice of light, dark or what the system says; the browser remembers it in a cookie."""
    values = {"auto": None, "light": False, "dark": True}
    dark = ui.dark_mode(values.get(chosen))

    def choose(name: str) -> None:
        dark.set_value(values[name])
        ui.run_javascript(f"edgelut.remember({json.dumps(name)})")

    ui.select(
        list(THEMES),
        value=chosen if chosen in THEMES else "auto",
        label="Theme",
        on_change=lambda event: choose(event.value),
    ).props("dense outlined options-dense").style("min-width: 92px")


def logout(caller: Caller) -> None:
    """Add who is logged in and the way out."""
    with ui.element("form").props('method=post action="/logout"').classes("el-row"):
        text(caller.name).classes("el-soft el-small")
        with ui.element("button").props("type=submit").classes("q-btn el-button"):
            text("Log out")


class Text(TextElement):
    """Text in an element of its own, shown as it is."""

    def __init__(self, content: str, tag: str = "span") -> None:
        super().__init__(tag=tag, text=content)


def text(content: str, tag: str = "span") -> Text:
    """Add text."""
    return Text(content, tag)


def button(
    label: str,
    on_click: Callable[..., Any] | None = None,
    *,
    js: str = "",
    why_not: str = "",
    kind: Literal["plain", "primary"] = "plain",
) -> ui.button:
    """Add a button; with a reason `why_not` it is disabled and says it. `js` runs in the browser alone."""
    made = ui.button(label, on_click=on_click if not why_not else None, color=None)
    made.props("flat no-caps").classes(f"el-button {kind}")
    if js and not why_not:
        made.on("click", js_handler=f"() => {js}")
    if why_not:
        made.disable()
        made.props(f'aria-label="{_attribute(f"{label}: {why_not}")}" title="{_attribute(why_not)}"')
        with made:
            ui.tooltip(why_not)
    return made


def problem(error: Exception) -> None:
    """Say in place of what was asked for why it is not there."""
    with ui.element("div").classes("el-bad").props("role=alert"):
        text(str(error))


def card(title: str = "", *, level: int = 2) -> ui.element:
    """Add a card with a heading; enter it to fill it."""
    made = ui.element("section").classes("el-card")
    if title:
        made.props(f'aria-label="{_attribute(title)}"')
        with made:
            text(title, f"h{level}")
    return made


def facts(pairs: dict[str, str]) -> None:
    """Add names with their values."""
    with ui.element("dl").classes("el-facts"):
        for name, value in pairs.items():
            text(name, "dt")
            text(value, "dd")


def target_of_query(query: Mapping[str, str]) -> Target:
    """Return the target that an address names; raise InvalidSpec."""
    threads = query.get("threads", "1")
    if not (threads.isascii() and threads.isdigit()):
        raise InvalidSpec(f"threads must be a whole number, not {threads!r}")
    return Target(
        query.get("device", ""),
        query.get("runtime", ""),
        query.get("precision") or "fp32",
        int(threads),
        query.get("unit") or "cpu",
    )


def login_link(to: str) -> str:
    """Return where to log in to come back to an address."""
    return "/login" if to in ("", "/") else f"/login?to={quote(to, safe='')}"


def _attribute(content: str) -> str:
    return content.replace('"', "'")


async def _nothing(_: object) -> None:
    return None
