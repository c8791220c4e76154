"""An LLM that cannot be asked, in a real browser: sentences, nothing lost, trying again works."""

from __future__ import annotations

import re

import pytest

from labelfusion.datasets import DatasetStore
from labelfusion.workspace import Workspace
from scripts.screenshots import served_app
from tests.browser import DRAW_MS, MARKS, TRAIN_MS, choose, fill, settle
from tests.llm_server import running

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)

pytestmark = MARKS
NOWHERE = "http://127.0.0.1:9"
TASK = "Tickets to the desk of a web shop."


@pytest.fixture(scope="module")
def keyless(tmp_path_factory, small_csv):
    """An app without keys and with one data set, `desk`."""
    root = tmp_path_factory.mktemp("keyless")
    DatasetStore(Workspace.at(root)).add("desk.csv", small_csv.read_bytes(), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENAI_API_KEY", raising=False)
        with served_app(root) as url:
            yield url


def adding_an_llm(page, url):
    """The Train page with TF-IDF and an LLM whose task has been written down."""
    page.goto(f"{url}/train?dataset=desk")
    settle(page)
    page.get_by_text("TF-IDF words").click()
    settle(page)
    page.get_by_role("button", name="Add an LLM to ask").click()
    settle(page)
    page.get_by_text("Prompt, examples and requests").click()
    fill(page, "Task, in a sentence", TASK)


def at_server(page, address):
    choose(page, "Provider", "OpenAI-compatible server")
    fill(page, "Model", "m")
    fill(page, "Address (base_url)", f"{address}/v1")


def alert(page, words):
    return page.get_by_test_id("stAlert").filter(has_text=re.compile(words, re.DOTALL)).first


def start_button(page):
    return page.get_by_role("button", name="Start training")


def task_field(page):
    return page.get_by_label("Task, in a sentence", exact=True)


def test_a_missing_key_is_said_and_another_provider_goes_on_with_what_was_typed(keyless, page):
    expect = playwright_api.expect
    adding_an_llm(page, keyless)
    expect(page.get_by_text(re.compile("OPENAI_API_KEY.* is not set"))).to_be_visible()
    expect(alert(page, "No API key for openai.*What to do")).to_be_visible()
    expect(start_button(page)).to_be_disabled()
    page.get_by_role("button", name="Try 5 texts").click()
    # One of the trial and one above Start.
    refused = page.get_by_test_id("stAlert").filter(has_text="No API key for openai")
    expect(refused).to_have_count(2)
    with running() as (_, address):
        at_server(page, address)
        expect(start_button(page)).to_be_enabled()
        expect(page.get_by_text("No API key for openai")).to_have_count(0)
    expect(task_field(page)).to_have_value(TASK)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_trial_with_a_server_that_is_down_is_a_sentence_and_trying_again_works(keyless, page):
    expect = playwright_api.expect
    adding_an_llm(page, keyless)
    at_server(page, NOWHERE)
    page.get_by_role("button", name="Try 5 texts").click()
    expect(alert(page, "answered nothing.*What to do.*network")).to_be_visible()
    expect(task_field(page)).to_have_value(TASK)
    with running(shares={"500": 1.0}) as (server, address):
        fill(page, "Address (base_url)", f"{address}/v1")
        # What was said of the other server goes once the page knows the new one.
        expect(page.get_by_text("answered nothing")).to_have_count(0)
        page.get_by_role("button", name="Try 5 texts").click()
        expect(alert(page, "answered nothing.*500")).to_be_visible()
        server.behaviour.shares.clear()
        page.get_by_role("button", name="Try 5 texts").click()
        expect(page.get_by_text("5 of 5 texts scored")).to_be_visible()
        assert server.counts["paid texts"] == 5
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_run_whose_server_fails_is_resumed_once_it_answers(keyless, page):
    expect = playwright_api.expect
    with running(shares={"500": 1.0}) as (server, address):
        adding_an_llm(page, keyless)
        at_server(page, address)
        start_button(page).click()
        failed = page.get_by_role("heading", name=re.compile("desk.*: failed"))
        expect(failed).to_be_visible(timeout=TRAIN_MS)
        expect(alert(page, "500")).to_be_visible()
        assert server.counts["paid"] == 0
        server.behaviour.shares.clear()
        page.get_by_role("button", name="Resume").click()
        finished = page.get_by_role("heading", name=re.compile("desk.*: finished"))
        expect(finished).to_be_visible(timeout=TRAIN_MS)
        assert server.counts["paid"] > 0
    expect(page.get_by_test_id("stException")).to_have_count(0)
