"""What was learnt from targets' rows, kept while the table stays as it is: to learn takes seconds, to estimate milliseconds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from db.store import SqlStore
from edgelut.estimated import EstimatedSource, estimates_of
from edgelut.types import Target

if TYPE_CHECKING:
    from edgelut.estimate import Estimates

MOST_HELD = 16  # targets


class Learnt:
    """What was learnt from targets' rows, for as long as nothing new is in the table. Safe to share between threads."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, str], tuple[object, Estimates]] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, store: SqlStore, target: Target, like: Target | None) -> Estimates:
        """Return what estimates blocks on a target; learns once for each version of the table."""
        key = (target.key, "" if like is None else like.key)
        with self._turn:
            version = store.versions()
            held = self._held.get(key)
            if held is None or held[0] != version:
                held = self._held[key] = (version, estimates_of(store, target, like))
            self._held.move_to_end(key)
            while len(self._held) > MOST_HELD:
                self._held.popitem(last=False)
            return held[1]

    def source(self, store: SqlStore, like: Target | None) -> EstimatedSource:
        """Return the table with its gaps filled, learnt once for each version of the table."""
        return EstimatedSource(store, like=like, learn=lambda target: self.get(store, target, like))
