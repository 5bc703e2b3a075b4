"""`make screenshots`: pictures of every page over made-up rows, wide and narrow, light and dark, small enough for the documents."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.dashboard.made_up import BOARD, PHONE
from tests.dashboard.stand import Stand, stand

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
WIDE, NARROW = (1280, 860), (390, 844)


@dataclass(frozen=True)
class Picture:
    """One picture: its file, the page's address, and whether it is of the whole page or of what a window shows."""

    name: str
    path: str
    whole: bool = False
    size: tuple[int, int] = WIDE
    theme: str = "light"


def pages(of: Stand) -> dict[str, str]:
    """Return the address of every page, by name."""
    phone, board = quote(str(PHONE)), quote(str(BOARD))
    return {
        "devices": "/",
        "table": f"/table?device={PHONE.device}&runtime={PHONE.runtime}&precision=fp32&block=MB4D",
        "entry": f"/entry/{of.ids['entry']}",
        "compare": f"/compare?a={phone}&a_at=2026-09-14&b={phone}",
        "network": "/network",
        "space": f"/space?space=efficientformer-l1-table&target={board}",
        "jobs": "/jobs",
        "job": f"/jobs/{of.ids['running']}",
        "failed": f"/jobs/{of.ids['failed']}",
        "searches": "/searches",
        "search": f"/searches/{of.ids['search']}",
        "searching": f"/searches/{of.ids['searching']}",
    }


def shown(of: Stand) -> list[Picture]:
    """Return the pictures that docs/dashboard.md shows."""
    path = pages(of)
    wide = [
        Picture(name, path[name])
        for name in ("devices", "table", "entry", "compare", "network", "space", "job", "search")
    ]
    dark = [Picture(f"{name}-dark", path[name], theme="dark") for name in ("table", "network")]
    narrow = [Picture(f"{name}-narrow", path[name], size=NARROW) for name in ("table", "network")]
    both = [Picture(f"{name}-narrow", path[name], size=NARROW, theme="dark") for name in ("failed", "search")]
    return [*wide, *dark, *narrow, *both]


def every(of: Stand) -> list[Picture]:
    """Return every page, whole, in both widths and themes: to be looked at."""
    return [
        Picture(f"{name}-{size[0]}-{theme}", path, True, size, theme)
        for name, path in pages(of).items()
        for size in (WIDE, NARROW)
        for theme in ("light", "dark")
    ]


def take(browser: Browser, url: str, picture: Picture, folder: Path) -> list[str]:
    """Save a picture; return what the browser complained about."""
    width, height = picture.size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=picture.theme, reduced_motion="reduce"
    )
    page = context.new_page()
    said = listen(page)
    page.goto(url + picture.path, wait_until="networkidle")
    settle(page)
    page.screenshot(path=folder / f"{picture.name}.png", full_page=picture.whole)
    context.close()
    return said


def settle(page: Page) -> None:
    """Wait until a page has neither grown nor changed for a second: what it shows comes over its socket."""
    same, before = 0, ""
    while same < 4:
        now = page.evaluate("document.documentElement.scrollHeight + document.body.innerText")
        same, before = (same + 1 if now == before else 0), now
        page.wait_for_timeout(250)


def listen(page: Page) -> list[str]:
    """Return the list that errors of a page are added to."""
    said: list[str] = []
    page.on("console", lambda one: said.append(f"{one.type}: {one.text}") if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url} {request.failure}"))
    page.on("response", lambda answer: said.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
    return said


def shrink(path: Path) -> None:
    """Write a picture with 256 colours: a third of the size."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def main(folder: Path = FOLDER, *, look: bool = False) -> int:
    """Take the pictures of the documents, or to `look` at of every page; return 1 where a page complained."""
    folder.mkdir(parents=True, exist_ok=True)
    complaints = 0
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("there is no chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as data, stand(Path(data)) as running, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for picture in every(running) if look else shown(running):
            said = take(browser, running.url, picture, folder)
            shrink(folder / f"{picture.name}.png")
            complaints += bool(said)
            size = (folder / f"{picture.name}.png").stat().st_size
            sys.stdout.write(f"{picture.name}.png  {size // 1024} KiB  {'; '.join(said)}\n")
        browser.close()
    return int(bool(complaints))


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--look"]
    sys.exit(main(*map(Path, given), look="--look" in sys.argv))
