"""What tests of the app in a real browser share: the marks, and steps that wait for the page.

A click on a page that is still being drawn can hit a link that is replaced before the click ends,
or the link of what was shown before, so every step that leaves a page or changes what it shows
begins with `settle`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from scripts.screenshots import CHROMIUM, start_app

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

DRAW_MS = 60_000
OPEN_MS, OPENINGS = 5_000, 6
QUIET_MS = 500
TRAIN_MS = 180_000

MARKS = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason=f"There is no Chromium at {CHROMIUM}"),
]


@contextmanager
def killable_app(workspace: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A served app that a test may kill: its process and its address."""
    server, url = start_app(workspace)
    try:
        yield server, url
    finally:
        server.kill()
        server.wait()


# A page that draws itself a second time rests between the two, and shows what it showed before.
QUIET = """(milliseconds) => {
  const app = document.querySelector('[data-testid="stApp"]');
  if (!document.querySelector("h1") || app?.dataset.testScriptState !== "notRunning")
    window.quietSince = undefined;
  else window.quietSince ??= performance.now();
  return performance.now() - window.quietSince >= milliseconds;
}"""


def settle(page) -> None:
    """Wait until the page has been drawn to its end, and has rested for QUIET_MS."""
    page.evaluate("window.quietSince = undefined")
    page.wait_for_function(QUIET, arg=QUIET_MS, timeout=DRAW_MS)


def follow(page, name) -> None:
    """Click a link of the drawn page, and wait for the page behind it."""
    settle(page)
    before = page.url
    page.get_by_role("link", name=name).first.click()
    page.wait_for_url(lambda url: url != before)
    settle(page)


def unfold_upload(page) -> None:
    """Open the Data page's place for files, which is open by itself until there is a data set."""
    place = page.locator("details").filter(has_text="Upload a file").first
    if place.get_attribute("open") is None:
        place.locator("summary").first.click()


def upload(page, path: Path) -> str:
    """Give the Data page a file; the data set's name, once the page shows that data set."""
    settle(page)
    before = page.url
    unfold_upload(page)
    page.locator('input[type="file"]').first.set_input_files(str(path))
    page.wait_for_url(lambda url: url != before)
    name = parse_qs(urlparse(page.url).query)["dataset"][0]
    sidebar = page.get_by_test_id("stSidebar")
    playwright_api.expect(sidebar.get_by_text(f"Data set: {name}", exact=True)).to_be_visible()
    settle(page)
    return name


def choose(page, label: str, option: str) -> None:
    """Pick an option of a select box. A page that is drawn again closes an open list."""
    settle(page)
    wanted = page.get_by_role("option", name=option)
    for _ in range(OPENINGS):
        page.get_by_role("combobox", name=label).click()
        if appears(wanted):
            break
        page.keyboard.press("Escape")
        settle(page)
    wanted.click()
    settle(page)


def appears(locator) -> bool:
    """Whether it is to be seen within OPEN_MS."""
    try:
        locator.wait_for(timeout=OPEN_MS)
    except playwright_api.TimeoutError:
        return False
    return True


def fill(page, label: str, value: str) -> None:
    """Type into a field and leave it."""
    settle(page)
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Tab")
    settle(page)
