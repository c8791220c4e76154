"""The app in a real browser: upload, train, read the result, and links that open cold."""

from __future__ import annotations

import re
from urllib.parse import urlparse

import pytest

from tests.browser import (
    DRAW_MS,
    MARKS,
    TRAIN_MS,
    choose,
    fill,
    follow,
    settle,
    unfold_upload,
    upload,
)
from tests.llm_server import running

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)

pytestmark = MARKS


def test_from_an_upload_to_a_result_and_back_by_link(app, browser, page, small_csv):
    expect = playwright_api.expect
    asked = set()
    page.on("request", lambda request: asked.add(urlparse(request.url).hostname))
    page.goto(f"{app}/data")
    upload(page, small_csv)
    page.get_by_role("tab", name="Columns").click()
    page.get_by_role("button", name="Save the layout").click()
    expect(page.get_by_text("Layout saved.")).to_be_visible()

    follow(page, "Train on this data")
    page.get_by_text("TF-IDF words").click()
    settle(page)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name="desk: finished")).to_be_visible(timeout=TRAIN_MS)

    follow(page, "See the results")
    expect(page.get_by_text("texts for training")).to_be_visible()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(re.compile(r"\d+\.\d %"))
    assert asked <= {"127.0.0.1", None, ""}, "the app asked other hosts"

    fresh = browser.new_context(viewport={"width": 800, "height": 900}).new_page()
    fresh.goto(f"{page.url.split('&tab')[0]}&tab=Confusion")
    expect(fresh.get_by_role("tab", name="Confusion")).to_have_attribute("aria-selected", "true")
    expect(fresh.get_by_text("Click a cell of the matrix")).to_be_visible()
    fresh.locator('[aria-roledescription="text mark"]').first.click()
    expect(fresh.get_by_text(re.compile("Test texts: .* called"))).to_be_visible()
    fresh.context.close()


def test_an_llm_is_asked_only_after_estimate_and_budget(app, page, small_csv):
    expect = playwright_api.expect
    with running() as (server, address):
        page.goto(f"{app}/data")
        upload(page, small_csv)
        follow(page, "Train on this data")
        page.get_by_text("TF-IDF words").click()
        settle(page)
        page.get_by_role("button", name="Add an LLM to ask").click()
        choose(page, "Provider", "OpenAI-compatible server")
        fill(page, "Model", "m")
        fill(page, "Address (base_url)", f"{address}/v1")

        fill(page, "Limit a run, $", "0.5")
        start = page.get_by_role("button", name="Start training")
        refusal = page.get_by_text(re.compile("A budget is set and the price of 'm' .* is unknown"))
        expect(refusal.first).to_be_visible()
        expect(start).to_be_disabled()

        fill(page, "Own price: input, m", "1")
        fill(page, "Own price: output, m", "4")
        fill(page, "Limit a run, $", "0.0001")
        expect(page.get_by_text("may be spent before every text has a score")).to_be_visible()
        expect(start).to_be_disabled()
        page.get_by_role("button", name="Go on with the texts that have scores").click()
        expect(page.get_by_text("less than what is expected")).to_be_visible()
        expect(start).to_be_enabled()
        fill(page, "Limit a run, $", "0.5")
        expect(page.get_by_text(re.compile("enough (in any case|for what)"))).to_be_visible()
        expected = page.get_by_test_id("stMetric").filter(has_text="Expected cost")
        expect(expected).to_contain_text(re.compile(r"\$0\.\d+"))
        expect(start).to_be_enabled()
        assert server.counts["requests"] == 0
        start.click()
        heading = page.get_by_role("heading", name=re.compile("desk.*: finished"))
        expect(heading).to_be_visible(timeout=TRAIN_MS)
        spent = page.get_by_test_id("stMetric").filter(has_text="Spent on LLMs by this run")
        expect(spent).to_contain_text(re.compile(r"\$0\.\d+"))
        assert server.counts["paid"] > 0


def test_files_that_cannot_be_trained_on_are_sentences(app, page, tmp_path):
    expect = playwright_api.expect
    wrong, unlabelled = tmp_path / "wrong.csv", tmp_path / "unlabelled.csv"
    wrong.write_bytes(b"%PDF-1.7")
    rows = "".join(f"{i},a ticket about {i}\n" for i in range(20))
    unlabelled.write_text(f"id,text\n{rows}", encoding="utf-8")
    page.goto(f"{app}/data")
    settle(page)
    unfold_upload(page)
    page.locator('input[type="file"]').first.set_input_files(str(wrong))
    expect(page.get_by_test_id("stAlert").filter(has_text="PDF")).to_be_visible()
    upload(page, unlabelled)
    follow(page, "Train on this data")
    refused = page.get_by_test_id("stAlert").filter(has_text=re.compile("label", re.IGNORECASE))
    expect(refused.first).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    expect(page.get_by_test_id("stException")).to_have_count(0)


PAGES = ("", "data", "train", "jobs", "results", "calibration", "cost", "errors", "classify")


@pytest.mark.parametrize("path", [*PAGES, "label"])
def test_every_page_opens_cold_with_its_sidebar_and_no_traceback(app, page, path):
    page.goto(f"{app}/{path}")
    expect = playwright_api.expect
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    links = page.get_by_test_id("stSidebar").get_by_role("link")
    expect(links.filter(has_text="Results")).to_be_visible()
    expect(page).to_have_title(re.compile("· LabelFusion$"))
    expect(page.get_by_test_id("stException")).to_have_count(0)
