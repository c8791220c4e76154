"""While a job trains: refresh, second browser, restart of the app, and death of the job."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from labelfusion import jobs
from labelfusion.workspace import Workspace
from tests.browser import DRAW_MS, MARKS, TRAIN_MS, killable_app, settle
from tests.command_line import ROOT
from tests.run_data import small_config

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)

pytestmark = MARKS


@pytest.fixture
def gated(tmp_path, monkeypatch):
    """A workspace with a job that waits at a gate in the midst of its training, and its id."""
    monkeypatch.setattr(jobs, "LAUNCHER", (sys.executable, str(ROOT / "tests/job_process.py")))
    monkeypatch.setenv("TEST_GATES", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    workspace = Workspace.at(tmp_path / "workspace")
    run = jobs.start(workspace, small_config(tmp_path))
    yield workspace, run
    if jobs.status(workspace, run).active:
        jobs.cancel(workspace, run)


def test_the_page_tells_the_truth_through_refresh_restart_and_death(gated, browser, page):
    expect = playwright_api.expect
    workspace, run = gated

    def says(shown, state):
        expect(shown.get_by_role("heading", name=f"small: {state}")).to_be_visible()

    with killable_app(workspace.root) as (server, url):
        page.goto(f"{url}/jobs?run={run}")
        says(page, "running")
        expect(page.get_by_text("1 of 2 gates")).to_be_visible()
        page.reload()
        says(page, "running")
        second = browser.new_context().new_page()
        second.goto(f"{url}/results?run={run}")
        expect(second.get_by_text("This run is running, so there are no results")).to_be_visible()
        second.goto(f"{url}/")
        expect(second.get_by_role("link", name="small: running")).to_be_visible()
        second.context.close()
        server.kill()
        server.wait()
    assert jobs.status(workspace, run).state == "running"

    with killable_app(workspace.root) as (_, url):
        page.goto(f"{url}/jobs?run={run}")
        says(page, "running")
        os.killpg(jobs.status(workspace, run).pid, signal.SIGKILL)
        # Nobody touches the page: it looks for itself.
        says(page, "interrupted")
        second = browser.new_context().new_page()
        second.goto(f"{url}/jobs?run={run}")
        says(second, "interrupted")
        settle(page)
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("heading", name="small: finished")).to_be_visible(timeout=TRAIN_MS)
        says(second, "interrupted")
        second.reload()
        says(second, "finished")
        second.context.close()
    lines = (workspace.root.parent / "computed").read_text().splitlines()
    assert lines == ["small ml"], "the encoder was trained twice"
