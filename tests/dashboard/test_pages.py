"""The pages that compare, compose, cover and follow, in a real browser over made-up rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from api.settings import Settings
from dashboard.networks import line
from edgelut.efficientformer import CONFIGS, network
from edgelut.jobs import Job, JobRequest
from tests.dashboard.made_up import BOARD, PHONE, PHONE_FP16, claim_on
from tests.dashboard.stand import Stand, stand

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install '.[dev]'").expect
TOKEN = "admin-of-the-tests"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A service without tokens, and its dashboard."""
    with stand(tmp_path_factory.mktemp("open")) as found:
        yield found


def query(page: Page) -> dict[str, str]:
    """The parameters of a page's address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def saved(page: Page, label: str, folder: Path) -> Path:
    """Press a button that saves a file; return the file."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def figure(page: Page, words: str) -> Locator:
    """The number over these words."""
    return page.locator(".el-figures > div", has_text=words).locator(".el-figure")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/compare", "/network", "/space", "/jobs", "/jobs/{running}", "/jobs/{failed}"])
def test_a_page_opens_without_complaint_and_as_wide_as_the_window(
    running: Stand, page: Page, path: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(running.url + path.format(**running.ids), wait_until="networkidle")
    expect(page.locator("h1")).not_to_be_empty()
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
    assert not page.locator("[role=alert]").count()


def test_two_dates_are_compared_and_the_address_restores_them(running: Stand, page: Page, tmp_path: Path) -> None:
    sides = f"a={quote(str(PHONE))}&b={quote(str(PHONE))}"
    page.goto(f"{running.url}/compare?{sides}", wait_until="networkidle")
    expect(figure(page, "blocks that both")).to_have_count(1)
    assert figure(page, "within the interval").inner_text() == figure(page, "blocks that both").inner_text()
    page.get_by_label("The table A as of").click()
    page.get_by_role("option", name="2026-09-14").click()
    expect(figure(page, "B is slower")).not_to_have_text("0")
    page.get_by_text("divide out what all rows share").click()
    expect(page.get_by_text("It is divided out")).to_be_visible()
    assert query(page)["a_at"] == "2026-09-14" and query(page)["align"] == "1"
    before = figure(page, "B is slower").inner_text()
    page.reload(wait_until="networkidle")
    assert figure(page, "B is slower").inner_text() == before
    expect(page.get_by_text("It is divided out")).to_be_visible()
    file = saved(page, "Save CSV: Blocks of both", tmp_path).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(file)))
    assert str(len(rows)) == figure(page, "blocks that both").inner_text()
    assert {"slower", "faster", "within"} == {row["difference"] for row in rows}
    assert rows[0]["block"].startswith("MB3D") and rows[0]["block"].endswith("@14")
    assert saved(page, "Save image: MB3D", tmp_path).read_bytes()[:4] == b"\x89PNG"


def test_sides_are_swapped_and_a_day_that_makes_no_sense_is_said(running: Stand, page: Page) -> None:
    one, other = str(PHONE), str(PHONE_FP16.target)
    page.goto(f"{running.url}/compare?a={quote(one)}&b={quote(other)}", wait_until="networkidle")
    faster = figure(page, "B is faster").inner_text()
    page.get_by_role("button", name="Swap A and B").click()
    expect(figure(page, "B is slower")).to_have_text(faster)
    assert (query(page)["a"], query(page)["b"]) == (other, one)
    page.goto(f"{running.url}/compare?a_at=yesterday", wait_until="networkidle")
    expect(page.get_by_role("alert")).to_contain_text("'yesterday' is no moment")


def test_a_slider_changes_the_network_and_what_is_missing_can_be_asked_for(running: Stand, page: Page) -> None:
    targets = quote(f"{PHONE},{BOARD}")
    page.goto(f"{running.url}/network?targets={targets}", wait_until="networkidle")
    expect(page.get_by_text("EfficientFormer-L1: 21 blocks")).to_be_visible()
    said = page.get_by_role("status").filter(has_text=re.compile(r"pixel-8 .* ms \("))
    first = said.inner_text()
    page.get_by_role("slider", name="Depth, stage 3").press("ArrowRight")
    expect(page.get_by_text("depths 3, 2, 7, 4")).to_be_visible()
    expect(said).not_to_have_text(first)
    assert query(page)["depths"] == "3,2,7,4"
    page.get_by_role("slider", name="Width, stage 4").press("ArrowRight")
    link = page.get_by_role("link", name="Have just these measured").first
    expect(link).to_be_visible()
    assert query(page)["widths"] == "48,96,224,464"
    page.reload(wait_until="networkidle")
    expect(page.get_by_text("widths 48, 96, 224, 464; depths 3, 2, 7, 4")).to_be_visible()
    lacks = page.locator(".el-note").first.inner_text()
    link.click()
    page.wait_for_url("**/space?**")
    expect(figure(page, "missing")).to_have_text(re.search(r"lacks (\d+)", lacks)[1])  # type: ignore[index]


def test_missing_blocks_are_estimated_where_that_is_switched_on(running: Stand, page: Page) -> None:
    page.goto(f"{running.url}/network?targets={quote(str(PHONE))}&widths=48,96,208,448", wait_until="networkidle")
    expect(page.get_by_text("lacks 2 of its blocks")).to_be_visible()
    page.get_by_role("switch", name="Estimate missing blocks").click()
    expect(page.get_by_role("status").filter(has_text=re.compile(r"pixel-8 .* ms \("))).to_be_visible()
    expect(page.get_by_text("lacks 2 of its blocks")).to_be_hidden()
    assert query(page)["estimate"] == "1"
    expect(page.get_by_role("gridcell").filter(has_text="2 interpolated")).to_be_visible()
    assert '"estimate": true' in page.locator(".el-copy").all_inner_texts()[1]
    page.reload(wait_until="networkidle")
    expect(page.get_by_role("gridcell").filter(has_text="2 interpolated")).to_be_visible()


def test_a_network_is_copied_as_a_line_a_call_and_a_program(running: Stand, page: Page) -> None:
    page.goto(f"{running.url}/network?network=efficientformer-l3", wait_until="networkidle")
    texts = page.locator(".el-copy").all_inner_texts()
    assert texts[0] == line(network(CONFIGS["efficientformer-l3"]).blocks)
    assert f'curl "{running.service}/networks/latency"' in texts[1]
    assert "efficientformer-l3" in texts[2] and "HttpTable" in texts[2]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy: Line of blocks").click()
    expect(page.get_by_role("button", name="Copy: Line of blocks")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == texts[0]
    page.locator(".el-calls summary").click()
    assert "/networks/latency" in page.locator(".el-calls").inner_text()


def test_what_a_space_lacks_is_submitted_once(running: Stand, page: Page) -> None:
    blocks = quote("MB4D:112@28 + MB4D:128@28 + MB4D:272@14")
    page.goto(f"{running.url}/space?space=line&blocks={blocks}&target={quote(str(BOARD))}", wait_until="networkidle")
    missing = int(figure(page, "missing").inner_text())
    assert 1 <= missing <= 3
    before = len(running.jobs.jobs())
    page.get_by_role("button", name=f"Submit a job for {missing} blocks").dblclick()
    link = page.locator(".el-act a")
    expect(link).to_contain_text("space line")
    expect(page.get_by_role("button", name=re.compile("Submit a job"))).to_be_disabled()
    newest = running.jobs.jobs()[0]
    assert len(running.jobs.jobs()) == before + 1
    assert len(newest.request.specs) == missing and newest.request.devices == (BOARD.device,)
    link.click()
    page.wait_for_url(f"**/jobs/{newest.id}")
    expect(page.locator("h1")).to_have_text("Job space line")


def test_nothing_is_submitted_for_a_device_that_no_agent_has(running: Stand, page: Page) -> None:
    page.goto(
        f"{running.url}/space?space=efficientformer-l7&target=cortex-a76/onnxruntime-cpu/fp32/1/cpu",
        wait_until="networkidle",
    )
    expect(page.get_by_role("button", name=re.compile("no agent has announced cortex-a76"))).to_be_disabled()


def test_a_custom_space_is_kept_in_the_address(running: Stand, page: Page) -> None:
    asked = "space=custom&kinds=MB4D&widths=16..64:16&resolutions=56,28"
    page.goto(f"{running.url}/space?{asked}&target={quote(str(PHONE))}", wait_until="networkidle")
    expect(page.get_by_text("of 8 blocks are missing")).to_be_visible()
    page.get_by_label("Widths", exact=True).fill("16..128:16")
    expect(page.get_by_text("of 16 blocks are missing")).to_be_visible()
    assert query(page)["widths"] == "16..128:16"
    page.get_by_label("Widths", exact=True).fill("many")
    expect(page.get_by_role("alert")).to_contain_text("write 224, or 208,224,240")


def test_the_list_of_jobs_filters_and_opens_one(running: Stand, page: Page) -> None:
    page.goto(f"{running.url}/jobs", wait_until="networkidle")
    page.get_by_label("State").click()
    page.get_by_role("option", name="cancelled").click()
    expect(page.get_by_text("too much")).to_be_visible()
    expect(page.get_by_text("attention")).to_have_count(0)
    assert query(page)["state"] == "cancelled"
    page.get_by_text("too much").click()
    page.wait_for_url(f"**/jobs/{running.ids['cancelled']}")


def test_progress_moves_while_one_looks(running: Stand, page: Page) -> None:
    job = running.jobs.submit(
        JobRequest(
            blocks=("MB4D",),
            widths=(16, 32),
            resolutions=(7,),
            devices=(BOARD.device,),
            alone=True,
            name="live",
            priority=90,
        )
    )
    page.goto(f"{running.url}/jobs/{job.id}", wait_until="networkidle")
    top = page.locator(".el-figure")
    expect(top).to_contain_text("0 of 2 points")
    page.evaluate("window.stayed = true")
    claim = claim_on(running.lab, BOARD.device)
    running.lab.measure(claim, claim.points[:1])
    expect(top).to_contain_text("1 of 2 points")
    expect(page.get_by_role("log")).to_contain_text("taken by agent lab")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    running.lab.measure(claim, claim.points[1:])
    running.jobs.finish(claim.batch, claim.lease)
    expect(page.locator(".el-chip").first).to_have_text("done")
    expect(page.locator(".ag-center-cols-container [col-id=state]").nth(1)).to_contain_text("measured")
    assert page.evaluate("window.stayed"), "the page was loaded again"


def test_a_job_is_cancelled_and_retried_by_keyboard(running: Stand, page: Page) -> None:
    job = running.jobs.submit(JobRequest(presets=("efficientformer-l3",), devices=(BOARD.device,), name="unwanted"))
    page.goto(f"{running.url}/jobs/{job.id}", wait_until="networkidle")
    assert page.get_by_role("button", name="Retry: none of its points").is_disabled()

    def press(name: str) -> Locator:
        page.get_by_role("button", name=name, exact=True).focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("alertdialog")
        expect(dialog).to_be_visible()
        return dialog

    dialog = press("Cancel")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert state(running, job) == "queued"
    press("Cancel")
    expect(page.get_by_role("button", name="Cancel the job")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".el-chip").first).to_have_text("cancelled")
    assert state(running, job) == "cancelled"
    press("Retry")
    expect(page.get_by_role("button", name="Retry the job")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".el-chip").first).to_have_text("queued")
    assert state(running, job) == "queued"


def state(running: Stand, job: Job) -> str:
    """The state of a job at the service."""
    found = running.jobs.find_job(job.id)
    assert found is not None
    return found.state


def test_a_token_that_may_only_look_can_only_look(page: Page, tmp_path: Path) -> None:
    with stand(tmp_path, Settings(token=TOKEN)) as guarded:
        secrets = {scope: secret_for(guarded, scope) for scope in ("read", "submit")}
        for scope, secret in secrets.items():
            page.goto(f"{guarded.url}/jobs/{guarded.ids['running']}", wait_until="networkidle")
            page.get_by_label("Token").fill(secret)
            page.keyboard.press("Enter")
            page.wait_for_url("**/jobs/**")
            cancel = page.get_by_role("button", name=re.compile("^Cancel"))
            expect(cancel).to_be_visible()
            assert cancel.is_disabled() == (scope == "read")
            if scope == "read":
                expect(page.get_by_role("button", name=re.compile("this needs the scope submit"))).to_have_count(2)
                page.goto(f"{guarded.url}/space?target={quote(str(PHONE))}", wait_until="networkidle")
                expect(page.get_by_role("button", name=re.compile("Submit.*needs the scope submit"))).to_be_disabled()
            assert secret not in page.content()
            page.get_by_role("button", name="Log out").click()
            page.wait_for_url("**/login**")
        page.goto("about:blank")  # before its dashboard ends


def secret_for(running: Stand, scope: str) -> str:
    """Make a token with a scope."""
    body = {"name": f"who-may-{scope}", "scopes": [scope]}
    answer = httpx.post(f"{running.service}/tokens", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    secret: str = answer.raise_for_status().json()["token"]
    return secret
