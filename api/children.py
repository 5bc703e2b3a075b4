"""Processes that run beside the service: started again when they die, and gone when it is gone, however it ended.

A child ends when the pipe to its standard input closes, so that a service that is killed leaves none behind.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0  # before it is started again
STEADY_S = 60.0  # one that ran so long may be started again at once
_log = logging.getLogger("edgelut.children")


class Child:
    """Runs one of our own commands until `stop`. Secrets go by `environment`: others see a command's arguments."""

    name = "child"
    stop_s = 15.0  # how long it may take to end
    nice = 0  # how much it stands back behind others

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._command = [sys.executable, "-P", "-m", "edgelut", *arguments, "--until-stdin-ends"]
        self._environment = {**os.environ, **(environment or {})}
        self._environment.pop("EDGELUT_URL", None)
        self._fds: tuple[int, ...] = ()  # that it inherits
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"edgelut-local-{self.name}", daemon=True)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        with self._lock:
            return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it; it waits for the service by itself."""
        self._thread.start()

    def stop(self) -> None:
        """End it; by force where that takes too long. Idempotent."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(self.stop_s)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join(self.stop_s)

    def prepare(self) -> None:
        """Do what comes before the first start, in the child's thread."""

    def _keep(self) -> None:
        self.prepare()
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._run()
            if self._stopping.is_set():
                return
            wait_s = FIRST_WAIT_S if time.monotonic() - started > STEADY_S else wait_s
            _log.warning("the local %s ended (%s); it is started again in %g s", self.name, _how(code), wait_s)
            self._stopping.wait(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _run(self) -> int:
        with self._lock:
            if self._stopping.is_set():
                return 0
            command = ["nice", "-n", str(self.nice), *self._command] if self.nice else self._command
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=self._environment, pass_fds=self._fds)
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit {code}"
