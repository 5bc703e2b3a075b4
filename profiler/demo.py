"""`make demo`: export real blocks, measure them on this machine, start the service and ask it; every step is a public command."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from edgelut import settings

BIN = Path(sys.executable).parent
QUERY = "/latency?block=MB3D&width=224"
RUNTIMES = ("--runtime", "onnxruntime-cpu", "--runtime", "torchscript-cpu")
START_TIMEOUT_S = 60.0


def main() -> int:
    """Run the demo; return an exit code."""
    console = Console(highlight=False)
    started = time.monotonic()
    steps = (
        (
            "1/3 Export EfficientFormer-L1's blocks and their neighbours to three formats, outputs checked",
            ["export", "demo"],
        ),
        ("2/3 Measure them with two runtimes, interleaved, one thread", ["profile", "demo", *RUNTIMES]),
    )
    for title, argv in steps:
        _say(console, title, ["edgelut", *argv])
        done = subprocess.run([str(BIN / "edgelut"), *argv], check=False)
        if done.returncode:
            return done.returncode
    port = _free_port()
    _say(
        console,
        "3/3 Serve the table and ask it",
        ["edgelut", "serve", "--no-agent", "--no-dashboard", "--port", str(port)],
    )
    with _service(port) as url:
        _say(console, "", ["curl", f"'{url}{QUERY}'"])
        answer = httpx.get(url + QUERY, timeout=30.0)
        answer.raise_for_status()
        console.print_json(json.dumps(_brief(answer.json())))
        argv = ["get", "MB3D", "224", "--from", url]
        _say(console, "", ["edgelut", *argv])
        asked = subprocess.run([str(BIN / "edgelut"), *argv], check=False)
    console.print(
        f"Done in {time.monotonic() - started:.0f} s. The table is in {settings.home()}; `make serve` serves it, with pages.",
        soft_wrap=True,
    )
    return asked.returncode


def _brief(answer: dict[str, object]) -> dict[str, object]:
    """Return the service's answer with the first entry whole and the rest in one line each: it is long."""
    entries = answer["entries"]
    assert isinstance(entries, list)
    rest = [
        f"{row['spec']['kind']} {row['spec']['width_in']} @{row['spec']['resolution']} on {row['target']['runtime']}: "
        f"{row['latency_ms']:.3f} ms, {row['kind']}"
        for row in entries[1:]
    ]
    return {**answer, "entries": entries[:1], "and": rest}


def _say(console: Console, title: str, argv: list[str]) -> None:
    if title:
        console.print(f"\n[bold]{title}[/bold]")
    console.print(f"$ {' '.join(argv)}", style="cyan", soft_wrap=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _service(port: int) -> Iterator[str]:
    """Run the service until the block ends; raise RuntimeError if it does not come up."""
    url = f"http://127.0.0.1:{port}"
    argv = [
        str(BIN / "edgelut"),
        "serve",
        "--no-agent",
        "--no-dashboard",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    service = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_up(url):
            if service.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {' '.join(argv)}")
            time.sleep(0.2)
        yield url
    finally:
        service.terminate()
        service.wait(15)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2.0).is_success
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())
