"""The dashboard that `edgelut serve` starts: a process of its own beside the service, and a client of it like any other.

It is given no token: where the service wants one, each person logs in with theirs.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib.util import find_spec

from .children import Child

NEEDED = "nicegui"
INSTALL = "pip install 'edgelut-service[dashboard]'"
LATER_S = 0.5  # after the service: a restart is not to wait for pages
TAKEN_S = 3.0  # how long the port of the dashboard before may still be taken


def missing() -> bool:
    """Say whether the dashboard's library is not here."""
    return find_spec(NEEDED) is None


class LocalDashboard(Child):
    """Runs `edgelut dashboard` until `stop`, on a port of this machine that it keeps when it is started again.

    `port` is taken where it is free; `fixed` says that another will not do. `told` is given the address, or None with the reason.
    """

    name = "dashboard"
    stop_s = 3.0
    nice = 5

    def __init__(self, url: str, host: str, port: int, *, fixed: bool, told: Callable[[str | None, str], None]) -> None:
        super().__init__(("dashboard", "--url", url, "--host", host))
        self._environment.pop("EDGELUT_TOKEN", None)
        self._host, self._port, self._fixed, self._told = host, port, fixed, told
        self._socket: socket.socket | None = None

    def prepare(self) -> None:
        """Take the port, and tell the address."""
        self._stopping.wait(LATER_S)
        try:
            self._socket = self._listen()
        except OSError as error:
            self._stopping.set()
            self._told(None, f"port {self._port} on {self._host}: {error.strerror or error}")
            return
        self._fds = (self._socket.fileno(),)
        self._command += ["--fd", str(self._socket.fileno())]
        plain = self._host.strip("[]")
        where = f"[{plain}]" if ":" in plain else plain
        self._told(f"http://{where}:{self._socket.getsockname()[1]}", "")

    def stop(self) -> None:
        """End it, and give the port back."""
        super().stop()
        if self._socket is not None:
            self._socket.close()

    def _listen(self) -> socket.socket:
        """Return a bound socket; raise OSError. One that was just killed lets go of its port in a moment."""
        tries = max(1, round(TAKEN_S / 0.1))
        for attempt in range(tries):
            try:
                return _bound(self._host, self._port)
            except OSError:
                if self._stopping.wait(0.1) or (attempt == tries - 1 and self._fixed):
                    raise
        return _bound(self._host, 0)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)
