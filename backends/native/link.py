"""This process's runners: one a device, started when first needed, asked in lines, and begun anew after one that died."""

from __future__ import annotations

import atexit
import json
import os
import platform
import secrets
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backends.base import Device, Process
from edgelut.errors import ArtifactCorrupted, DeviceUnusable, EdgelutError, Unsupported
from edgelut.types import Scalar

from . import build

PROTOCOL = 1
START_S = 180.0  # the first start after a push; an emulated machine takes seconds
ASK_S = 60.0
REMOVE_S = 10.0
MACHINES = {"arm64-v8a": "aarch64", "x86_64": "x86_64"}  # by Android's name of the ABI
ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}
MOST_NUMBERS = 65536


class Answer(dict[str, Any]):
    """What a runner answered; what is not in it is an EdgelutError."""

    def __missing__(self, name: str) -> Any:
        raise EdgelutError(f"the runner's answer says nothing of {name!r}: {str(dict(self))[:200]}")


class Interrupted(EdgelutError):
    """A runner died over something else while this was waiting for its turn: ask again."""


@dataclass(slots=True, eq=False)
class Asked:
    """A line that was sent, and what came of it."""

    line: str
    timeout_s: float
    answer: Answer | None = None
    error: Exception | None = None


class Runner:
    """One `edgelut-runner` on one device.

    Answers come in the order of the lines, so that several may be asked before the first is waited for. One that dies, says what
    nobody understands or does not answer in time is ended: what it was at then raises an EdgelutError with its last words, or
    DeviceUnusable where the device is gone; what was waiting behind it raises Interrupted.
    """

    def __init__(self, device: Device) -> None:
        """Build it where needed, bring it to the device and start it there."""
        self.device = device
        self.name = str(getattr(device, "name", type(device).__name__.lower()))
        self.facts: Mapping[str, Scalar] = device.facts()
        self.is_dead = False
        self._turn = threading.RLock()
        self._asked: deque[Asked] = deque()
        self._numbers: set[int] = set()
        self._mask = ""
        self._outputs_turn = threading.Lock()
        self._has_written = False
        bundle = self._bundle()
        self.there = device.push(bundle.folder)
        self._outputs = f"{self.there}.{secrets.token_hex(8)}.out"
        found = {} if bundle.loader or device.local else {"LD_LIBRARY_PATH": self.there}
        try:
            self._process: Process = device.start(bundle.argv(self.there), {**ENVIRONMENT, **found})
        except OSError as error:
            raise EdgelutError(f"the runner does not start on {self.name}: {error}") from error
        self.hello = self._greeting()

    @property
    def counts(self) -> bool:
        """True where it counts instructions, as on an emulated machine, and times nothing."""
        return self.hello.get("counter") == "instructions"

    def take_number(self) -> int:
        """Return a number for a model that no other has."""
        with self._turn:
            number = next(number for number in range(MOST_NUMBERS) if number not in self._numbers)
            self._numbers.add(number)
            return number

    def drop_number(self, number: int) -> None:
        """Give a number back."""
        self._numbers.discard(number)

    def mask_of(self, unit: str) -> str:
        """Return the mask of CPUs that a compute unit means here, empty for all; raise Unsupported."""
        if unit == "cpu":
            return str(self.facts.get("big_mask", ""))
        mask = str(self.facts.get("little_mask", ""))
        if unit != "cpu-little" or not mask.strip("0x"):
            raise Unsupported(f"{self.name} has no {unit}: its units are cpu{' and cpu-little' if mask else ''}")
        return mask

    def pin(self, mask: str) -> None:
        """Have what follows run on those CPUs; threads that were started before stay where they are."""
        if mask == self._mask:
            return
        every = f"{(1 << int(self.facts.get('cores', 64))) - 1:x}"
        self.ask(f"pin {mask.removeprefix('0x') or every}")
        self._mask = mask

    def ask(self, line: str, timeout_s: float = ASK_S) -> Answer:
        """Send a line and return its answer; raise what it failed with."""
        return self.wait(self.begin(line, timeout_s))

    def begin(self, line: str, timeout_s: float = ASK_S) -> Asked:
        """Send a line whose answer is waited for later; raises nothing itself."""
        asked = Asked(line, timeout_s)
        with self._turn:
            self._asked.append(asked)
            if self.is_dead:
                self._end(Interrupted(f"the runner on {self.name} has ended"))
            else:
                try:
                    self._process.send(line)
                except (OSError, DeviceUnusable) as error:
                    self._end(error, idle=len(self._asked) == 1)
        return asked

    def wait(self, asked: Asked) -> Answer:
        """Return the answer of a line; raise Unsupported, ArtifactCorrupted, or another of our errors."""
        with self._turn:
            while asked.answer is None and asked.error is None:
                self._receive(self._asked[0])
        if asked.error is not None:
            raise asked.error
        assert asked.answer is not None
        return asked.answer

    def outputs(self, number: int, timeout_s: float) -> tuple[Answer, bytes]:
        """Have a model called once; return the answer and its outputs, raw.

        Each call writes to the same file, which is removed with the runner: to remove it each time is a command more.
        """
        with self._outputs_turn, tempfile.TemporaryDirectory(prefix="edgelut-") as folder:
            here = Path(folder, "outputs")
            there = str(here) if self.device.local else self._outputs
            self._has_written = not self.device.local
            answer = self.ask(f"run {number} {quoted(there)}", timeout_s)
            if not self.device.local:
                self.device.pull(there, here)
            return answer, here.read_bytes()

    def close(self) -> None:
        """End it; every model is released with it, and what it wrote is removed."""
        with self._turn:
            self._end(Interrupted(f"the runner on {self.name} was closed"))
        if self._has_written:
            self._has_written = False
            with suppress(OSError, EdgelutError):
                self.device.run(["rm", "-f", self._outputs], REMOVE_S)

    def _bundle(self) -> build.Bundle:
        own = None if self.device.local else build.user_bundle()
        if own is not None:
            return own
        abi = str(self.facts.get("abi", ""))
        machine = platform.machine() if self.device.local else str(self.facts.get("machine") or MACHINES.get(abi, abi))
        return build.bundle(machine, portable=not self.device.local)

    def _greeting(self) -> Answer:
        """Return the first line that it says; raise why there is none."""
        asked = Asked("start", START_S)
        self._asked.append(asked)
        try:
            hello = self.wait(asked)
        except DeviceUnusable:
            raise
        except EdgelutError as error:
            self.close()
            raise EdgelutError(f"the runner does not start on {self.name}: {error}") from error
        if hello.get("runner") != PROTOCOL:
            self.close()
            raise EdgelutError(f"the runner on {self.name} speaks protocol {hello.get('runner')}, not {PROTOCOL}")
        return hello

    def _receive(self, asked: Asked) -> None:
        """Take in the answer of the oldest line that has none."""
        try:
            said = self._process.read(asked.timeout_s)
        except TimeoutError:
            self._end(EdgelutError(f"the runner on {self.name} did not answer {asked.line!r} in {asked.timeout_s:g} s"))
            return
        except (OSError, DeviceUnusable) as error:
            self._end(error)
            return
        answer = _parse(said)
        if answer is None:
            self._end(EdgelutError(f"the runner on {self.name} answered {asked.line!r} by {said[:200]!r}"))
            return
        self._asked.popleft()
        if answer.get("ok", "runner" in answer):
            asked.answer = answer
        else:
            asked.error = _error(answer, self.name)

    def _end(self, error: Exception, idle: bool = False) -> None:
        """End the process and tell everyone who waits: the first why, for it was at that; the others to ask again."""
        if not self.is_dead:
            self.is_dead = True
            with suppress(OSError, EdgelutError):
                self._process.close()
            error = self._told(error, idle)
        for asked in self._asked:
            asked.error = error
            if not isinstance(error, DeviceUnusable):
                error = Interrupted(str(error))
        self._asked.clear()

    def _told(self, error: Exception, idle: bool) -> Exception:
        """Return what is raised for a runner that ended: that the device is gone, or what it said last."""
        if isinstance(error, DeviceUnusable | Interrupted):
            return error
        if not self.device.local:
            try:
                self.device.run(["true"], ASK_S)
            except DeviceUnusable as gone:
                return gone
            except OSError:
                pass
        if idle:
            return Interrupted(f"the runner on {self.name} ended while it had nothing to do: {error}")
        return error if isinstance(error, EdgelutError) else EdgelutError(f"the runner on {self.name} died: {error}")


def runner_of(device: Device) -> Runner:
    """Return this process's runner on a device, starting one where there is none that lives."""
    with _turn:
        runner = _runners.get(device)
        if runner is not None and runner.is_dead:
            runner.close()  # what it wrote is still there
        if runner is None or runner.is_dead:
            runner = _runners[device] = Runner(device)
        return runner


def close_all() -> None:
    """End this process's runners: done when it ends. The next that is needed is started anew."""
    with _turn:
        while _runners:
            _runners.popitem()[1].close()


_turn = threading.Lock()
_runners: dict[Device, Runner] = {}
atexit.register(close_all)


def quoted(path: str) -> str:
    """Return a path as a word of a line."""
    return quote(os.fsencode(path), safe="/:=,+@")


def _parse(said: str) -> Answer | None:
    """Return an answer; None for what is none."""
    try:
        answer = json.loads(said)
    except ValueError:
        return None
    known = isinstance(answer, dict) and (isinstance(answer.get("ok"), bool) or "runner" in answer)
    return Answer(answer) if known else None


def _error(answer: Answer, name: str) -> EdgelutError:
    kind, message = answer.get("error"), f"{answer.get('message')} (on {name})"
    if kind == "unsupported":
        return Unsupported(message)
    if kind == "corrupted":
        return ArtifactCorrupted(message)
    return EdgelutError({"memory": "out of memory: "}.get(str(kind), "") + message)
