"""Processes that run the service's jobs and are killed: forked from one that has loaded everything, so each starts at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent.parent


class Nursery:
    """Starts and kills children. If the test run dies, the nursery reads its end and kills them."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.jobs.nursery"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def start(self, url: str, **options: Any) -> int:
        """Start a child (`work` says which options there are); return its process id."""
        return int(self._ask(url=url, **options))

    def kill(self, child: int) -> None:
        """kill -9, and wait until it is gone."""
        assert self._ask(kill=child) == "gone"

    def end(self, child: int) -> None:
        """Wait until a child has ended by itself."""
        assert self._ask(wait=child) == "gone"

    def _ask(self, **words: Any) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def work(
    url: str,
    *,
    executor: str = "",
    installation: str = "",
    pause_s: float = 0.01,
    check_s: float = 0.2,
    adopt_s: float = 60.0,
) -> None:
    """Run an engine until all jobs and their workflows have ended, and an agent where an installation is named.

    Rows are put past the facade, so that nobody but the engine ends a job.
    """
    from dbos import DBOS

    from db.engine import open_store
    from jobs.engine import Engine
    from jobs.service import Jobs
    from tests.jobs.support import TinyAgent

    if executor:
        os.environ["EDGELUT_EXECUTOR"] = executor
    store = open_store(url)
    engine = Engine(store, check_s=check_s, adopt_s=adopt_s)
    engine.start()
    agent = TinyAgent(Jobs(store), name=installation or "nobody", installation=installation or "none")
    if installation:
        agent.announce()
    while store.unfinished_jobs() or DBOS.list_workflows(status=["PENDING", "ENQUEUED"], load_input=False):
        claim = store.claim(agent.name, agent.session, agent.devices) if installation else None
        if claim is None:
            time.sleep(0.05)
            continue
        for one in claim.points:
            time.sleep(pause_s)
            store.put_batch_runs(claim.batch, claim.lease, [agent.run(claim, one)])
            store.put_batch_entries(claim.batch, claim.lease, [agent.row(claim, one)])
        store.finish_batch(claim.batch, claim.lease, interrupted=False)
        engine.tell(claim.job)
    engine.stop()
    store.close()


def main() -> None:
    """Do what the lines say."""
    for name in ("db.engine", "jobs.engine", "jobs.service", "tests.jobs.support"):
        import_module(name)  # all that a child needs, before the first is forked
    children: set[int] = set()
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        words = json.loads(line)
        said = "gone"
        if "kill" in words or "wait" in words:
            child = words.get("kill") or words["wait"]
            if "kill" in words:
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            children.discard(child)
        else:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.close(0)
                    work(words.pop("url"), **words)
                    code = 0
                finally:
                    os._exit(code)
            children.add(child)
            said = str(child)
        print(said, flush=True)  # noqa: T201
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
