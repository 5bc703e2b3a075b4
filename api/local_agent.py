"""The embedded agent: a process of its own beside the service, which measures on this machine, and is started again if it dies.

Measuring inside the service's process would disturb both. The agent goes when the pipe to its standard input closes, so that a
service that is killed leaves no agent behind.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "onnxruntime")  # to measure anything here with the runtime that a job takes by default
INSTALL = "pip install 'edgelut-service[profile]'"
STOP_S = 15.0  # for the round in hand, and for telling the service
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0  # before it is started again
STEADY_S = 60.0  # one that ran so long may be started again at once
_log = logging.getLogger("edgelut.agent")


def missing() -> list[str]:
    """Return which packages an agent lacks here."""
    return [name for name in NEEDED if find_spec(name) is None]


class LocalAgent:
    """Runs `edgelut agent` until `stop`. The token goes by the environment: others see a command's arguments."""

    def __init__(self, url: str, token: str, home: Path) -> None:
        arguments = ("agent", "--url", url, "--name", "host", "--device", "host=host", "--home", str(home), "--quiet")
        self._command = [sys.executable, "-P", "-m", "edgelut", *arguments, "--until-stdin-ends"]
        self._environment = {**os.environ, "EDGELUT_TOKEN": token}
        self._environment.pop("EDGELUT_URL", None)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="edgelut-local-agent", daemon=True)
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
        """End it after its round; by force where that takes too long. Idempotent."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _keep(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._run()
            if self._stopping.is_set():
                return
            wait_s = FIRST_WAIT_S if time.monotonic() - started > STEADY_S else wait_s
            _log.warning("the local agent ended (%s); it is started again in %g s", _how(code), wait_s)
            self._stopping.wait(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _run(self) -> int:
        with self._lock:
            if self._stopping.is_set():
                return 0
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=self._environment)
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit {code}"
