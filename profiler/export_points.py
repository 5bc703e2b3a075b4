"""Finding or making the artifacts that a list of points needs, several at a time, each made in a worker that a crash may
take down. What is in the store is found without a worker: that one loads torch for seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

from edgelut.errors import ArtifactCorrupted, BackendMissing, EdgelutError
from edgelut.types import BlockSpec, Params

from .artifacts import ArtifactStore, Stored, artifact_key
from .errors import WorkerDied
from .toolchains import Toolchains
from .worker import Worker

TASKS = "profiler.exporting"
TIMEOUT_S = 300.0

T = TypeVar("T")
Turn = Callable[[], AbstractContextManager[object]]


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


def find_stored(export: Export, root: Path, toolchains: Toolchains) -> Stored | None:
    """Return the artifact that is in the store, or None where it, or how its exporter is, is not known here."""
    try:
        exporter = toolchains.find_exporter(export.format)
        if (
            exporter is None
            or export.precision not in exporter.precisions
            or set(export.options) - set(exporter.options)
        ):
            return None
        settings = {**exporter.options, **export.options}
        key = artifact_key(
            export.artifact_spec, export.format, export.precision, settings, exporter.version, exporter.weights
        )
        return ArtifactStore(root).find(key)
    except (ArtifactCorrupted, BackendMissing):
        return None  # the worker makes it again, or says what is missing


class ExportPool:
    """A few long-lived export workers: the first export of a process costs seconds of imports, the next ones tenths.

    Safe for threads; none starts a worker before there is something to make.
    """

    def __init__(self, root: Path, workers: int = 2) -> None:
        self.root = root
        self._toolchains = Toolchains.beside(root)
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="export")

    def export_all(
        self,
        exports: Sequence[Export],
        done: Callable[[int, Stored, bool], None],
        failed: Callable[[int, EdgelutError], None],
        turn: Turn = nullcontext,
    ) -> None:
        """Find or make all; call `done(index, stored, made)` or `failed(index, error)` in this thread as each one ends.

        `turn` is entered before anything is made: making takes all of a processor that somebody may be measuring on.
        """
        missing: list[int] = []

        def found(index: int, stored: Stored | None) -> None:
            if stored is None:
                missing.append(index)
            else:
                done(index, stored, False)

        def made(index: int, result: tuple[Stored, bool]) -> None:
            done(index, *result)

        self._each(self._find, exports, range(len(exports)), found, failed)
        if missing:
            with turn():
                self._each(self._export, exports, sorted(missing), made, failed)

    def _each(
        self,
        work: Callable[[Export], T],
        exports: Sequence[Export],
        indices: Iterable[int],
        done: Callable[[int, T], None],
        failed: Callable[[int, EdgelutError], None],
    ) -> None:
        futures = {self._threads.submit(work, exports[index]): index for index in indices}
        try:
            for future in as_completed(futures):
                error = future.exception()
                if error is None:
                    done(futures[future], future.result())
                elif isinstance(error, EdgelutError):
                    failed(futures[future], error)
                else:
                    raise error
        finally:
            for future in futures:
                future.cancel()

    def _find(self, export: Export) -> Stored | None:
        return find_stored(export, self.root, self._toolchains)

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
            self._busy.remove(worker)
            worker.close()
            raise
        except BaseException:
            self._give(worker)
            raise
        self._give(worker)
        return found

    def _take(self) -> Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or Worker(TASKS)
        self._busy.append(worker)
        return worker

    def _give(self, worker: Worker) -> None:
        with self._lock:
            self._busy.remove(worker)
            self._idle.append(worker)

    def abort(self) -> None:
        """End what is being made, for a process that is about to end; exports fail by it."""
        for worker in list(self._busy):
            worker.kill()

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
