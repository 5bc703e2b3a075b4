"""A lab for builds: a real service and a real agent, as processes, with a device whose artifacts say how fast they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgelut.job_client import HttpJobs
from tests.fakes import ROOT, install_plugins

EDGELUT = [sys.executable, "-P", "-m", "tests.ci.outside.command"]
START_S = 90.0

CONFIG = """
name: paced
job:
  blocks: [identity]
  widths: ["16..128:16"]
  resolutions: [4]
  devices: [lab]
  runtimes: [paced]
  options: {OPTIONS}
baseline: {branch: main}
record: {on-branch: main}
timeout: 3m
"""


@dataclass(frozen=True, slots=True)
class Lab:
    """Where the service is, what a command needs in its environment, and where the agent keeps its data."""

    url: str
    env: dict[str, str]
    folder: Path


@contextmanager
def process(argv: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block is left; it is told to stop, and killed where it does not."""
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=env) as running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()


def address(log: Path) -> str:
    """Return the address that a service says it listens on."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for word in log.read_text().split():
            if word.startswith("http://127.0.0.1:"):
                return word.rstrip("/.,")
        time.sleep(0.05)
    raise AssertionError(f"the service did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A service and an agent with the device `lab` and the runtime `paced`."""
    folder = tmp_path_factory.mktemp("lab")
    install_plugins(folder / "plugins", {"edgelut.runtimes": {"paced": "tests.ci.outside.paced"}})
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("EDGELUT_", "GITHUB_"))}
    env = {**ours, "PYTHONPATH": os.pathsep.join((str(folder / "plugins"), str(ROOT)))}
    env |= {"EDGELUT_HOME": str(folder / "home"), "EDGELUT_DASHBOARD": "off"}
    serve, agent = folder / "serve.log", folder / "agent.log"
    with process([*EDGELUT, "serve", "--port", "0", "--no-agent"], serve, env):
        url = address(serve)
        argv = [*EDGELUT, "agent", "--url", url, "--device", "null=lab", "--name", "tester", "--home"]
        with process([*argv, str(folder / "agent")], agent, env):
            lab = Lab(url, env, folder)
            _await_device(lab, agent)
            yield lab


def _await_device(lab: Lab, log: Path) -> None:
    """Wait until the device can be measured on."""
    deadline = time.monotonic() + START_S
    with HttpJobs(lab.url) as jobs:
        while time.monotonic() < deadline:
            if any(device.info.name == "lab" and device.state == "idle" for device in jobs.fleet()):
                return
            time.sleep(0.1)
    raise AssertionError(f"the agent did not announce its device: {log.read_text()}")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout with a configuration whose series of builds is this test's own."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    configure(folder)
    return folder


def configure(workspace: Path, options: str = "{}", more: str = "") -> None:
    """Write the configuration: options of the exporter tell how fast the new artifacts are."""
    text = CONFIG.replace("{OPTIONS}", options).replace("name: paced", f"name: {workspace.parent.name}")
    (workspace / "edgelut-ci.yaml").write_text(text + more)
