"""The README's tour, walked in a real browser by somebody with no key and an empty workspace."""

from __future__ import annotations

import re

import pytest

from scripts.screenshots import TICKET
from tests.browser import DRAW_MS, MARKS, follow, settle

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)
expect = playwright_api.expect

pytestmark = MARKS
# The default encoder, which takes longer than the TF-IDF of the other tests.
ENCODER_MS = 600_000


def open_tab(page, name):
    settle(page)
    page.get_by_role("tab", name=name).click()
    settle(page)


def press(page, name):
    settle(page)
    page.get_by_role("button", name=name).first.click()
    settle(page)


def said(page, words):
    expect(page.get_by_text(re.compile(words)).first).to_be_visible()


def test_the_tour_of_the_readme(app, page):
    page.goto(app)
    press(page, "Try it on the sample tickets")
    finished = page.get_by_role("heading", name="tickets: finished")
    expect(finished).to_be_visible(timeout=ENCODER_MS)
    results(page)
    errors(page)
    calibration_and_cost(page)
    classify(page)
    own_data(page)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def results(page):
    follow(page, "See the results")
    said(page, "Fusion is right on")
    open_tab(page, "Why this fusion")
    said(page, "Without llm, the accuracy of the fusion changes by")
    open_tab(page, "Confusion")
    said(page, "Click a cell of the matrix")
    page.locator('[aria-roledescription="text mark"]').first.click()
    follow(page, re.compile("Look into"))


def errors(page):
    said(page, r"\d+ of 460 texts")
    open_tab(page, "Suspected labels")
    press(page, "Keep it")
    press(page, re.compile("Fix: it is"))
    open_tab(page, "Corrections")
    press(page, "Save as version 2")
    said(page, "Train again on this version")
    open_tab(page, "Slices")
    said(page, "groups were compared")


def calibration_and_cost(page):
    follow(page, "Calibration")
    said(page, "At [0-9.]+ confidence it is right")
    follow(page, "Cost")
    slider = page.get_by_role("slider", name="Share of texts sent to the LLM")
    for _ in range(5):
        slider.press("ArrowLeft")
    settle(page)
    press(page, "Save as this run's operating point")
    said(page, "This point is in force")
    said(page, "Money for 1,000 texts")


def classify(page):
    follow(page, "Classify")
    page.get_by_role("textbox", name="Text").fill(TICKET)
    page.get_by_role("button", name="Classify", exact=True).click()
    said(page, "Beside the training texts")
    settle(page)
    page.get_by_text("Use ML encoder").click()
    said(page, "No source says anything")
    open_tab(page, "A file")
    expect(page.locator('input[type="file"]').first).to_be_attached()


def own_data(page):
    follow(page, "Data")
    open_tab(page, "Columns")
    expect(page.get_by_role("button", name="Save the layout")).to_be_visible()
    follow(page, "Train on this data")
    press(page, "Add an LLM to ask")
    said(page, "Expected cost")
    expect(page.get_by_label("Limit a run, $", exact=True)).to_be_visible()
    follow(page, "Label")
    expect(page.get_by_role("heading", name="Label", level=1)).to_be_visible()
