"""How a device that is not this machine is around its rounds: looked at before and after, and left to cool where it is too hot."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from backends.base import DeviceState
from edgelut.errors import DeviceBusy
from edgelut.types import Scalar

STATE_S = 60.0  # for one look
SETTLE_S = 10.0  # of waiting at a time, so that who watches can end it
COOL_S = 900.0  # for a device to come to rest
PAUSE_S = 1.0  # between looks at a device that says it is at rest and is not
FRESH_S = 0.5  # a look that is not older is as good as a new one
MOST_DISCARDED = 8  # rounds in a row: a device that is too hot after each of them is so by our own work

Ask = Callable[..., Any]  # a task of a worker that reaches the device: name, timeout, arguments


class Cooling:
    """The looks at one device. Raises DeviceBusy where it does not come to rest, or never stays so for a round."""

    def __init__(self, device: str, ask: Ask, tell: Callable[[str], None], step: Callable[[], None]) -> None:
        """`tell` is told why the device is waited for; `step` is called while it is, and raises to give up."""
        self._device, self._ask, self._told_by, self._step = device, ask, tell, step
        self._told = ""
        self._last: tuple[float, DeviceState] | None = None
        self._discarded = 0

    def look(self) -> DeviceState:
        """Return how the device is now."""
        state: DeviceState = self._ask("state", STATE_S, device=self._device)
        self._last = time.monotonic(), state
        return state

    def ready(self) -> DeviceState:
        """Return how the device is, as soon as it can be measured on."""
        fresh = self._last is not None and time.monotonic() - self._last[0] <= FRESH_S
        state = self._last[1] if self._last is not None and fresh else self.look()
        return self._cool(state.throttled) if state.throttled else state

    def keeps(self, after: DeviceState) -> bool:
        """Say whether what was measured before this look can be kept; raise DeviceBusy after too many that could not."""
        if not after.throttled:
            self._discarded = 0
            return True
        self._discarded += 1
        if self._discarded >= MOST_DISCARDED:
            raise DeviceBusy(
                f"{self._device} was throttled in {self._discarded} rounds in a row ({after.throttled}): let it cool, take it "
                "off the charger or out of its case; the same command goes on where this one stopped"
            )
        return False

    def settle(self, why: str) -> None:
        """Wait until the device says that it is at rest."""
        deadline = time.monotonic() + COOL_S
        while True:
            self._step()
            try:
                self._ask("settle", SETTLE_S + STATE_S, device=self._device, timeout_s=SETTLE_S)
                return
            except DeviceBusy as error:
                if time.monotonic() >= deadline:
                    raise DeviceBusy(f"{error}; the same command goes on where this one stopped") from error
                self._tell(why or str(error))

    def _tell(self, why: str) -> None:
        """Tell why the device is waited for, once."""
        if why != self._told:
            self._told_by(why)
        self._told = why

    def _cool(self, why: str) -> DeviceState:
        """Wait until the device is not throttled any more."""
        deadline = time.monotonic() + COOL_S
        while True:
            self._tell(why)
            self.settle(why)
            state = self.look()
            if not state.throttled:
                self._told = ""
                return state
            if time.monotonic() >= deadline:
                raise DeviceBusy(
                    f"{self._device} did not cool within {COOL_S / 60:g} minutes ({state.throttled}): take it off the charger "
                    "or out of its case; the same command goes on where this one stopped"
                )
            why = state.throttled
            self._step()
            time.sleep(PAUSE_S)


def observed(before: DeviceState, after: DeviceState) -> dict[str, Scalar]:
    """Return what was seen around a round, as facts of its runs: `observed_x` before it, and `observed_x_after`."""
    return {**before.observed, **{f"{name}_after": value for name, value in after.observed.items()}}
