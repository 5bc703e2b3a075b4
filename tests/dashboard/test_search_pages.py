"""The pages of searches in a real browser: what was told over REST is shown, and goes on while one looks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from edgelut.http import HttpTable
from tests.dashboard import made_up_search
from tests.dashboard.made_up import PHONE
from tests.dashboard.stand import Stand, stand

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install '.[dev]'").expect


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A service with two searches, and its dashboard."""
    with stand(tmp_path_factory.mktemp("searches")) as found:
        yield found


def cells(page: Page, table: str, column: str) -> Locator:
    """The cells of a table's column."""
    return page.get_by_role("region", name=table, exact=True).locator(f".ag-row [col-id={column}]")


def rows_of(page: Page, label: str, folder: Path) -> list[dict[str, str]]:
    """Save a table and read it."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label, exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/searches", "/searches/{search}", "/searches/{searching}"])
def test_a_page_opens_without_complaint_and_as_wide_as_the_window(
    running: Stand, page: Page, path: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(running.url + path.format(**running.ids), wait_until="networkidle")
    expect(page.locator("h1")).not_to_be_empty()
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")  # once the icons' font is there
    assert page.evaluate("innerWidth") == width
    assert not page.locator("[role=alert]").count()


def test_the_list_says_how_far_searches_are_and_opens_one(running: Stand, page: Page) -> None:
    page.goto(f"{running.url}/searches", wait_until="networkidle")
    expect(page.get_by_text("2 searches, 1 of them running")).to_be_visible()
    expect(cells(page, "Searches", "state").first).to_have_text("▶ running 35 %: slimming to 3.4 ms")
    expect(cells(page, "Searches", "best").last).to_have_text("91.2 %")
    page.get_by_label("State").click()
    page.get_by_role("option", name="done").click()
    expect(page.get_by_role("link", name="fashion, again")).to_have_count(0)
    page.reload(wait_until="networkidle")
    page.get_by_role("link", name="fashion on the phone").click()
    page.wait_for_url(f"**/searches/{running.ids['search']}")
    expect(page.locator("h1")).to_have_text("Search fashion on the phone")


def test_networks_are_saved_with_predicted_and_measured_and_lead_to_the_composer(
    running: Stand, page: Page, tmp_path: Path
) -> None:
    page.goto(f"{running.url}/searches/{running.ids['search']}", wait_until="networkidle")
    expect(page.get_by_text("13 networks trained")).to_be_visible()
    expect(page.get_by_text("Mean accuracy of the networks that meet the target: slimmed")).to_be_visible()
    rows = rows_of(page, "Save CSV: Every network", tmp_path)
    assert len(rows) == 13 and rows[0]["method"] == "slimmed" and float(rows[0]["measured, ms"]) > 3
    assert {row["meets target"] for row in rows if row["method"] == "full"} == {"✖ no"}
    cells(page, "Every network", "method").first.get_by_role("link").click()
    page.wait_for_url("**/network?**")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
    assert asked["targets"] == str(PHONE) and asked["classes"] == "10"
    expect(page.get_by_text(f"depths {rows[0]['depths']}; {rows[0]['MB3D']} MB3D")).to_be_visible()


def test_a_round_shows_what_it_did_not_do_and_the_address_restores_it(
    running: Stand, page: Page, tmp_path: Path
) -> None:
    page.goto(f"{running.url}/searches/{running.ids['search']}", wait_until="networkidle")
    cells(page, "Rounds", "did").nth(2).click()
    expect(page.get_by_role("heading", name="What round 2 could do")).to_be_visible()
    expect(cells(page, "What the round could do", "taken").filter(has_text="✓ taken")).to_have_count(1)
    expect(cells(page, "What the round could do", "kind")).to_have_text(["depth", "mb3d", "width"])
    page.get_by_role("button", name="Round after").press("Enter")
    expect(page.get_by_role("heading", name="What round 3 could do")).to_be_visible()
    page.get_by_text("near the target only").click()
    page.get_by_label("Accuracy of networks").click()
    page.get_by_role("option", name="validation images", exact=True).click()
    page.wait_for_url("**accuracy=valid**")
    page.reload(wait_until="networkidle")
    expect(page.get_by_role("heading", name="What round 3 could do")).to_be_visible()
    expect(page.get_by_role("checkbox", name="near the target only")).to_be_checked()
    expect(page.get_by_label("Accuracy of networks")).to_have_value("validation images")
    rows = rows_of(page, "Save CSV: Rounds", tmp_path)
    assert len(rows) == 25 and rows[-1]["what it did"] == "nothing: this is the end"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save image: Slimming path").click()
    assert waiting.value.path().read_bytes()[:4] == b"\x89PNG"
    page.locator(".el-calls summary").click()
    calls = page.locator(".el-calls").inner_text()
    assert f"/searches/{running.ids['search']}/events" in calls and "after=" not in calls


def test_a_search_goes_on_while_one_looks(running: Stand, page: Page) -> None:
    id = "live1"
    events = made_up_search.ended()
    rounds = [place for place, event in enumerate(events) if event.kind == "round"]
    networks = [place for place, event in enumerate(events) if event.kind == "network"]
    with HttpTable(running.service) as log:
        log.put_search(replace(made_up_search.search(id, "live", PHONE), state="running"))
        page.goto(f"{running.url}/searches/{id}", wait_until="networkidle")
        expect(page.get_by_text("Nothing has happened yet.")).to_be_visible()
        expect(page.get_by_role("heading", name="Slimming path")).to_be_hidden()
        page.evaluate("window.stayed = true")
        log.add_search_events(id, events[:12])
        expect(page.get_by_text("training the supernet · 33 %")).to_be_visible()
        expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "33")
        expect(page.get_by_role("log")).to_contain_text("training the supernet")
        log.add_search_events(id, events[12 : rounds[4]])
        expect(page.get_by_text("slimming to 3.4 ms ·")).to_be_visible()
        expect(cells(page, "Rounds", "round")).to_have_count(4)
        log.add_search_events(id, events[rounds[4] : networks[0] + 1])
        expect(cells(page, "Every network", "method")).to_have_count(1)
        log.end_search(id, "interrupted")
        expect(page.locator(".el-chip").first).to_have_text("interrupted")
        expect(page.get_by_text("interrupted while training slimmed seed 0")).to_be_visible()
    assert page.evaluate("window.stayed"), "the page was loaded again"


def test_a_search_that_is_not_there_says_which_are(running: Stand, page: Page) -> None:
    page.goto(f"{running.url}/searches/none", wait_until="networkidle")
    expect(page.get_by_role("alert")).to_contain_text("no search 'none'; the newest are")
