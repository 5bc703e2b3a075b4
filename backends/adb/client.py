"""The adb binary: finding one, asking its server what is attached, and running it with a timeout.

Commands go through the binary and not through a library that speaks to the server: it costs 3 ms a command, every timeout is a
process that is ended, and it pushes folders and keeps standard error and input apart. `adbutils` is there for the binary it
brings, where no other is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from edgelut.errors import BackendMissing, DeviceUnusable

BINARY = "EDGELUT_ADB"
DEFAULT_PORT = 5037
SERVER_S = 20.0  # to start a server: adb 36 takes 3 s where no phone is attached
ASK_S = 2.0
_STATES = (
    "device|unauthorized|offline|authorizing|connecting|recovery|rescue|sideload|bootloader|host|detached|no device"
)
_LINE = re.compile(
    rf"^(?P<serial>\S.*?)\s+(?P<state>{_STATES}|no permissions.*?|unknown)(?P<rest>(?:\s+[\w.]+:\S*)*)\s*$"
)


@dataclass(frozen=True, slots=True)
class Done:
    """An adb command that ended. Its code alone says nothing of what ran on a phone: adb 29 gives 0 where one was unplugged."""

    code: int
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        """What it complained of, without what it says of its server; where it said nothing, its output's last line."""
        for text in (self.err, self.out):
            lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
            lines = [line for line in lines if not line.startswith("*") and not re.match(r"\[\s*\d+%\]", line)]
            if lines:
                return lines[-1]
        return f"exit {self.code}"


@dataclass(frozen=True, slots=True)
class Transport:
    """A line of `adb devices -l`: one way to a phone."""

    serial: str  # what `adb -s` takes; that of a network has a port in it
    state: str  # `device` where commands run
    number: str = ""  # transport_id, for two that have one serial
    model: str = ""

    @property
    def network(self) -> bool:
        """True where the serial is an address and says nothing of the phone."""
        return ":" in self.serial or self.serial.endswith("._tcp")


def parse_devices(text: str) -> list[Transport]:
    """Return the lines of `adb devices -l`; what is no such line is left out."""
    found = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or line.startswith(("*", "List of devices")):
            continue
        words = dict(word.partition(":")[::2] for word in match["rest"].split())
        found.append(Transport(match["serial"], match["state"], words.get("transport_id", ""), words.get("model", "")))
    return found


def run(args: list[str], timeout_s: float) -> Done:
    """Run `adb ARGS` to its end; raise TimeoutError, having ended it; BackendMissing where there is no adb."""
    binary = find_binary(os.environ.get(BINARY), server_address())
    try:
        done = subprocess.run(
            [binary, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"adb {args[0]} did not end within {timeout_s:g} s") from error
    except OSError as error:
        raise BackendMissing(f"{binary} does not start: {error.strerror}") from error
    return Done(done.returncode, done.stdout, done.stderr)


def transports() -> list[Transport]:
    """List the ways to phones that the adb server sees, which is started where none runs; raise DeviceUnusable."""
    try:
        done = run(["devices", "-l"], SERVER_S)
    except TimeoutError as error:
        raise DeviceUnusable(f"{error}: end its server by 'adb kill-server' and try again") from error
    if done.code:
        raise DeviceUnusable(f"the adb server cannot be asked: {done.said}")
    return parse_devices(done.out.decode(errors="replace"))


def path() -> str:
    """Return the path of the adb that is used; raise BackendMissing."""
    return find_binary(os.environ.get(BINARY), server_address())


@cache
def find_binary(said: str | None, server: tuple[str, int] | None) -> str:
    """Return an adb that speaks the running server's version, or any where none runs.

    An adb of another version than the server ends it and starts its own; nobody's server is ended by us.
    """
    candidates = list(dict.fromkeys(_candidates(said)))
    if not candidates:
        raise BackendMissing("no adb here: pip install 'edgelut-service[android]', or apt-get install adb")
    running = _server_version(server) if server else None
    if running is None:
        return candidates[0]
    versions = {path: _own_version(path) for path in candidates}
    for path, version in versions.items():
        if version in (running, None):  # one that does not say is taken at its word
            return path
    have = ", ".join(f"{path} of {version}" for path, version in versions.items())
    raise DeviceUnusable(
        f"the adb server that runs is of version {running}, and there is {have}: set {BINARY} to the adb that "
        "started it, or end it by 'adb kill-server'"
    )


def server_address() -> tuple[str, int] | None:
    """Return where adb looks for its server, None where that is no TCP port."""
    whole = os.environ.get("ADB_SERVER_SOCKET", "")
    if whole:
        kind, _, place = whole.partition(":")
        host, _, port = place.rpartition(":")
        return (host or "127.0.0.1", int(port)) if kind == "tcp" and port.isdigit() else None
    text = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    port_number = int(text) if text.isdigit() else DEFAULT_PORT
    return os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1", port_number


def _candidates(said: str | None) -> Iterator[str]:
    """Yield the adbs there are: the one that is named alone, else those of PATH, of the SDK, and adbutils' own."""
    if said:
        found = shutil.which(said)
        if found is None:
            raise BackendMissing(f"{BINARY}={said} is no program")
        yield found
        return
    on_path = shutil.which("adb")
    if on_path:
        yield on_path
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        tool = Path(os.environ.get(name) or "/nowhere") / "platform-tools" / "adb"
        if os.access(tool, os.X_OK):
            yield str(tool)
    spec = find_spec("adbutils")
    for folder in spec.submodule_search_locations or () if spec else ():
        tool = Path(folder) / "binaries" / "adb"
        if os.access(tool, os.X_OK):
            yield str(tool)


def _server_version(address: tuple[str, int]) -> int | None:
    """Ask a server which version it speaks; None where none runs. Asking starts none."""
    try:
        with socket.create_connection(address, ASK_S) as connection:
            connection.settimeout(ASK_S)
            connection.sendall(b"000chost:version")
            answer = b""
            while len(answer) < 12 and (more := connection.recv(64)):
                answer += more
    except OSError:
        return None
    return int(answer[8:12], 16) if re.fullmatch(rb"OKAY0004[0-9a-fA-F]{4}", answer) else None


def _own_version(path: str) -> int | None:
    """Return 41 of `Android Debug Bridge version 1.0.41`; asking needs no server."""
    try:
        done = subprocess.run([path, "version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return -1
    match = re.search(rb"version \d+\.\d+\.(\d+)", done.stdout)
    return int(match[1]) if match else None
