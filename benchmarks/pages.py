"""How soon the dashboard's pages can be used, how fast 12,000 rows scroll and filter, and what 50 open pages cost GET /latency."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice, product
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from report import Figure, parser, publish
from serving import SERVE, entry, get, run, server

from db.engine import open_store
from edgelut.blocks import MB3D
from edgelut.types import BlockSpec, Target

TARGET = Target("lab", "onnxruntime-cpu")
TABLE = f"/table?device={TARGET.device}&runtime={TARGET.runtime}"
COMPARE = f"/compare?a={TARGET}&b={TARGET}"
PATHS = ("/", TABLE, "/jobs", "/network", "/space", COMPARE)
REPEATS = 5
SETTLE_S = 20.0  # until the pages have been made, or are forgotten: what is asked of is open pages, not opening ones
# Waits for the next frame in which something is so; gives the milliseconds since it began.
UNTIL = """const until = (is) => new Promise((done, fail) => {
  const began = performance.now();
  const look = () => is() ? done(performance.now() - began)
    : performance.now() - began > 10000 ? fail(new Error("not within 10 s")) : requestAnimationFrame(look);
  look();
});
const grid = getElement(Number(document.querySelector(".nicegui-aggrid").id.slice(1))).api;
"""
SCROLL = """async (row) => { %s
  const view = document.querySelector(".ag-body-viewport"), height = grid.getSizesForCurrentTheme().rowHeight;
  view.scrollTop = row * height;
  return await until(() => document.querySelector(`.ag-row[row-index="${row + 2}"] .ag-cell`)?.textContent);
}"""
FILTER = """async (width) => { %s
  const before = grid.getDisplayedRowCount(), began = performance.now();
  grid.setFilterModel({width: {filterType: "number", type: "equals", filter: width}});
  await until(() => grid.getDisplayedRowCount() < before && document.querySelector(".ag-row .ag-cell"));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));  // until it is drawn
  const took = performance.now() - began;
  grid.setFilterModel(null);
  await until(() => grid.getDisplayedRowCount() === before);
  return took;
}"""
SHOWN = '() => document.querySelector("h1")?.textContent && document.querySelector(".el-card, .ag-row")'
ROWS = '() => document.querySelectorAll(".ag-row .ag-cell").length > 20'

# Charts come last: each has its series.
DRAWN = """() => { const charts = [...document.querySelectorAll(".nicegui-echart")];
  const drawn = (one) => { try { return getElement(one).chart.getOption().series.length; } catch { return false; } };
  return charts.length > 1 && charts.every(drawn); }"""


def specs(rows: int) -> list[BlockSpec]:
    """Return that many blocks of one kind."""
    shapes = product(range(16, 16 + 8 * 1000, 8), (7, 14, 28), (2, 3, 4, 6))
    return [MB3D.spec(width, side, params={"expansion": by}) for width, side, by in islice(shapes, rows)]


@contextmanager
def pages(rows: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a table of so many rows with a dashboard; give the addresses of both."""
    database = f"sqlite:///{folder / 'edgelut.db'}"
    with open_store(database, migrate=True) as store:
        store.put_many([entry(spec, TARGET, number) for number, spec in enumerate(specs(rows))])
    options = ("--no-agent", "--no-dashboard", "--port", "0", "--database", database)
    with server(SERVE, "serve", *options) as url, server(SERVE, "dashboard", "--url", url, "--port", "0") as shown:
        yield url, shown


def opened_ms(context: BrowserContext, address: str, ready: str) -> float:
    """Return how long a page takes until what it is for is there, in a new tab."""
    page = context.new_page()
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(ready)
    took = (time.perf_counter() - began) * 1e3
    page.close()
    return took


def table_ms(page: Page, rows: int) -> tuple[list[float], list[float]]:
    """Return how long jumps through the rows and filters on a column take."""
    jumps = [rows // 7 * step for step in range(1, 6)]
    scrolled = [float(page.evaluate(SCROLL % UNTIL, row)) for row in jumps]
    page.evaluate("document.querySelector('.ag-body-viewport').scrollTop = 0")
    filtered = [float(page.evaluate(FILTER % UNTIL, width)) for width in (208, 416, 624, 832, 1040)]
    return scrolled, filtered


def load(url: str, rows: int, seconds: float) -> float:
    """Return the answers a second to GET /latency, asked again and again."""
    requests = cycle([get(spec, TARGET) for spec in specs(min(rows, 500))])
    with ThreadPoolExecutor(1) as beside:  # this thread has the browser's event loop
        found = beside.submit(run, url, requests, seconds).result()
    if found.bad:
        raise SystemExit(f"{found.bad} requests failed")
    return found.rate


def crowd_cost(browser: Browser, url: str, shown: str, rows: int, people: int, turns: int = 3) -> list[float]:
    """Return the rate with that many open pages over the rate without, of several turns."""
    context = browser.new_context()
    load(url, rows, 1.0)
    ratios = []
    for _ in range(turns):
        before = load(url, rows, 3.0)
        crowd = [context.new_page() for _ in range(people)]
        for page, path in zip(crowd, cycle(PATHS), strict=False):
            page.goto(shown + path, wait_until="commit")
        crowd[-1].wait_for_function(SHOWN)
        time.sleep(SETTLE_S)
        during = load(url, rows, 3.0)
        for page in crowd:
            page.close()
        time.sleep(SETTLE_S)
        ratios.append(2 * during / (before + load(url, rows, 3.0)))
    return ratios


def shown_in(took: list[float], name: str) -> Figure:
    """Return the median as a figure that has a goal."""
    middle = statistics.median(took)
    return Figure(name, middle, "ms", "<= 2,000 ms", middle <= 2000)


def figures(rows: int, people: int) -> list[Figure]:
    """Return the figures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("there is no chromium: apt-get install chromium")
    flags = ["--no-sandbox", "--renderer-process-limit=4"]
    with (
        tempfile.TemporaryDirectory() as folder,
        pages(rows, Path(folder)) as (url, shown),
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        first = opened_ms(browser.new_context(), shown + "/", SHOWN)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(60_000)
        opened = {path: [opened_ms(context, shown + path, SHOWN) for _ in range(REPEATS)] for path in PATHS}
        whole = {
            (path, ready): [opened_ms(context, shown + path, ready) for _ in range(REPEATS)]
            for path, ready in ((TABLE, ROWS), (TABLE, DRAWN), (COMPARE, ROWS), (COMPARE, DRAWN))
        }
        page = context.new_page()
        page.goto(shown + TABLE)
        page.wait_for_function(DRAWN)  # what is drawn meanwhile would be counted with the first jump
        scrolled, filtered = table_ms(page, rows)
        page.close()
        ratios = crowd_cost(browser, url, shown, rows, people)
        browser.close()
    middle = statistics.median
    slowest = max(opened, key=lambda path: middle(opened[path]))
    cost = (1 - middle(ratios)) * 100
    return [
        shown_in([first], "dashboard: first page, empty cache"),
        shown_in(opened["/"], "dashboard: first page, again"),
        Figure("dashboard: slowest page", middle(opened[slowest]), "ms", baseline=slowest.partition("?")[0]),
        shown_in(whole[TABLE, ROWS], f"dashboard: table of {rows:,} rows"),
        Figure("dashboard: the same with its charts", middle(whole[TABLE, DRAWN]), "ms"),
        shown_in(whole[COMPARE, ROWS], f"dashboard: {rows:,} rows compared"),
        Figure("dashboard: the same with its charts", middle(whole[COMPARE, DRAWN]), "ms"),
        Figure("dashboard: a jump through the rows", max(scrolled), "ms", "<= 200 ms", max(scrolled) <= 200),
        Figure("dashboard: a filter on the rows", max(filtered), "ms", "<= 200 ms", max(filtered) <= 200),
        Figure(f"dashboard: GET /latency, {people} open pages", cost, "% slower", "<= 10 %", cost <= 10),
    ]


def main() -> None:
    """Serve a table of its own and look at it."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rows", type=int, default=12_000, help="rows in the table (default: 12,000)")
    arguments.add_argument("--people", type=int, default=50, help="open pages (default: 50)")
    options = arguments.parse_args()
    publish(figures(options.rows, options.people), options.json)


if __name__ == "__main__":
    sys.exit(main())
