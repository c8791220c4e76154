"""In a real browser: from a cell of the confusion matrix to a corrected label and a new run."""

from __future__ import annotations

import re

import pytest

from labelfusion import jobs
from labelfusion.config import RunConfig
from labelfusion.datasets import DatasetStore
from labelfusion.workspace import Workspace
from scripts.screenshots import served_app
from tests.browser import DRAW_MS, MARKS, TRAIN_MS, choose, follow, settle

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)

pytestmark = MARKS
SCROLL_MS = 1000


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory, small_csv):
    """The address of an app with a finished run, the workspace and the run's id."""
    root = tmp_path_factory.mktemp("reviewed")
    workspace = Workspace.at(root)
    stored = DatasetStore(workspace).add("desk.csv", small_csv.read_bytes(), {})
    stored = DatasetStore(workspace).configure(stored, stored.config)
    values = {"name": "desk", "data": stored.config, "encoder": "tfidf"}
    run = jobs.start(workspace, RunConfig.from_dict(values), name="desk")
    jobs.wait(workspace, run, timeout_s=TRAIN_MS / 1000)
    with served_app(root) as url:
        yield url, workspace, run


def test_from_a_confusion_cell_to_a_corrected_label_to_retraining(reviewed, page):
    expect = playwright_api.expect
    url, workspace, run = reviewed
    page.goto(f"{url}/results?run={run}&tab=Confusion")
    expect(page.get_by_text("Click a cell of the matrix")).to_be_visible()
    page.locator('[aria-roledescription="text mark"]').first.click()
    follow(page, re.compile("Look into billing called billing"))
    expect(page).to_have_url(re.compile("gold=billing&predicted=billing"))
    expect(page.get_by_text(re.compile(r"\d+ of \d+ texts"))).to_be_visible()

    # A menu closes when the page scrolls, as it does on the way to a field that is out of sight.
    page.get_by_role("combobox", name="Right label").scroll_into_view_if_needed()
    page.wait_for_timeout(SCROLL_MS)
    choose(page, "Right label", "delivery")
    page.get_by_role("button", name="Fix this label").click()
    expect(page.get_by_text("To be corrected to delivery")).to_be_visible()

    page.get_by_role("tab", name="Corrections").click()
    page.get_by_role("button", name="Save as version 2").click()
    expect(page.get_by_text("test texts are the same")).to_be_visible()
    assert DatasetStore(workspace).open("desk").current == 2
    settle(page)
    page.get_by_role("button", name="Train again on this version").click()
    expect(page.get_by_role("heading", name="desk: finished")).to_be_visible(timeout=TRAIN_MS)
    assert run not in page.url


def test_a_link_opens_cold_and_bad_input_is_a_sentence(reviewed, page):
    expect = playwright_api.expect
    url, _, run = reviewed
    page.goto(f"{url}/errors?run={run}&show=all&split=test&confidence=0-95")
    expect(page.get_by_text(re.compile(r"\d+ of \d+ texts"))).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.goto(f"{url}/errors?run={run}&gold=biling&confidence=0-95")
    expect(page.get_by_text("Did you mean 'billing'?")).to_be_visible()
    follow(page, "Clear the filters")
    expect(page.get_by_text(re.compile(r"\d+ of \d+ texts"))).to_be_visible()
    page.goto(f"{url}/errors?run=20200101-000000-gone")
    expect(page.get_by_text("What to do")).to_be_visible()
