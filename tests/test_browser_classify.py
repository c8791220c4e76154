"""One text in a real browser: sources toggled, and what stands in the way of an answer."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from labelfusion.config import RunConfig
from labelfusion.runs import create_run
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from scripts.screenshots import served_app
from tests.browser import DRAW_MS, MARKS, settle
from tests.command_line import PRICES, asking_config
from tests.llm_server import running
from tests.run_data import SAMPLE, small_config

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)

pytestmark = MARKS
KEY = "CLASSIFY_TEST_API_KEY"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An app without keys; runs with recorded scores, of a server now down, of one with a key."""
    root, runs = tmp_path_factory.mktemp("classify"), {}
    workspace = Workspace.at(root / "workspace")

    def made(name, config):
        folder = create_run(workspace, config, name=name)
        work(folder, workspace)
        runs[name] = folder.id

    # Folders of their own: each config brings its part of the sample.
    asked_of, scored = root / "asked", root / "scored"
    asked_of.mkdir()
    scored.mkdir()
    made("recorded", small_config(scored))
    with running() as (_, address), pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, "sk-only-while-training")
        for name, more in (("down", {}), ("keyless", {"api_key_env": KEY})):
            values = asking_config(asked_of, address, n=40, **more) | {"costs": {"prices": PRICES}}
            values["data"]["path"] = str(asked_of / "tickets.csv")
            made(name, RunConfig.from_dict(values))
    with served_app(workspace.root) as url:
        yield url, runs


def classify(page, url, run, text):
    page.goto(f"{url}/classify?run={run}")
    settle(page)
    page.get_by_role("textbox", name="Text").fill(text)
    page.get_by_role("button", name="Classify", exact=True).click()


def test_a_text_is_taken_apart_and_a_source_left_out(served, page):
    expect = playwright_api.expect
    url, runs = served
    classify(page, url, runs["recorded"], "a text that nobody has scored")
    expect(page.get_by_role("heading", name=re.compile("^Label: "))).to_be_visible()
    expect(page.get_by_text("not among the recorded scores")).to_be_visible()
    classify(page, url, runs["recorded"], pd.read_csv(SAMPLE / "tickets.csv")["text"][0])
    expect(page.get_by_role("heading", name="Label: account")).to_be_visible()
    told = page.get_by_text(re.compile(r"^From .*LLM [+-]\d"))
    expect(told).not_to_contain_text("LLM +0.00")
    settle(page)
    page.get_by_text("Use LLM").click()
    expect(told).to_contain_text("LLM +0.00")


@pytest.mark.parametrize(
    ("run", "said"), [("down", "answered nothing"), ("keyless", f"No API key.*|{KEY}")]
)
def test_an_llm_that_cannot_answer_is_a_sentence_and_the_encoder_still_does(
    served, page, run, said
):
    expect = playwright_api.expect
    url, runs = served
    classify(page, url, runs[run], "a text that nobody has asked about")
    expect(page.get_by_text(re.compile("not asked. Expected cost"))).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Ask llm").click()
    expect(page.get_by_test_id("stAlert").filter(has_text=re.compile(said)).first).to_be_visible()
    expect(page.get_by_role("heading", name=re.compile("^Label: "))).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_no_text_and_a_wrong_file_are_sentences(served, page, tmp_path):
    expect = playwright_api.expect
    url, runs = served
    classify(page, url, runs["recorded"], "   ")
    expect(page.get_by_text(re.compile("no text", re.IGNORECASE)).first).to_be_visible()
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n", encoding="utf-8")
    page.goto(f"{url}/classify?run={runs['down']}&tab=A+file")
    settle(page)
    page.locator('input[type="file"]').set_input_files(str(wrong))
    expect(page.get_by_text(re.compile(r"no text column 'text'.*wrong\.csv"))).to_be_visible()
    expect(page.get_by_role("button", name="Label the file")).to_be_disabled()
