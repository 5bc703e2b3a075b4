"""The service's REST API as pages ask it: one set of connections, answers that many pages want asked for once, refusals raised.

Every call carries the token of the session that it is made for, and answers are shared between sessions of the same token only.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from edgelut import __version__, wire
from edgelut.errors import InvalidSpec, ServiceError
from edgelut.rest import refusal

from .settings import Settings

T = TypeVar("T")

Scalars = Mapping[str, str | int | float | bool | None]
MOST_KEPT = 512  # answers
LARGE = 100_000  # bytes: what is longer is decoded in a thread
TRIES = 2  # a connection that the service has closed meanwhile is no failure
AWAY = "away"  # the problem of a service that cannot be reached


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a person could send it. A remark says what of it is shown, or tells it from others to its path."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    remark: str = ""

    @classmethod
    def of(cls, method: str, path: str, params: Scalars | None = None, body: Any = None) -> Call:
        """Return the call; parameters that are None are left out."""
        given = tuple((name, _text(value)) for name, value in (params or {}).items() if value is not None)
        return cls(method, path, given, None if body is None else wire.encode(body))

    def curl(self, url: str, guarded: bool) -> str:
        """Return the call as a command; the token is the reader's own, from the environment."""
        asked = str(httpx.URL(f"{url}{self.path}", params=self.params)) if self.params else f"{url}{self.path}"
        words = ["curl"]
        if self.method not in ("GET", "POST") or (self.method == "POST" and self.body is None):
            words.append(f"-X {self.method}")
        words.append(f'"{asked}"')
        if guarded:
            words.append('-H "Authorization: Bearer $EDGELUT_TOKEN"')
        if self.body is not None:
            words.append("-d '" + self.body.decode().replace("'", "'\\''") + "'")
        return (f"# {self.remark}\n" if self.remark else "") + " ".join(words)


@dataclass(slots=True)
class _Kept:
    value: Any
    until: float


class Service:
    """The service that this dashboard shows. Belongs to one event loop; close it.

    `transport` replaces the network in tests.
    """

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.settings = settings
        headers = {"User-Agent": f"edgelut-dashboard/{__version__}", "EdgeLUT-Version": __version__}
        limits = httpx.Limits(max_connections=16, max_keepalive_connections=8)
        self._client = httpx.AsyncClient(
            base_url=settings.url, headers=headers, timeout=settings.timeout_s, limits=limits, transport=transport
        )
        self._kept: dict[tuple[str | None, Call, Any], _Kept] = {}
        self._asking: dict[tuple[str | None, Call, Any], asyncio.Task[Any]] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, type_: type[T], call: Call, token: str | None, timeout_s: float | None = None) -> T:
        """Send a call and return its answer.

        Raises what the refusal means, and ServiceError with the problem `away` where the service cannot be reached in time.
        """
        headers = {"Content-Type": "application/json"} if call.body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        wait = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        request = self._client.build_request(
            call.method, call.path, params=call.params or None, content=call.body, headers=headers, timeout=wait
        )
        response = await self._send(request, again=call.method == "GET")
        if not response.is_success:
            raise refusal(
                response, self.settings.public_url, lambda text: text.replace(token, "***") if token else text
            )
        content = b"null" if response.status_code == httpx.codes.NO_CONTENT else response.content
        try:
            if len(content) > LARGE:
                return await asyncio.to_thread(wire.decode, type_, content)
            return wire.decode(type_, content)
        except InvalidSpec as error:
            raise ServiceError(f"{self.settings.public_url} answered what is not EdgeLUT's: {error}") from error

    async def shared(
        self, type_: type[T], call: Call, token: str | None, fresh_s: float, timeout_s: float | None = None
    ) -> T:
        """Return an answer that is at most so old, asked for once for all who want it at the same time."""
        key = (token, call, type_)
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() < kept.until:
            return kept.value  # type: ignore[no-any-return]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self.ask(type_, call, token, timeout_s))
            asking.add_done_callback(lambda done: self._answered(key, done, fresh_s))
        return await asyncio.shield(asking)  # one page that is closed ends nobody else's

    def forget(self) -> None:
        """Keep no answer: something was changed here."""
        self._kept.clear()

    def _answered(self, key: tuple[str | None, Call, Any], done: asyncio.Task[Any], fresh_s: float) -> None:
        self._asking.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        now = time.monotonic()
        if len(self._kept) >= MOST_KEPT:
            self._kept = {name: one for name, one in self._kept.items() if now < one.until}
        if len(self._kept) < MOST_KEPT:
            self._kept[key] = _Kept(done.result(), now + fresh_s)

    async def _send(self, request: httpx.Request, again: bool) -> httpx.Response:
        for attempt in range(TRIES):
            try:
                return await self._client.send(request)
            except httpx.TransportError as error:
                if attempt == TRIES - 1 or not again or isinstance(error, httpx.TimeoutException):
                    why = str(error) or type(error).__name__
                    raise ServiceError(f"cannot reach {self.settings.public_url}: {why}", problem=AWAY) from None
        raise AssertionError("unreachable: the last attempt returns or raises")


@dataclass(slots=True)
class Calls:
    """The calls of one open page, for one session's token. `asked` are those behind what it shows, in order."""

    service: Service
    token: Callable[[], str | None] = field(repr=False)
    on_call: Callable[[Call], object] | None = None
    asked: dict[tuple[str, str, str], Call] = field(default_factory=dict)

    async def get(self, type_: type[T], path: str, *, fresh_s: float = 1.0, note: bool = True, **params: Any) -> T:
        """GET, shared with other pages for `fresh_s` seconds. `note=False` leaves it out of the page's footer."""
        call = Call.of("GET", path, params)
        if note:
            self.note(call)
        return await self.service.shared(type_, call, self.token(), fresh_s)

    async def post(self, type_: type[T], path: str, body: Any, *, fresh_s: float = 1.0, note: bool = True) -> T:
        """POST that only looks something up; shared as a GET is."""
        call = Call.of("POST", path, None, body)
        if note:
            self.note(call)
        return await self.service.shared(type_, call, self.token(), fresh_s)

    async def act(
        self, type_: type[T], method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> T:
        """Send what changes something, once; forget the answers that it may have made old."""
        found = await self.service.ask(type_, Call.of(method, path, None, body), self.token())
        self.service.forget()
        return found

    def note(self, call: Call) -> None:
        """Show a call in the page's footer; one to the same path with the same remark takes the place of the one before."""
        key = (call.method, call.path, call.remark)
        before = self.asked.get(key)
        self.asked[key] = call
        if before != call and self.on_call is not None:
            self.on_call(call)


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def json_text(value: Any) -> str:
    """Return a value as readable JSON."""
    return json.dumps(wire.dump(value), indent=2)
