"""The pages of devices, one device's table and one entry, in a real browser over 12,000 rows and over rows just measured."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from db.engine import open_store
from edgelut.blocks import MB4D
from edgelut.testing import make_entry
from edgelut.types import Params, Target
from tests.dashboard.big import ROWS
from tests.dashboard.conftest import Place, Window, new_window, place

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TABLE = "/table?device=null"
ADMIN = "an-admins-token-of-the-tests"


def query(page: Page) -> dict[str, str]:
    """The parameters of a page's address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def shown(page: Page) -> int:
    """How many rows a grid shows, after search and filters."""
    return int(page.evaluate("getElement(document.querySelector('.el-grid')).api.getDisplayedRowCount()"))


def values(page: Page, column: str, number: int = 8) -> list[object]:
    """The first values of a column as they are shown."""
    code = """([column, number]) => { const api = getElement(document.querySelector('.el-grid')).api;
      return Array.from({length: number}, (_, row) => api.getDisplayedRowAtIndex(row)?.data[column]); }"""
    return list(page.evaluate(code, [column, number]))


def until_rows(page: Page, number: int) -> None:
    code = """number => { const grid = document.querySelector('.el-grid');
      return grid && getElement(grid)?.api?.getDisplayedRowCount() === number; }"""
    page.wait_for_function(code, arg=number)


def until_drawn(page: Page, number: int = 2) -> None:
    """Charts come after the rows."""
    code = """number => [...document.querySelectorAll('.nicegui-echart')].filter((one) => {
      try { return getElement(one).chart.getOption().series.length; } catch { return false; } }).length >= number"""
    page.wait_for_function(code, arg=number)


def saved(page: Page, label: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def pick(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


def test_devices_show_what_the_table_covers_and_lead_to_it(big_place: Place, page: Page) -> None:
    page.goto(big_place.url)
    device = page.get_by_role("region").filter(has=page.get_by_role("heading", name="null"))
    device.get_by_text("12,000 rows").wait_for()
    assert device.get_by_text("in doubt").count() == 1
    device.get_by_role("link", name="null fp32").click()
    page.wait_for_url("**/table?device=null&runtime=null*")
    until_rows(page, ROWS)


def test_the_address_restores_filter_sorting_search_and_choices(big_place: Place, page: Page) -> None:
    page.goto(big_place.url + TABLE)
    until_rows(page, ROWS)
    pick(page, "Block", "MB4D")
    page.get_by_role("switch", name="Logarithmic").click()
    page.locator(".ag-header-cell[col-id=value] .ag-header-cell-label").click()
    page.locator(".ag-header-cell[col-id=value] .ag-header-cell-label").click()
    page.get_by_label("Search rows").fill("expansion=6")
    page.wait_for_function("new URLSearchParams(location.search).get('q') === 'expansion=6'")
    page.evaluate(
        "getElement(document.querySelector('.el-grid')).api.setFilterModel({resolution: {type: 'equals', filter: 14}})"
    )
    page.wait_for_function("new URLSearchParams(location.search).get('filter') !== null")
    before, slowest = shown(page), values(page, "value")
    asked = query(page)
    assert (asked["block"], asked["log"], asked["sort"], asked["q"]) == ("MB4D", "1", "value:desc", "expansion=6")
    assert 0 < before < ROWS and slowest == sorted(slowest, key=float, reverse=True)  # type: ignore[arg-type]
    page.reload()
    until_rows(page, before)
    assert values(page, "value") == slowest
    assert page.get_by_label("Search rows").input_value() == "expansion=6"
    assert page.get_by_role("switch", name="Logarithmic").get_attribute("aria-checked") == "true"
    assert set(values(page, "resolution")) == {14} and set(values(page, "block")) == {"MB4D"}


def test_what_is_shown_is_saved_as_csv_and_as_a_picture(real_place: Place, page: Page, tmp_path: Path) -> None:
    page.goto(f"{real_place.url}/table?device=host&sort=value:desc")
    until_rows(page, 4)
    rows = list(csv.DictReader(saved(page, "Save CSV: Rows", tmp_path).read_text("utf-8-sig").splitlines()))
    answered = httpx.get(
        f"{real_place.service_url}/latency", params={"device": "host", "block": "MB4D"}, timeout=30
    ).json()
    stored = sorted((row["latency_ms"] for row in answered["entries"]), reverse=True)
    assert [float(row["ms"]) for row in rows] == pytest.approx(stored, rel=1e-5)
    assert {row["block"] for row in rows} == {"MB4D"} and {row["width"] for row in rows} == {"16", "24"}
    assert all("pool=3" in row["all parameters"] and row["runs"] for row in rows)
    until_drawn(page)
    picture = saved(page, "Save image: MB4D: by width and resolution", tmp_path).read_bytes()
    assert picture[:4] == b"\x89PNG" and len(picture) > 3000


def test_a_row_leads_to_its_entry_with_history_runs_and_facts(real_place: Place, page: Page) -> None:
    page.goto(f"{real_place.url}/table?device=host")
    until_rows(page, 4)
    page.locator(".ag-row[row-index='0'] .ag-cell[col-id=width]").click()
    page.keyboard.press("Enter")
    page.wait_for_url("**/entry/*")
    page.get_by_role("heading", name="MB4D 16 @4 on host onnxruntime-cpu fp32").wait_for()
    page.get_by_text("samples of").first.wait_for()
    for words in ("artifact sha256", "parity error", "runtime version", "measured at"):
        assert page.get_by_text(words, exact=True).count(), words
    until_drawn(page, 3)
    page.get_by_text("REST: the calls behind this page").click()
    assert page.get_by_text(f'curl "{real_place.service_url}/entries/').count() >= 3


def test_a_chart_opens_the_row_of_a_point(real_place: Place, page: Page) -> None:
    page.goto(f"{real_place.url}/table?device=host")
    until_rows(page, 4)
    chart = page.locator(".nicegui-echart").first
    until_drawn(page)
    box = chart.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    page.wait_for_url("**/entry/*")


def test_a_row_that_is_measured_again_appears_by_itself(own_place: Place, page: Page) -> None:
    page.goto(f"{own_place.url}/table?device=host")
    until_rows(page, 4)
    said = Params({"measured_at": "2027-01-02T03:04:05+00:00", "sweep": "later"})
    new = make_entry(5e6, MB4D.spec(48, 8), Target("host", "onnxruntime-cpu"), provenance=said)
    with open_store(f"sqlite:///{own_place.folder / 'edgelut.db'}") as store:
        store.put(new)
    until_rows(page, 5)


def test_a_service_that_goes_away_is_said_and_the_page_goes_on_when_it_is_back(
    own_place: Place, window: Window
) -> None:
    page = window.page
    page.goto(own_place.url)
    page.get_by_text("4 rows").wait_for()
    own_place.end_service()
    page.get_by_text("The service does not answer").wait_for()
    page.goto(f"{own_place.url}/table?device=host")  # a page that cannot be built waits too
    page.get_by_text("The service does not answer").wait_for()
    own_place.start_service()
    until_rows(page, 4)
    assert page.get_by_text("The service does not answer").count() == 0
    page.goto(own_place.url)
    page.get_by_text("4 rows").wait_for()


@pytest.mark.parametrize("path", ["/", TABLE, "/entry/1"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_shows_everything_without_scrolling_sideways(
    big_place: Place, browser: Browser, path: str, scheme: str
) -> None:
    with new_window(browser, viewport={"width": 390, "height": 844}, color_scheme=scheme) as window:
        window.page.goto(big_place.url + path)
        window.page.wait_for_load_state("networkidle")
        assert window.page.evaluate("document.documentElement.scrollWidth") == 390
        assert window.page.evaluate("document.documentElement.dataset.theme") == scheme


def test_the_theme_is_remembered_and_reaches_charts(real_place: Place, page: Page) -> None:
    page.goto(f"{real_place.url}/table?device=host")
    pick(page, "Theme", "dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.wait_for_function("document.querySelector('.nicegui-echart')?.dataset.painted === 'dark'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"


def test_keys_alone_reach_the_content_the_navigation_and_a_row(real_place: Place, page: Page) -> None:
    page.goto(f"{real_place.url}/table?device=host")
    until_rows(page, 4)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className").startswith("el-main")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Device"
    for role in ("navigation", "banner", "main"):
        assert page.get_by_role(role).count() == 1  # type: ignore[arg-type]
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input:not([type=hidden]), a[href]')].filter(one => one.checkVisibility() && "
        "!one.closest('.ag-root-wrapper') && !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length))"
        ".map(one => one.outerHTML)"
    )
    assert unnamed == []


def test_what_is_not_there_is_said_in_the_services_words(big_place: Place, window: Window) -> None:
    window.page.goto(f"{big_place.url}/entry/999999")
    window.page.get_by_role("alert").get_by_text("there is no entry 999999").wait_for()
    window.page.goto(f"{big_place.url}/entry/none")
    window.page.get_by_role("alert").get_by_text("is a number").wait_for()
    window.page.goto(f"{big_place.url}/table?device=null&runtime=coreml")
    window.page.get_by_role("alert").get_by_text("it has null fp32").wait_for()


@pytest.fixture(scope="module")
def guarded(big_database: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """A service that wants tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    with open_store(f"sqlite:///{folder / 'edgelut.db'}", migrate=True) as store:
        store.put(make_entry(1e6, MB4D.spec(48, 14), Target("host", "onnxruntime-cpu")))
        secret, _ = store.create_token("reader", ("read",), (), None)
    with place(folder, EDGELUT_TOKEN=ADMIN) as made:
        yield made, secret


def test_a_token_opens_the_pages_and_is_nowhere_in_them(guarded: tuple[Place, str], window: Window) -> None:
    made, secret = guarded
    page = window.page
    page.goto(f"{made.url}/table?device=host&sort=value:asc")
    page.wait_for_url("**/login?to=*")
    page.get_by_label("Token of the service").fill("not-a-token")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").get_by_text("does not know this token").wait_for()
    page.get_by_label("Token of the service").fill(secret)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/table?device=host&sort=value*")
    until_rows(page, 1)
    page.get_by_text("REST: the calls behind this page").click()
    assert page.get_by_text("$EDGELUT_TOKEN").count()
    (cookie,) = [one for one in page.context.cookies() if one["name"] == "edgelut-dashboard"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax" and secret not in cookie["value"]
    assert secret not in page.content() and secret not in page.url
    assert secret not in str(page.evaluate("JSON.stringify([localStorage, sessionStorage])"))
    assert secret not in made.log.read_text()
    page.get_by_text("reader", exact=True).wait_for()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(made.url)
    page.wait_for_url("**/login")


def test_rows_and_sockets_are_for_who_is_logged_in(guarded: tuple[Place, str]) -> None:
    made, secret = guarded
    rows = "/data/rows?device=host&runtime=onnxruntime-cpu"
    with httpx.Client(base_url=made.url, timeout=30) as client:
        assert client.get("/").status_code == 303 and client.get(rows).status_code == 401
        answer = client.post("/login", data={"token": secret, "to": "//elsewhere.example"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert client.get(rows).json()["columns"][0] == [1]
        opened = client.get("/").text
        found = re.search(r"'client_id': '([^']+)'", opened)
        assert found is not None
        with httpx.Client(base_url=made.url, timeout=30) as other:
            asked = {"EIO": "4", "transport": "polling", "client_id": found[1]}
            assert other.get("/_nicegui_ws/socket.io/", params=asked).status_code == 403
        assert client.post("/logout").headers["location"] == "/login"
        assert client.get(rows).status_code == 401


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Host": "evil.example"}, "not called 'evil.example'"),
        ({"Origin": "http://evil.example"}, "another site's page"),
        ({"Origin": "null"}, "another site's page"),
    ],
)
def test_other_sites_are_refused(big_place: Place, headers: dict[str, str], why: str) -> None:
    for path in ("/", "/data/rows?device=null&runtime=null", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
        answer = httpx.get(big_place.url + path, headers=headers, timeout=30)
        assert answer.status_code == 403 and why in answer.text


def test_pages_come_from_here_alone_and_nothing_of_theirs_may_be_framed(big_place: Place) -> None:
    answer = httpx.get(big_place.url, timeout=30)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "HttpOnly" in answer.headers["set-cookie"] and answer.headers["cache-control"] == "no-store"
