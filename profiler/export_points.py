"""Exporting the artifacts that a list of points needs, several at a time, each in a worker that a crash may take down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from edgelut.errors import EdgelutError
from edgelut.types import BlockSpec, Params

from .artifacts import Stored
from .errors import WorkerDied
from .worker import Worker

TASKS = "profiler.exporting"
TIMEOUT_S = 300.0


class Export(Protocol):
    """What is exported: a point, or a line of `edgelut export`."""

    @property
    def artifact_spec(self) -> BlockSpec: ...
    @property
    def format(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def options(self) -> Params: ...


class ExportPool:
    """A few long-lived export workers: the first export of a process costs seconds of imports, the next ones tenths."""

    def __init__(self, root: Path, workers: int = 2) -> None:
        self.root = root
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="export")

    def export_all(
        self,
        exports: Sequence[Export],
        done: Callable[[int, Stored, bool], None],
        failed: Callable[[int, EdgelutError], None],
    ) -> None:
        """Export all; call `done(index, stored, made)` or `failed(index, error)` in this thread as each one ends."""
        from concurrent.futures import as_completed

        futures = {self._threads.submit(self._export, export): index for index, export in enumerate(exports)}
        try:
            for future in as_completed(futures):
                error = future.exception()
                if error is None:
                    done(futures[future], *future.result())
                elif isinstance(error, EdgelutError):
                    failed(futures[future], error)
                else:
                    raise error
        finally:
            for future in futures:
                future.cancel()

    def _export(self, export: Export) -> tuple[Stored, bool]:
        worker = self._take()
        try:
            found: tuple[Stored, bool] = worker.call(
                "export",
                TIMEOUT_S,
                spec=export.artifact_spec,
                format=export.format,
                precision=export.precision,
                options=dict(export.options),
                root=self.root,
            )
        except WorkerDied:
            worker.close()
            raise
        except BaseException:
            self._give(worker)
            raise
        self._give(worker)
        return found

    def _take(self) -> Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Worker(TASKS)

    def _give(self, worker: Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def close(self) -> None:
        """End the workers."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._idle:
            worker.close()
        self._idle.clear()

    def __enter__(self) -> ExportPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
