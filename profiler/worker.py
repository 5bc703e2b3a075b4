"""The child process that exports, loads and times; and the parent's handle on it.

One worker is one process: a crash of a toolchain or a runtime ends the worker and not the sweep. Parent and child speak
(name, arguments) -> (ok, value) over a pipe of their own, so that what a library prints cannot break the talk. A second pipe is
never written to: it closes when the parent is gone, and the child ends at once, in the middle of a burst too.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from edgelut.errors import EdgelutError
from profiler.errors import TaskFailed, WorkerDied

START_TIMEOUT_S = 120.0
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Worker:
    """The parent's handle on one child process. Close it, or use it as a context manager."""

    def __init__(
        self,
        tasks: str,
        env: Mapping[str, str] | None = None,
        python: Path | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        """Start a process that answers the functions of the module `tasks`, with `env` added to its environment.

        `python` is another interpreter to run it in; this package must be installed there. `keep` are descriptors that stay
        open in it for as long as it lives: a device's lock.
        """
        self.process = uuid.uuid4().hex
        self._pipe, theirs = Pipe()
        watched, self._life = os.pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would fill up and stop the child
        self._child = subprocess.Popen(
            [str(python or sys.executable), "-P", "-m", "profiler.worker", str(theirs.fileno()), str(watched), tasks],
            pass_fds=[theirs.fileno(), watched, *keep],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **SINGLE_THREADED, **(env or {})},
        )
        theirs.close()
        os.close(watched)

    def call(self, name: str, timeout_s: float = START_TIMEOUT_S, /, **arguments: Any) -> Any:
        """Call a function there; raise what it raised, or WorkerDied."""
        self.send(name, **arguments)
        return self.receive(name, timeout_s)

    def send(self, name: str, /, **arguments: Any) -> None:
        """Ask for a call without waiting for its answer."""
        try:
            self._pipe.send((name, arguments))
        except OSError as error:
            raise WorkerDied(self._last_words(name)) from error

    def receive(self, name: str, timeout_s: float = START_TIMEOUT_S) -> Any:
        """Wait for the answer of the call that was sent last."""
        try:
            if not self._pipe.poll(timeout_s):
                self.kill()
                raise WorkerDied(f"the worker did not answer {name!r} within {timeout_s:g} s and was ended")
            ok, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(self._last_words(name)) from error
        except EdgelutError:
            raise
        except Exception as error:  # a worker in another environment may answer with what this one cannot build
            raise TaskFailed(f"the answer to {name!r} cannot be read here: {type(error).__name__}: {error}") from error
        if not ok:
            raise value
        return value

    def kill(self) -> None:
        """End the child at once."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """End the child: it goes when its pipe closes."""
        if self._errors.closed:
            return
        self._pipe.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        os.close(self._life)
        self._errors.close()

    def _last_words(self, name: str) -> str:
        """Say how the child ended, with the end of what it printed as an error."""
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        how = f"signal {-self._child.returncode}" if self._child.returncode < 0 else f"exit {self._child.returncode}"
        return f"the worker died in {name!r} ({how}){': ' + said[-500:] if said else ''}"

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(pipe: Connection[Any, Any], tasks: Any) -> None:
    """Answer calls until the parent closes the pipe."""
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, getattr(tasks, name)(**arguments))
        except Exception as error:  # noqa: BLE001 - what failed there becomes an answer, and in the sweep a stored reason
            answer = (False, portable(error))
        pipe.send(answer)


def portable(error: Exception) -> Exception:
    """Return our own errors as they are and others as one that any process can unpickle."""
    if isinstance(error, EdgelutError) and _survives(error):
        return error
    return TaskFailed(f"{type(error).__name__}: {error}")


def _survives(error: Exception) -> bool:
    """Say whether an error can cross the pipe: a plug-in's own may take arguments that pickle does not know of."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # noqa: BLE001 - whatever it is, the answer is no
        return False


def _end_with_parent(life: int) -> None:
    """End this process as soon as the other end of a pipe is closed: nobody waits for what it does."""
    os.read(life, 1)
    os._exit(1)


def main() -> None:
    """Run a worker: `python -m profiler.worker PIPE LIFE TASKS`."""
    from importlib import import_module

    for number in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle, which lets a round end
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(int(sys.argv[2]),), daemon=True).start()
    pipe: Connection[Any, Any] = Connection(int(sys.argv[1]))
    _serve(pipe, import_module(sys.argv[3]))


if __name__ == "__main__":
    main()
