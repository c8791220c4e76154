"""People double-click: a press counts once, whatever stands under the pointer a moment later."""

from __future__ import annotations

import re

import pytest

from labelfusion.datasets import DatasetStore
from labelfusion.runs import ResultsManager
from labelfusion.workspace import Workspace
from tests.browser import DRAW_MS, MARKS, follow, killable_app, settle, upload

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)

pytestmark = MARKS
MENDABLE = "id,text,label\n" + "".join(
    f"{i},{'' if i < 2 else 'the same' if i < 5 else f'text {i}'},{'ab'[i % 2]}\n"
    for i in range(40)
)
# Between the two presses of a double click.
GAPS_MS = (30, 150)


def twice(page, button, gap_ms: int) -> None:
    """Press where the button is, and there again, whatever is there by then."""
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*at)
    page.wait_for_timeout(gap_ms)
    page.mouse.click(*at)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace.at(tmp_path_factory.mktemp("twice"))


@pytest.fixture(scope="module")
def address(workspace):
    with killable_app(workspace.root) as (_, url):
        yield url


@pytest.mark.parametrize("gap_ms", GAPS_MS)
def test_a_training_started_by_a_double_click_is_one_run(
    address, page, small_csv, workspace, gap_ms
):
    page.goto(f"{address}/data")
    upload(page, small_csv)
    follow(page, "Train on this data")
    page.get_by_text("TF-IDF words").click()
    settle(page)
    before = set(ResultsManager(workspace).ids())
    twice(page, page.get_by_role("button", name="Start training"), gap_ms)
    heading = page.get_by_role("heading", name=re.compile(r"desk.*: (waiting|running|finished)"))
    playwright_api.expect(heading).to_be_visible()
    settle(page)
    (run_id,) = set(ResultsManager(workspace).ids()) - before
    assert f"run={run_id}" in page.url


@pytest.mark.parametrize("gap_ms", GAPS_MS)
def test_a_finding_mended_by_a_double_click_leaves_the_next_alone(
    address, page, tmp_path, workspace, gap_ms
):
    path = tmp_path / "mendable.csv"
    path.write_text(MENDABLE, encoding="utf-8")
    page.goto(f"{address}/data")
    name = upload(page, path)
    page.get_by_role("tab", name="Findings").click()
    settle(page)
    twice(page, page.get_by_role("button", name="Remove the rows without text"), gap_ms)
    settle(page)
    assert len(DatasetStore(workspace).open(name).versions) == 2


@pytest.mark.parametrize("gap_ms", GAPS_MS)
def test_a_data_set_deleted_by_a_double_click_leaves_the_next_alone(
    address, page, tmp_path, workspace, gap_ms
):
    names = []
    page.goto(f"{address}/data")
    for stem in ("kept", "doomed"):
        path = tmp_path / f"{stem}.csv"
        path.write_text(MENDABLE, encoding="utf-8")
        names.append(upload(page, path))
    before = {one.name for one in DatasetStore(workspace).list()}
    page.get_by_test_id("stPopover").get_by_role("button", name="Delete").click()
    settle(page)
    twice(page, page.get_by_role("button", name="Delete it"), gap_ms)
    settle(page)
    assert {one.name for one in DatasetStore(workspace).list()} == before - {names[-1]}


@pytest.mark.parametrize("gap_ms", GAPS_MS)
def test_an_llm_taken_away_by_a_double_click_leaves_the_next_alone(
    address, page, small_csv, gap_ms
):
    page.goto(f"{address}/data")
    upload(page, small_csv)
    follow(page, "Train on this data")
    for _ in range(2):
        page.get_by_role("button", name="Add an LLM to ask").click()
        settle(page)
    names = page.get_by_role("textbox", name="Name", exact=True)
    playwright_api.expect(names).to_have_count(2)
    twice(page, page.locator(".st-key-llm_1_remove button").first, gap_ms)
    settle(page)
    playwright_api.expect(names).to_have_count(1)
    playwright_api.expect(page.get_by_test_id("stException")).to_have_count(0)
