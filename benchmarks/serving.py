"""How many look-ups a second the service answers over REST, beside the most that its server could: a raw ASGI hello."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop
from report import Figure, parser, publish

from db.engine import open_store
from edgelut import wire
from edgelut.blocks import MB3D
from edgelut.types import BlockSpec, Entry, Latency, Params, Target

CONNECTIONS = 32
SECONDS = 4.0
SETTLE_S = 8.0  # a service reads the table into memory when it starts: 2 s of CPU for 100,000 rows
HOT = 500  # distinct queries that are asked again and again
BATCH = 1000
GOAL_KEYS = 100_000
HELLO = """
import socket, uvicorn
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
print("hello serves http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
config = uvicorn.Config(app, access_log=False, lifespan="off", log_level="warning")
uvicorn.Server(config).run(sockets=[listening])
"""
SERVE = "from edgelut.cli import main; main()"


@dataclass
class Load:
    """What one phase of requests saw."""

    waits_s: list[float] = field(default_factory=list)
    bad: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.waits_s) / self.seconds

    def wait_ms(self, share: float) -> float:
        """The wait that this share of the requests stayed below."""
        ordered = sorted(self.waits_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3


class Asker(asyncio.Protocol):
    """One kept connection that sends the next request when it has the answer to the last."""

    def __init__(self, requests: Iterator[bytes], load: Load, until: float, done: asyncio.Future[None]) -> None:
        self._requests, self._load, self._until, self._done = requests, load, until, done
        self._received, self._needed = bytearray(), 0  # of an answer that comes in many pieces

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask first."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Count an answer when it is whole, and ask again."""
        self._received += data
        if not self._needed:
            head, found, _ = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            self._needed = len(head) + 4 + length
        if len(self._received) < self._needed:
            return
        now = time.perf_counter()
        self._load.waits_s.append(now - self._asked)
        self._load.bad += not self._received.startswith(b"HTTP/1.1 200")
        self._received, self._needed = bytearray(), 0
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Say that this connection is done."""
        if not self._done.done():
            self._done.set_result(None)

    def _ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._asked = time.perf_counter()
        self._transport.write(request)


def run(url: str, requests: Iterator[bytes], seconds: float = SECONDS) -> Load:
    """Run `ask` to its end."""
    return uvloop.run(ask(url, requests, seconds))


async def ask(url: str, requests: Iterator[bytes], seconds: float) -> Load:
    """Send requests over CONNECTIONS connections for some seconds, or until there are no more."""
    loop = asyncio.get_running_loop()
    host, port = urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80
    load, started = Load(), time.perf_counter()
    done: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    for future in done:
        await loop.create_connection(partial(Asker, requests, load, started + seconds, future), host, port)
    await asyncio.wait_for(asyncio.gather(*done), seconds + 30)
    load.seconds = time.perf_counter() - started
    return load


@contextmanager
def server(code: str, *arguments: str) -> Iterator[str]:
    """Run a server of this benchmark; give its URL."""
    environment = {name: value for name, value in os.environ.items() if name != "EDGELUT_TOKEN"}
    argv = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield next(word for word in process.stdout.readline().split() if word.startswith("http://"))
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def points(rows: int) -> list[tuple[BlockSpec, Target]]:
    """Return that many distinct specs on 25 targets."""
    targets = [Target(f"device-{number}", "onnxruntime-cpu") for number in range(25)]
    shapes = product(range(16, 16 + 8 * 1000, 8), (7, 14, 28, 56), (2, 3, 4, 6))
    found: list[tuple[BlockSpec, Target]] = []
    for width, resolution, expansion in shapes:
        spec = MB3D.spec(width, resolution, params={"expansion": expansion})
        found += [(spec, target) for target in targets]
        if len(found) >= rows:
            break
    return found[:rows]


def fill(database: str, points_: Sequence[tuple[BlockSpec, Target]]) -> None:
    """Store a row for every point."""
    with open_store(database, migrate=True) as store:
        for start in range(0, len(points_), 10_000):
            store.put_many([entry(spec, target, n) for n, (spec, target) in enumerate(points_[start : start + 10_000])])


def entry(spec: BlockSpec, target: Target, number: int) -> Entry:
    """Return a row like a measured one."""
    p10 = 1e6 + number
    latency = Latency(p10, p10 * 1.02, p10 * 1.1, p10 * 0.99, p10 * 1.01, runs=10, samples=1000)
    return Entry(spec, target, latency, provenance=Params({"sweep": "benchmark", "reference_factor": 1.01}))


def get(spec: BlockSpec, target: Target) -> bytes:
    """Return the request for one row."""
    query = f"block=MB3D&width={spec.width_in}&resolution={spec.resolution}"
    query += f"&param.expansion={spec.params['expansion']}&device={target.device}"
    return f"GET /latency?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(specs: Sequence[BlockSpec], target: Target) -> bytes:
    """Return the request for a batch."""
    body = wire.encode({"specs": list(specs), "target": target})
    head = f"POST /latency/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def measure(rows: int, seed: int) -> tuple[Load, Load, Load, Load]:
    """Return the loads of the hello, of rows asked again, of rows asked once, and of batches."""
    draw = random.Random(seed)
    known = points(rows)
    with server(HELLO) as url:
        hello = cycle([b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
        run(url, hello, 0.5)
        limit = run(url, hello)
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{Path(folder, 'edgelut.db')}"
        fill(database, known)
        with server(SERVE, "serve", "--no-agent", "--port", "0", "--database", database) as url:
            time.sleep(SETTLE_S)
            draw.shuffle(known)
            hot = [get(*point) for point in known[:HOT]]
            run(url, iter(hot))
            again = run(url, cycle(hot))
            once = run(url, iter([get(*point) for point in known[HOT:]]))
            one_target = [spec for spec, target in known if target == known[0][1]]
            batches = [post(draw.sample(one_target, min(BATCH, len(one_target))), known[0][1]) for _ in range(20)]
            many = run(url, cycle(batches))
    return limit, again, once, many


def figures(rows: int, seed: int) -> list[Figure]:
    """Return the figures, each as a share of the hello's in the same run."""
    limit, again, once, many = measure(rows, seed)
    if limit.bad or again.bad or once.bad or many.bad:
        raise SystemExit(f"requests failed: {again.bad} asked again, {once.bad} asked once, {many.bad} batches")
    found = [Figure("serving: raw ASGI hello", limit.rate, "requests/s")]
    for name, load, goal in (("asked again", again, 0.20), ("asked once", once, 0.14)):
        share = load.rate / limit.rate
        beside = "FastAPI + dict: 20 %" if goal == 0.20 else "SQLAlchemy Core: 14 %"
        found += [
            Figure(f"serving: GET /latency, {name}", load.rate, "requests/s", baseline=limit.rate),
            Figure(f"serving: {name}, of the hello", share * 100, "%", f">= {goal:.0%}", share >= goal, beside),
            Figure(f"serving: {name}, p50", load.wait_ms(0.50), "ms", baseline=limit.wait_ms(0.50)),
            Figure(f"serving: {name}, p99", load.wait_ms(0.99), "ms", baseline=limit.wait_ms(0.99)),
        ]
    keys = many.rate * min(BATCH, rows // 25)
    met = keys >= GOAL_KEYS
    batch = Figure(
        "serving: POST /latency/batch of 1,000", keys, "keys/s", f">= {GOAL_KEYS:,}", met, "a query a key: 29 k"
    )
    return [*found, batch]


def main() -> None:
    """Fill a table of its own, serve it and ask."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rows", type=int, default=100_000, help="rows in the table (default: 100,000)")
    options = arguments.parse_args()
    publish(figures(max(options.rows, 25 * HOT), options.seed), options.json)


if __name__ == "__main__":
    main()
