"""An adb server of the tests' own, on a free port: nobody's is asked, and what was started is ended."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest


@pytest.fixture(scope="session", autouse=True)
def adb_server() -> Iterator[int]:
    """Its port, in the environment of everything that tests start; the server itself starts where adb is first run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_SERIAL"):
            patch.delenv(name, raising=False)
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("ADB_LOCAL_TRANSPORT_MAX_PORT", "5554")  # it takes up no emulator of somebody else's
        yield port
        _end(port)


def _end(port: int) -> None:
    """Ask the server to end, if one was started."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(5)
        connection.sendall(b"0009host:kill")
        while connection.recv(64):
            pass
