"""Labelling by keyboard alone in a browser, through a kill of the app, up to a trained model."""

from __future__ import annotations

import re
import time

import pandas as pd
import pytest

from labelfusion.datasets import DatasetStore
from labelfusion.labelling.journal import Entry, Journal, text_hash
from labelfusion.labelling.state import replayed
from labelfusion.workspace import Workspace
from scripts.screenshots import ROOT
from tests.browser import DRAW_MS, MARKS, TRAIN_MS, killable_app, settle, upload

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright_api.expect.set_options(timeout=DRAW_MS)

pytestmark = MARKS

LABELS = ("billing", "delivery", "technical")
TEXTS, KILL_AFTER = 50, 30
TEXT = '[data-testid="stText"]'


@pytest.fixture(scope="module")
def tickets(tmp_path_factory):
    """120 sample tickets without their labels, and the labels by text."""
    table = pd.read_csv(ROOT / "sample_data" / "tickets.csv")
    table = table[table["label"].isin(LABELS)].head(120)
    path = tmp_path_factory.mktemp("unlabelled") / "desk.csv"
    table[["id", "text"]].to_csv(path, index=False)
    return path, dict(zip(table["text"], table["label"], strict=True))


def label_by_key(page, gold, count) -> list[str]:
    """Press the label's digit for `count` texts; each press waits for the next text and its keys.

    A key pressed before the keys of the text are there still means the text before, and is dropped.
    """
    names = sorted(LABELS)
    done, waits = [], []
    for _ in range(count):
        text = page.locator(TEXT).inner_text()
        started = time.monotonic()
        page.keyboard.press(str(names.index(gold[text]) + 1))
        page.wait_for_function(
            "([selector, old]) => { const now = document.querySelector(selector);"
            " return now && now.innerText !== old; }",
            arg=[TEXT, text],
        )
        waits.append(time.monotonic() - started)
        settle(page)
        done.append(text)
    median = sorted(waits)[len(waits) // 2]
    print(f"press to next text: median {median:.3f} s, most {max(waits):.3f} s")
    return done


def test_fifty_tickets_by_keyboard_survive_a_kill_and_train_a_model(page, tickets, tmp_path):
    expect = playwright_api.expect
    path, gold = tickets
    journal = Journal.of(Workspace.at(tmp_path), "desk").path
    with killable_app(tmp_path) as (server, url):
        page.goto(f"{url}/data")
        assert upload(page, path) == "desk"
        page.goto(f"{url}/label?dataset=desk&who=ana")
        settle(page)
        page.get_by_role("textbox", name="One label a line").focus()
        for name in sorted(LABELS):
            page.keyboard.type(f"{name}: tickets about {name}\n")
        page.keyboard.press("Control+Enter")
        expect(page.locator(TEXT)).to_be_visible()
        settle(page)
        before = label_by_key(page, gold, KILL_AFTER)
        server.kill()
        server.wait()
    assert [e.text for e in entries(journal)] == [text_hash(text) for text in before]

    with killable_app(tmp_path) as (_, url):
        page.goto(f"{url}/label?dataset=desk&who=ana")
        expect(page.locator(TEXT)).to_be_visible()
        settle(page)
        after = label_by_key(page, gold, TEXTS - KILL_AFTER)
        found = entries(journal)
        assert [e.text for e in found] == [text_hash(text) for text in before + after]
        assert len({e.text for e in found}) == TEXTS
        assert {e.text: e.labels for e in replayed(found).current().values()} == {
            text_hash(text): (gold[text],) for text in before + after
        }

        page.goto(f"{url}/label?dataset=desk&who=ana&tab=Train+again")
        settle(page)
        page.get_by_text("TF-IDF words").click()
        settle(page)
        page.get_by_role("button", name=f"Train with {TEXTS} new labels").click()
        expect(page.get_by_role("heading", name="desk: finished")).to_be_visible(timeout=TRAIN_MS)
        expect(page.get_by_test_id("stMetric").filter(has_text="First model")).to_be_visible()
        page.screenshot(path=str(tmp_path / "trained.png"))


def entries(journal):
    """The labels in the journal, in their order."""
    return [entry for entry in Journal(journal).read_new() if entry.act == "label"]


@pytest.fixture
def suggested(tmp_path):
    """A workspace with an unlabelled data set of two labels, and LLM scores for it."""
    texts = [("refund the invoice", "where is my parcel")[i % 2] + f" {i}" for i in range(40)]
    rows = "".join(f"{i},{text}\n" for i, text in enumerate(texts))
    scores = "".join(f"{i},{('.97,.03', '.02,.98')[i % 2]}\n" for i in range(40))
    workspace = Workspace.at(tmp_path)
    store = DatasetStore(workspace)
    stored = store.add("desk.csv", f"id,text\n{rows}".encode(), {})
    labels = {"billing": "", "delivery": ""}
    stored = store.configure(stored, stored.config.model_copy(update={"labels": labels}))
    content = f"id,billing,delivery\n{scores}".encode()
    store.attach_scores(stored, "scores.csv", content, "probabilities")
    Journal.of(workspace, "desk").append([Entry("labels", "ana", declared=labels)])
    return workspace, texts


def test_what_is_unticked_is_not_confirmed(page, suggested):
    workspace, texts = suggested
    with killable_app(workspace.root) as (_, url):
        page.goto(f"{url}/label?dataset=desk&who=ana&tab=Suggestions")
        settle(page)
        page.get_by_role("button", name="Use the attached LLM scores").click()
        playwright_api.expect(page.get_by_text("shown as suggestions")).to_be_visible()
        settle(page)
        page.get_by_role("tab", name="Confirm many").click()
        settle(page)
        button = page.get_by_role("button", name=re.compile("Confirm billing for"))
        offered = int(re.search(r"\d+", button.inner_text())[0])
        # The first row's tick; cells are drawn on a canvas.
        grid = page.locator('[data-testid="stDataFrame"]').first.bounding_box()
        page.mouse.click(grid["x"] + 30, grid["y"] + 52)
        page.keyboard.press("Space")
        fewer = page.get_by_role("button", name=f"Confirm billing for {offered - 1} texts")
        playwright_api.expect(fewer).to_be_visible()
        fewer.click()
        playwright_api.expect(page.get_by_text(f"{offered - 1} texts are billing")).to_be_visible()
    given = replayed(Journal.of(workspace, "desk").read_new()).current().values()
    assert len(given) == offered - 1 > 5
    assert all("refund" in texts[int(entry.row)] for entry in given)
