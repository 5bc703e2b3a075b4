"""Which leases are dead, judged by their beats and by a clock that no one can set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from db.batches import LEASE_S

LONGEST_GAP_S = 5.0  # what one pause between two looks counts at most


class Beating(Protocol):
    """A lease as the database holds it: its beat grows with every word of its holder."""

    @property
    def token(self) -> str:
        """The lease's secret name."""

    @property
    def beat(self) -> int:
        """How often its holder was heard."""


@dataclass(slots=True)
class _Seen:
    beat: int
    quiet_s: float = 0.0


class Watch:
    """Observes leases. Wall clocks take no part: neither the service's nor an agent's nor the database's.

    A lease is dead when this watch has seen its beat stand still for `lease_s`. Time in which nobody looked (the process was
    stopped, the database was away) counts LONGEST_GAP_S at most: agents could not be heard then either. A new watch gives every
    lease its full time.
    """

    def __init__(self, lease_s: float = LEASE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s, self._clock = lease_s, clock
        self._seen: dict[str, _Seen] = {}
        self._looked_at: float | None = None

    def dead(self, leases: Iterable[Beating]) -> list[tuple[str, int]]:
        """Look at all leases that there are; return (token, beat) of the dead ones. They are told again until they are gone."""
        now = self._clock()
        passed = 0.0 if self._looked_at is None else min(max(0.0, now - self._looked_at), LONGEST_GAP_S)
        self._looked_at = now
        seen: dict[str, _Seen] = {}
        for lease in leases:
            known = self._seen.get(lease.token)
            if known is None or known.beat != lease.beat:
                seen[lease.token] = _Seen(lease.beat)
            else:
                seen[lease.token] = _Seen(lease.beat, known.quiet_s + passed)
        self._seen = seen
        return [(token, one.beat) for token, one in seen.items() if one.quiet_s >= self._lease_s]
