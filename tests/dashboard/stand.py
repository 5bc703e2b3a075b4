"""A service over made-up rows with its dashboard in front, as processes and threads that end with the test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from api.app import create_app
from api.settings import Settings
from db.store import SqlStore
from edgelut.http import HttpTable
from jobs.service import Jobs
from tests.api.support import new_store, served
from tests.dashboard import made_up, made_up_search

ROOT = Path(__file__).parents[2]
PULSE_S = 5.0  # of an agent's lease of 30 s


@dataclass
class Stand:
    """What is running: the dashboard's address, the service's, and what stands behind it."""

    url: str
    service: str
    store: SqlStore
    jobs: Jobs
    lab: made_up.Lab
    ids: dict[str, str] = field(default_factory=dict)


@contextmanager
def stand(folder: Path, settings: Settings | None = None) -> Iterator[Stand]:
    """Start a service with made-up rows and jobs, and its dashboard."""
    with new_store(folder) as store:
        made_up.fill(store)
        app = create_app(store, settings or Settings())
        jobs: Jobs = app.state.service.jobs  # the service's own, which tells its streams what happens
        lab = made_up.agent(jobs)
        with served(app) as service, _alive(jobs, lab), _dashboard(service) as url:
            ids = made_up.add_jobs(jobs, lab)
            with HttpTable(service, settings.token if settings else None) as table:
                ids |= made_up_search.post(table, made_up.PHONE)
            yield Stand(url, service, store, jobs, lab, ids | {"entry": made_up.entry_id(store)})


@contextmanager
def _dashboard(service: str) -> Iterator[str]:
    """Run the dashboard as its command does; it ends when its standard input does."""
    command = [
        sys.executable,
        "-P",
        "-c",
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from dashboard.cli import app; app()",
    ]
    options = [str(ROOT), "--url", service, "--port", "0", "--poll", "0.5", "--until-stdin-ends"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    process = subprocess.Popen(
        [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, line
        yield found[0]
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@contextmanager
def _alive(jobs: Jobs, lab: made_up.Lab) -> Iterator[None]:
    """Let an agent's heart beat."""
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(PULSE_S):
            jobs.pulse(lab.name, lab.session, None)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(10)
