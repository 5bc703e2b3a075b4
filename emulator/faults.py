"""What can be wrong with an emulated phone, now and until it is healed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from edgelut.errors import InvalidSpec

FAULTS = {
    "unauthorized": "accepts no key",
    "no-answer": "takes connections and packets and answers none",
    "unplugged": "drops the connection after N commands, N bytes (4096b) or N seconds (1.5s), and takes no other",
    "disk-full": "has no room for what is pushed",
    "timeout": "takes commands and gives no output, from the Nth on",
    "bad-json": "garbles JSON on standard output",
    "wrong-output": "flips bits of files that are pulled",
    "hot": "heats up while something computes and cools down when nothing does; hot:N heals after N times",
    "throttled": "caps its frequency",
    "battery": "has a hot battery that is almost empty",
}
_ARGUMENT = {
    "unplugged": re.compile(r"\d+|\d+b|\d+(\.\d+)?s"),
    "timeout": re.compile(r"\d+"),
    "hot": re.compile(r"\d+"),
}


@dataclass(slots=True)
class _Fault:
    argument: str
    commands: int = 0
    transferred: int = 0
    fired: bool = False


class Faults:
    """The faults of one phone. Belongs to one event loop; `listener(name)` is called when one begins, fires or is healed."""

    def __init__(self, listener: Callable[[str], None] = lambda name: None) -> None:
        self._active: dict[str, _Fault] = {}
        self._changed = asyncio.Event()
        self._listener = listener
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def begin(self, text: str) -> None:
        """Let a fault `NAME` or `NAME:ARGUMENT` begin; raise InvalidSpec. Without an argument it holds at once."""
        name, _, argument = check(text).partition(":")
        self.heal(name, quiet=True)
        fault = self._active[name] = _Fault(argument)
        if name in ("unplugged", "timeout"):
            fault.fired = not argument
            if argument.endswith("s"):
                loop = asyncio.get_running_loop()
                self._timers[name] = loop.call_later(float(argument[:-1]), self._fire, name)
        else:
            fault.fired = True
        self._tell(name)

    def heal(self, name: str = "", *, quiet: bool = False) -> None:
        """End one fault, or all; raise InvalidSpec for a name that is none."""
        names = [check(name)] if name else list(self._active)
        for one in names:
            timer = self._timers.pop(one, None)
            if timer is not None:
                timer.cancel()
            if self._active.pop(one, None) is not None and not quiet:
                self._tell(one)

    def holds(self, name: str) -> bool:
        """Tell whether a fault has begun and, where it waits for something, has fired."""
        fault = self._active.get(name)
        return fault is not None and fault.fired

    def argument(self, name: str) -> str:
        """Return what was written after the colon."""
        fault = self._active.get(name)
        return fault.argument if fault else ""

    async def healed(self, name: str) -> None:
        """Wait until a fault does not hold."""
        while self.holds(name):
            await self._changed.wait()

    def count(self, commands: int = 0, transferred: int = 0) -> None:
        """Note what was asked of the phone; a fault that waits for that many fires."""
        for name, fault in list(self._active.items()):
            if fault.fired:
                continue
            fault.commands += commands
            fault.transferred += transferred
            limit = fault.argument
            reached = (
                (limit.isdigit() and fault.commands >= int(limit))
                or (limit.endswith("b") and fault.transferred >= int(limit[:-1]))
            )  # fmt: skip
            if reached:
                self._fire(name)

    def _fire(self, name: str) -> None:
        if name in self._active:
            self._active[name].fired = True
            self._tell(name)

    def _tell(self, name: str) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._listener(name)


def check(text: str) -> str:
    """Return a fault as it was written; raise InvalidSpec, which lists them."""
    name, colon, argument = text.partition(":")
    if name not in FAULTS:
        raise InvalidSpec(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    if colon and (name not in _ARGUMENT or not _ARGUMENT[name].fullmatch(argument)):
        raise InvalidSpec(f"the fault {text!r}: {name} {FAULTS[name]}")
    return text
