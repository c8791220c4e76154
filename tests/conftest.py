"""Fixtures of the tests that drive the app in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from scripts.screenshots import ARGUMENTS, CHROMIUM, ROOT, served_app
from tests.browser import DRAW_MS


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[str]:
    """The address of a served app with an empty workspace."""
    with served_app(tmp_path_factory.mktemp("workspace")) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """A Chromium; skips where Playwright is not installed."""
    playwright_api = pytest.importorskip("playwright.sync_api")
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A fresh page, 1440 pixels wide."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(DRAW_MS)
    yield page
    page.close()


@pytest.fixture(scope="module")
def small_csv(tmp_path_factory) -> Path:
    """The sample tickets of two labels, as a file to upload."""
    path = tmp_path_factory.mktemp("upload") / "desk.csv"
    tickets = pd.read_csv(ROOT / "sample_data" / "tickets.csv")
    tickets[tickets["label"].isin(["billing", "delivery"])].to_csv(path, index=False)
    return path
