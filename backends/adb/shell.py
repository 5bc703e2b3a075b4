"""Commands on a phone: run to their end with the code that they really ended with, or started and spoken to in lines."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil

from backends.processes import LineProcess
from edgelut.errors import DeviceUnusable

from . import client, remedies

START_S = 20.0  # until a started program's first line
LEAVE_S = 2.0  # for a program whose input was closed
COLLECTED = 16  # chunks of 64 KiB that are taken in at once from a program that is to end
GRACE_S = 2  # what the phone's own timeout gives beyond ours


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command on a phone did."""

    code: int
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        """The last of what it complained of."""
        return (self.err or self.out).decode(errors="replace").strip()[-2000:]


class Phone:
    """A phone by one of its transports. `name` is what people know it by.

    Obligations: whatever it is asked ends within its timeout. Where the connection breaks off, DeviceUnusable says how the phone
    is now: adb's own exit code is 0 or 255 then, and is never believed. The shell's own is printed behind a marker.
    """

    def __init__(self, transport: client.Transport, name: str, *, exact: bool = False) -> None:
        """Take a transport; `exact` tells it from another of the same serial, but does not outlive it."""
        self.transport, self.name = transport, name
        self.serial = transport.serial
        self._which = ["-t", transport.number] if exact and transport.number else ["-s", transport.serial]

    def shell(self, script: str, timeout_s: float) -> Answer:
        """Run a script in the phone's sh; raise TimeoutError or DeviceUnusable."""
        mark = f"@edgelut {secrets.token_hex(6)}"
        text = f"(\n{script}\n)\nprintf '\\n{mark} %d\\n' $?"
        done = self.adb(["shell", "-T", text], timeout_s)
        out, found, code = done.out.rpartition(f"\n{mark} ".encode())
        if not found or not code.strip().isdigit():
            raise self.gone(done.said)
        return Answer(int(code), out, done.err)

    def ask(self, script: str, timeout_s: float) -> str:
        """Run a script of ours and return what it prints; a phone that does not answer in time raises DeviceUnusable."""
        try:
            return self.shell(script, timeout_s).out.decode(errors="replace")
        except TimeoutError as error:
            raise DeviceUnusable(remedies.silent(self.name, timeout_s)) from error

    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        """Run a command; raise TimeoutError, OSError with its error output, or DeviceUnusable.

        What has its own timeout on the phone does not go on there when we give up, as a mere shell's children would.
        """
        limit = f"timeout -s KILL {ceil(timeout_s) + GRACE_S}"
        script = f'T=; command -v timeout >/dev/null && T="{limit}"\n$T {shlex.join(argv)}'
        try:
            answer = self.shell(script, timeout_s)
        except TimeoutError as error:
            why = self.state()
            if why:
                raise DeviceUnusable(remedies.broke_off(self.name, why)) from error
            raise TimeoutError(f"{argv[0]} did not end within {timeout_s:g} s on {self.name}") from error
        if answer.code:
            raise OSError(f"{argv[0]} failed on {self.name} (exit {answer.code}): {answer.said}")
        return answer.out

    def adb(self, args: list[str], timeout_s: float) -> client.Done:
        """Run an adb command of this transport; raise TimeoutError."""
        return client.run([*self._which, *args], timeout_s)

    def argv(self, script: str) -> list[str]:
        """Return the local command that runs a script with its input, output and errors apart and raw."""
        return [client.path(), *self._which, "shell", "-T", script]

    def state(self) -> str:
        """Return why the transport runs no commands just now; empty where it does."""
        found = [one for one in client.transports() if one.serial == self.serial]
        return remedies.of_state(found[0]) if found else "it is not attached any more: plug it in again"

    def gone(self, said: str) -> DeviceUnusable:
        """Return what is raised where a command did not reach its marker."""
        why = self.state()
        if why or "closed" not in said:
            return DeviceUnusable(remedies.broke_off(self.name, why))
        return DeviceUnusable(f"{self.name} runs no commands ({said}): unlock it, and switch USB debugging off and on")

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None) -> ShellProcess:
        """Start a program that speaks in lines; raise DeviceUnusable."""
        return ShellProcess(self, argv, env or {})


class ShellProcess(LineProcess):
    """A program on a phone. Its near end is `adb shell`; closing it ends the far end as well.

    The far end prints its process id first, and the shell around it the code that it ended with: without that line the
    connection broke off, and send and read raise DeviceUnusable.
    """

    def __init__(self, phone: Phone, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._phone, self._program = phone, argv[0]
        self._mark = f"@edgelut {secrets.token_hex(6)}"
        self._remote = 0
        self._code: int | None = None
        self._closed = False
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
        inner = f'echo "{self._mark} pid $$"; exec "$@"'
        script = f"{variables} sh -c {shlex.quote(inner)} sh {shlex.join(argv)}\nprintf '{self._mark} ended %d\\n' $?"
        super().__init__(phone.argv(script))
        try:
            self._remote = self._read_pid()
        except BaseException:
            self.close()
            raise

    def _read_pid(self) -> int:
        try:
            line = self.read(START_S)
        except TimeoutError as error:
            raise DeviceUnusable(remedies.silent(self._phone.name, START_S)) from error
        word = line.removeprefix(f"{self._mark} pid ")
        if not word.isdigit():
            raise DeviceUnusable(f"{self._phone.name} started no shell but said {line[:200]!r}")
        return int(word)

    def read(self, timeout_s: float) -> str:
        """Return the next line; raise TimeoutError, OSError where the program ended, DeviceUnusable where the phone went away."""
        try:
            line = super().read(timeout_s)
        except TimeoutError as error:
            raise TimeoutError(
                f"{self._program} did not answer within {timeout_s:g} s on {self._phone.name}"
            ) from error
        if f"{self._mark} ended" not in line:
            return line
        self._take_code(line)
        raise self.ended()

    def ended(self) -> Exception:
        """Return an OSError with the program's code where it came to its end, else DeviceUnusable."""
        super().ended()
        said = self.last_words()
        self._take_code(said)
        if self._code is None:
            return self._phone.gone(said)
        said = said.partition(f"{self._mark} ended")[0].strip()
        text = f"{self._program} ended (exit {self._code}) on {self._phone.name}{': ' + said if said else ''}"
        return OSError(text)

    def close(self) -> None:
        """Close the program's input and wait until it ends; kill it, here and on the phone, where it does not."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):
            self._stdin.close()
        until = time.monotonic() + LEAVE_S
        while self._child.poll() is None and time.monotonic() < until:
            self._collect()
            time.sleep(0.01)
        if self._child.poll() is None:
            self._child.kill()
        self._collect()
        self._take_code(bytes(self._buffer[-4096:]).decode(errors="replace"))
        super().close()
        if self._code is None and self._remote:
            with suppress(TimeoutError, DeviceUnusable):
                self._phone.shell(f"kill -9 {self._remote} 2>/dev/null", LEAVE_S)

    def _collect(self) -> None:
        """Take in what was written, so that no full pipe keeps the program from ending."""
        for output in self._outputs:
            with suppress(OSError, ValueError):
                for _ in range(COLLECTED):
                    if not self._drain(output):
                        break

    def _take_code(self, text: str) -> None:
        word = text.rpartition(f"{self._mark} ended ")[2].split()
        if self._code is None and word and f"{self._mark} ended " in text and word[0].isdigit():
            self._code = int(word[0])
