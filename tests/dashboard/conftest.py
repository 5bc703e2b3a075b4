"""Services with rows, the dashboard in front of them as a process, and a window of Chromium that hears every complaint."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from db.engine import open_store
from tests.dashboard import big

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

ROOT = Path(__file__).parents[2]
SLOW_MS = 30_000
# The command line as it is installed, of this tree; arguments are visible to others, so no token is among them.
MAIN = "from edgelut.cli import main; main()"


def start(*argv: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start one of our commands; it ends with `end`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", MAIN, *argv],
            env={**kept, "EDGELUT_DASHBOARD": "off", "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=ROOT,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force where it does not go."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def address(log: Path, process: subprocess.Popen[bytes], words: str, timeout_s: float = 60) -> str:
    """Return the address that a process says it is at."""
    from tests.cli.processes import wait_until

    def said() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return re.search(rf"{words} (http://\S+)", log.read_text())

    wait_until(said, timeout_s)
    found = said()
    assert found is not None
    return found[1]


@dataclass
class Place:
    """A service over a database of its own, and its dashboard; both are processes that can be ended and started again."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    service_port: int = 0
    service: subprocess.Popen[bytes] | None = None
    dashboard: subprocess.Popen[bytes] | None = None
    service_url: str = ""
    url: str = ""

    @property
    def log(self) -> Path:
        return self.folder / "dashboard.log"

    def start_service(self) -> None:
        """Start it, at the port that it had before."""
        log = self.folder / "service.log"
        log.write_text("")
        argv = ("serve", "--no-agent", "--port", str(self.service_port))
        self.service = start(*argv, log=log, EDGELUT_HOME=str(self.folder), **self.environment)
        self.service_url = address(log, self.service, "EdgeLUT serves")
        self.service_port = int(self.service_url.rpartition(":")[2])

    def end_service(self) -> None:
        assert self.service is not None
        end(self.service)

    def start_dashboard(self) -> None:
        argv = ("dashboard", "--url", self.service_url, "--port", "0", "--poll", "0.3")
        self.dashboard = start(*argv, log=self.log)
        self.url = address(self.log, self.dashboard, "dashboard is at")


@contextmanager
def place(folder: Path, **environment: str) -> Iterator[Place]:
    """Start a service on a folder's database with its dashboard."""
    made = Place(folder, environment)
    try:
        made.start_service()
        made.start_dashboard()
        yield made
    finally:
        for process in (made.dashboard, made.service):
            if process is not None:
                process.kill()
                process.wait(10)


@pytest.fixture(scope="session")
def big_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 12,000 rows of the null device."""
    folder = tmp_path_factory.mktemp("big")
    with open_store(f"sqlite:///{folder / 'edgelut.db'}", migrate=True) as store:
        big.fill(store)
    return folder


@pytest.fixture(scope="session")
def big_place(big_database: Path) -> Iterator[Place]:
    """A service with 12,000 rows."""
    with place(big_database) as made:
        yield made


@pytest.fixture(scope="session")
def real_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows that were measured on this machine a moment ago, raw runs and all."""
    folder = tmp_path_factory.mktemp("real")
    log = folder / "profile.log"
    asked = ["--block", "MB4D", "--width", "16,24", "--resolution", "4,8", "--alone", "--max-rounds", "2", "--local"]
    process = start("profile", *asked, "--home", str(folder), log=log, EDGELUT_HOME=str(folder))
    assert process.wait(180) == 0, log.read_text()
    return folder


@pytest.fixture(scope="session")
def real_place(real_database: Path) -> Iterator[Place]:
    """A service with rows that were really measured, and their runs."""
    with place(real_database) as made:
        yield made


@pytest.fixture
def own_place(real_database: Path, tmp_path: Path) -> Iterator[Place]:
    """A copy of those rows for a test that changes them or ends the service."""
    shutil.copy(real_database / "edgelut.db", tmp_path / "edgelut.db")
    with place(tmp_path) as made:
        yield made


def chromium() -> str:
    """Return where Chromium is; skip the test where it is not, and fail it in CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is not None and find_spec("playwright") is not None:
        return found
    missing = "chromium (apt-get install chromium)" if found is None else "playwright (pip install '.[dev]')"
    if os.environ.get("CI") == "true":
        pytest.fail(f"pages are to be tested here, and there is no {missing}")
    pytest.skip(f"no {missing} to look at pages with")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """The driver. It keeps an event loop running in this thread, so it is gone before another module has tests with their own."""
    chromium()
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SLOW_MS)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Chromium without a window."""
    opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
    yield opened
    opened.close()


@dataclass
class Window:
    """A window, and what the browser complained of in it. `forgive` takes what a test expects."""

    page: Page
    said: list[str]

    def forgive(self, words: str) -> None:
        """Take complaints that hold these words; there must be one."""
        found = [one for one in self.said if words in one]
        assert found, self.said
        self.said[:] = [one for one in self.said if words not in one]


@contextmanager
def new_window(browser: Browser, **options: Any) -> Iterator[Window]:
    """Open a window; fail if anything in it was complained of."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options})
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    # What a page was still loading when it was left is no failure.
    page.on(
        "requestfailed",
        lambda one: said.append(f"{one.url} {one.failure}") if "ABORTED" not in str(one.failure) else None,
    )
    page.on("response", lambda answer: said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    page.on("request", lambda asked: said.append(f"other host: {asked.url}") if not _ours(asked.url) else None)
    try:
        yield Window(page, said)
    finally:
        context.close()
    assert not said


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """A window of 1280 by 900."""
    with new_window(browser) as opened:
        yield opened


@pytest.fixture
def page(window: Window) -> Page:
    """Its page."""
    return window.page


def _ours(url: str) -> bool:
    return re.match(r"(http|ws)://127\.0\.0\.1[:/]|data:|blob:|about:", url) is not None
