"""The report pages in a real browser: links that open cold, and an operating point that is kept."""

from __future__ import annotations

import re
from urllib.parse import quote, urlparse

import pytest

from labelfusion.fusion.routing import RoutingPolicy
from labelfusion.operating_point import nearest_point
from labelfusion.runs import ResultsManager
from scripts.screenshots import served_app
from tests.browser import DRAW_MS, MARKS, settle
from tests.command_line import labelfusion
from tests.report_runs import reviews_run, tickets_run
from tests.run_data import SAMPLE

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)
expect = playwright_api.expect

pytestmark = MARKS


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address, workspace folder and run ids of an app with two finished runs."""
    root = tmp_path_factory.mktemp("workspace")
    runs = {"tickets": tickets_run(root), "reviews": reviews_run(root)}
    with served_app(root) as address:
        yield address, root, runs


LINKS = {
    "calibration?source=llm&label=billing": "LLM, before calibration: billing",
    "calibration?tab=Every label": "Furthest off",
    "calibration?tab=Metrics": "Lower is better everywhere",
    "cost": "Accuracy against texts sent to the LLM",
    "cost?tab=Ledger": "Recorded scores cost nothing",
    "results?tab=Curves&label=billing": "ROC: billing",
}


@pytest.mark.parametrize(("link", "said"), LINKS.items())
def test_a_link_to_a_report_opens_cold(served, page, link, said):
    address, _, runs = served
    asked = set()
    page.on("request", lambda request: asked.add(urlparse(request.url).hostname))
    joint = "&" if "?" in link else "?"
    page.goto(f"{address}/{quote(link, safe='?&=')}{joint}run={runs['tickets']}")
    expect(page.get_by_text(said).first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    settle(page)
    assert asked <= {"127.0.0.1", None, ""}, "the app asked other hosts"


def test_thresholds_open_cold(served, page):
    address, _, runs = served
    page.goto(f"{address}/results?run={runs['reviews']}&tab=Thresholds&label=value")
    expect(page.get_by_role("slider", name="Threshold of value")).to_be_visible()
    expect(page.get_by_text("Choose thresholds by the out-of-fold figures")).to_be_visible()


def test_the_operating_point_that_is_saved_is_the_one_predict_obeys(served, page, tmp_path):
    address, root, runs = served
    run = ResultsManager(root).open(runs["tickets"])
    before = RoutingPolicy.load(run.folder.model)
    page.goto(f"{address}/cost?run={run.id}&share=30")
    settle(page)
    slider = page.get_by_role("slider", name="Share of texts sent to the LLM")
    slider.press("ArrowRight")
    points = run.metrics["routing"]["frontier"]
    chosen = points[nearest_point(points, "share", 0.3) + 1]
    sent = page.get_by_test_id("stMetric").filter(has_text="Texts sent")
    expect(sent).to_contain_text(f"{100 * chosen['share']:.1f} %")
    expect(page).to_have_url(re.compile(f"share={100 * chosen['share']:.1f}"))
    settle(page)
    page.get_by_role("button", name="Save as this run's operating point").click()
    expect(page.get_by_text("This point is in force.")).to_be_visible()
    saved = RoutingPolicy.load(run.folder.model)
    assert saved.threshold == chosen["threshold"] != before.threshold

    texts = tmp_path / "texts.csv"
    lines = (SAMPLE / "tickets.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    texts.write_text("".join(lines[:101]), encoding="utf-8")
    command = ("predict", run.id, texts, "--out", "out.csv", "--workspace", root)
    said = labelfusion(*command, cwd=tmp_path).stderr
    asked = int(re.search(r"llm: present on (\d+) of 100", said)[1])
    assert 0 < asked < 100
