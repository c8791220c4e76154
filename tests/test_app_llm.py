"""Train and Jobs with LLMs that are asked: what is shown before and after money is spent."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

import psutil
import pytest
from streamlit import config as streamlit_config
from streamlit.runtime.secrets import secrets_singleton

from labelfusion import jobs
from labelfusion.costs import open_ledger
from labelfusion.datasets import DatasetStore
from labelfusion.processes import this_process
from labelfusion.types import Event
from labelfusion.ui import costs, widgets
from labelfusion.workspace import Workspace
from tests.llm_server import running
from tests.run_folders import write_run
from tests.test_app_pages import open_page, press, text_of

NOWHERE = "http://127.0.0.1:9"
SECRET = "sk-of-this-test-0123456789"
CSV = b"id,text,label\n" + b"".join(
    b"%d,is this text %d about it,%s\n" % (i, i, (b"yes", b"no")[i % 2]) for i in range(60)
)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Workspace.at(tmp_path)
    DatasetStore(made).add("mine.csv", CSV, {})
    return made


@pytest.fixture
def started(monkeypatch):
    spawned = []
    monkeypatch.setattr(jobs, "_spawn", lambda folder, workspace: spawned.append(folder.id))
    return spawned


@pytest.fixture
def secrets(tmp_path_factory, monkeypatch):
    """A secrets.toml that Streamlit has yet to read, outside the workspace."""
    path = tmp_path_factory.mktemp("home") / "secrets.toml"
    path.write_text(f'SHOP_API_KEY = "{SECRET}"\n')
    # Known to monkeypatch, which takes it back after the test.
    monkeypatch.setenv("SHOP_API_KEY", "")
    before = streamlit_config.get_option("secrets.files")
    streamlit_config.set_option("secrets.files", [str(path)])
    secrets_singleton._reset()
    yield path
    streamlit_config.set_option("secrets.files", before)
    secrets_singleton._reset()


def widget(group, key):
    return next(one for one in group if one.key == key)


def everything(page):
    """All that the page sent to the browser, as text."""
    sent = [str(node.proto) for node in page._tree if getattr(node, "proto", None) is not None]
    assert "LabelFusion" in "".join(sent)
    return "\n".join(sent)


def settle(page):
    page.run()
    assert not page.exception
    return page


def asking(address, *, priced=True):
    """The Train page with TF-IDF and one LLM behind `address`."""
    page = open_page("pages/train.py", dataset="mine")
    page.radio[0].set_value("tfidf")
    press(page, "Add an LLM")
    widget(page.selectbox, "llm_1_provider").set_value("compatible")
    settle(page)
    widget(page.text_input, "llm_1_model").set_value("m")
    widget(page.text_input, "llm_1_url").set_value(f"{address}/v1")
    settle(page)
    if priced:
        widget(page.number_input, "input_per_million m").set_value(1.0)
        widget(page.number_input, "output_per_million m").set_value(4.0)
        settle(page)
    return page


def metric(page, label):
    return next(one.value for one in page.metric if one.label == label)


def start_button(page):
    return next(one for one in page.button if one.label == "Start training")


def test_the_estimate_and_the_prompt_are_shown_before_anything_is_sent(workspace, started):
    with running() as (server, address):
        page = asking(address)
        assert server.counts["requests"] == 0
    assert metric(page, "Requests") == "8"
    assert metric(page, "Expected cost").startswith("$0.0")
    table = next(f.value for f in page.dataframe if "texts to ask about" in f.value)
    assert table["case"].tolist() == ["expected", "at most"]
    assert table["texts to ask about"].tolist() == [60, 60]
    sent = "\n".join(code.value for code in page.code)
    assert "- yes" in sent
    assert "is this text 0 about it" in sent
    assert "No budget is set" in text_of(page)
    assert not start_button(page).disabled
    assert not started


def test_five_texts_show_the_reply_the_scores_and_the_cost(workspace):
    with running() as (server, address):
        page = press(asking(address), "Try 5 texts")
        assert server.counts["paid texts"] == 5
    replies = [code.value for code in page.code if code.value.startswith('{"items"')]
    assert len(replies) == 1
    table = next(f.value for f in page.dataframe if "answer" in f.value)
    assert table["answer"].tolist() == ["scored"] * 5
    assert table[["score: yes", "score: no"]].notna().all(axis=None)
    paid = open_ledger(workspace.root).spend(day=f"{datetime.now(UTC):%Y-%m-%d}").total
    assert paid > 0
    assert "5 of 5 texts scored. 1 request," in text_of(page).replace("\\", "")
    assert costs.money(paid) in text_of(page).replace("\\", "")
    estimate = next(f.value for f in page.dataframe if "texts to ask about" in f.value)
    assert estimate["in the cache"].tolist() == [5, 5]


def test_a_missing_key_is_a_sentence_that_names_its_variable(workspace, started):
    page = press(open_page("pages/train.py", dataset="mine"), "Add an LLM")
    assert "`OPENAI_API_KEY` is not set" in text_of(page)
    assert "No API key for openai" in page.error[0].value
    assert metric(page, "Requests") == "8"
    assert start_button(page).disabled


def test_a_key_that_is_set_is_said_and_never_shown(workspace, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    page = press(open_page("pages/train.py", dataset="mine"), "Add an LLM")
    assert "`OPENAI_API_KEY` is set" in text_of(page)
    assert SECRET not in everything(page)


def test_a_server_that_is_not_there_is_a_sentence(workspace):
    page = press(asking(NOWHERE), "Try 5 texts")
    assert "answered nothing" in page.error[0].value
    assert "connection attempts failed" in page.error[0].value
    assert "the network" in page.error[0].value


def test_a_budget_with_an_unknown_price_is_refused_with_the_remedy(workspace, started):
    page = asking(NOWHERE, priced=False)
    assert metric(page, "Expected cost") == "unknown price"
    assert any("is unknown" in warning.value for warning in page.warning)
    widget(page.number_input, "budget_run_usd").set_value(1.0)
    settle(page)
    assert start_button(page).disabled
    assert "costs.prices.m" in "\n".join(error.value for error in page.error).replace("\\", "")
    widget(page.number_input, "input_per_million m").set_value(0.0)
    widget(page.number_input, "output_per_million m").set_value(0.0)
    settle(page)
    assert not start_button(page).disabled
    assert not page.error


def limited(address, usd):
    """The Train page with an LLM behind `address` and a budget for a run."""
    page = asking(address)
    widget(page.number_input, "budget_run_usd").set_value(usd)
    return settle(page)


@pytest.mark.parametrize("way", ["continue", "stop"])
def test_a_budget_that_may_be_too_small_is_refused_until_someone_says_what_then(
    workspace, started, way
):
    page = limited(NOWHERE, 0.0001)
    assert start_button(page).disabled
    refused = page.error[0].value
    assert "may be spent before every text has a score" in refused
    assert "Raise “Limit a run”" in refused
    widget(page.button, f"say_{way}").click()
    settle(page)
    assert widget(page.radio, "budget_spent").value == way
    assert not start_button(page).disabled
    press(page, "Start training")
    stored = (workspace.runs / started[0] / "config.yaml").read_text()
    assert f"when_spent: {way}" in stored


def test_a_budget_that_is_raised_to_what_is_likely_is_accepted(workspace, started):
    page = press(limited(NOWHERE, 0.0001), "Limit a run to")
    assert "enough for what is expected" in text_of(page)
    press(page, "Start training")
    assert len(started) == 1


def test_several_llms_are_several_sources_and_what_was_typed_is_kept(
    workspace, started, monkeypatch
):
    # Nobody comes back to the page as soon as a second press would.
    monkeypatch.setattr(widgets, "SECOND_PRESS_S", 0.0)
    page = asking(NOWHERE)
    press(page, "Add an LLM")
    widget(page.selectbox, "llm_2_provider").set_value("compatible")
    settle(page)
    widget(page.text_input, "llm_2_model").set_value("other")
    widget(page.text_input, "llm_2_url").set_value(f"{NOWHERE}/v1")
    settle(page)
    press(page, "Start training")
    stored = (workspace.runs / started[0] / "config.yaml").read_text()
    assert "name: llm\n" in stored
    assert "name: llm2\n" in stored
    page.switch_page("pages/train.py")
    settle(page)
    assert widget(page.text_input, "llm_2_model").value == "other"


def test_secrets_reach_jobs_by_the_environment_and_nothing_else(workspace, secrets):
    with running(key=SECRET) as (server, address):
        page = asking(address)
        widget(page.selectbox, "llm_1_variable").set_value("SHOP_API_KEY")
        settle(page)
        assert "`SHOP_API_KEY` is set" in text_of(page)
        press(page, "Start training")
        argv = [" ".join(child.cmdline()) for child in psutil.Process().children()]
        (run_id,) = [path.name for path in workspace.runs.iterdir()]
        assert any(run_id in words for words in argv)
        assert jobs.wait(workspace, run_id, timeout_s=120).state == "finished"
        assert server.counts["paid texts"] == 60
    page = open_page("pages/jobs.py", run=run_id)
    assert metric(page, "Spent on LLMs by this run").startswith("$0.0")
    assert "api_key_env: SHOP_API_KEY" in (workspace.runs / run_id / "config.yaml").read_text()
    assert SECRET not in " ".join(argv)
    assert SECRET not in everything(page)
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_run_that_asks_says_what_is_spent_and_that_cancelling_loses_nothing(workspace):
    folder = write_run(workspace.root, state="running")
    data = {"source": "llm", "done": 40, "cached": 10, "failed": 0, "rate": 4.0, "eta": 15.0}
    event = Event("llm", "progress", "", 40, 100, "texts", data=data | {"spent": 0.0123})
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(asdict(event) | {"time": f"{datetime.now(UTC):%FT%T+00:00}"}) + "\n")
    status = json.loads((folder / "status.json").read_text())
    status |= dict(zip(("pid", "pid_created"), this_process(), strict=True))
    (folder / "status.json").write_text(json.dumps(status))
    page = open_page("pages/jobs.py", run=folder.name)
    assert metric(page, "Spent on LLMs by this run") == "$0.013"
    assert "4.0 a second" in everything(page)
    assert "paid for stay in the cache" in text_of(page)


def test_overview_says_what_was_spent_today_and_this_month(workspace):
    with running() as (_, address):
        press(asking(address), "Try 5 texts")
    page = open_page("app.py")
    assert metric(page, "Today") == metric(page, "This month") != "$0"
