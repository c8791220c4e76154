"""Classify: a text with its sources toggled, and a file through a job."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from labelfusion import jobs
from labelfusion.classify_text import MAX_CHARACTERS, as_rows, ask, encoder_answer, offer, what_if
from labelfusion.config import RunConfig
from labelfusion.errors import ConfigError, InputError, ProviderError
from labelfusion.prediction_job import PredictionFolder, Request, create_prediction, label_in_folder
from labelfusion.runs import ResultsManager, create_run
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.command_line import PRICES, asking_config
from tests.llm_server import running
from tests.run_data import SAMPLE, small_config
from tests.test_app_pages import open_page, press, text_of

TICKETS = pd.read_csv(SAMPLE / "tickets.csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify")
    workspace = Workspace.at(folder / "ws")
    run = create_run(workspace, small_config(folder))
    work(run, workspace)
    return workspace, run.id


@pytest.fixture
def page(made, monkeypatch):
    workspace, run_id = made
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(workspace.root))
    return open_page("pages/classify.py", run=run_id)


def classify(page, text):
    page.text_area[0].input(text)
    return press(page, "Classify")


def test_a_known_text_has_all_sources_and_toggles_change_the_answer(page):
    page = classify(page, TICKETS["text"][0])
    assert "Label: account" in text_of(page)
    assert {box.label for box in page.checkbox} >= {"Use ML encoder", "Use LLM"}
    before = next(c.value for c in page.caption if c.value.startswith("From "))
    assert "LLM" in before
    next(box for box in page.checkbox if box.label == "Use LLM").uncheck()
    page.run()
    assert not page.exception
    after = next(c.value for c in page.caption if c.value.startswith("From "))
    assert "LLM +0.00" in after
    assert after != before


def test_a_new_text_says_that_recorded_scores_are_missing(page):
    page = classify(page, "a text that nobody has scored")
    assert "not among the recorded scores" in text_of(page)
    assert not page.error


@pytest.mark.parametrize(("text", "said"), [("  ", "no text"), ("x" * 50_000, "too long")])
def test_texts_that_cannot_be_classified(page, text, said):
    page = classify(page, text)
    assert said in page.error[0].value


def test_text_limits():
    assert as_rows("x" * MAX_CHARACTERS).texts == ["x" * MAX_CHARACTERS]
    with pytest.raises(InputError):
        as_rows("x" * (MAX_CHARACTERS + 1))


def test_a_file_is_labelled_in_a_folder_of_its_own(made, tmp_path):
    workspace, run_id = made
    content = TICKETS.head(30).drop(columns="label").to_csv(index=False).encode()
    folder = create_prediction(workspace, Request(run_id, "new.csv", contributions=True), content)
    label_in_folder(folder, workspace)
    table = pd.read_csv(folder.result)
    assert list(table["id"]) == [f"T{i:04}" for i in range(30)]
    assert "contribution_llm_billing" in table
    assert "unlike_training" in table
    assert folder.read_summary()["present"] == {"ml": 30, "llm": 30}
    assert jobs.status(workspace, folder.id).state == "finished"
    with pytest.raises(InputError, match="kind of the file"):
        create_prediction(workspace, Request(run_id, "new.exe"), b"")
    other = create_prediction(workspace, Request("no-such-run", "new.csv"), content)
    with pytest.raises(Exception, match="There is no run"):
        label_in_folder(other, workspace)
    assert jobs.status(workspace, other.id).state == "failed"
    assert isinstance(jobs.folder_of(workspace, other.id), PredictionFolder)


def test_a_job_survives_who_started_it_and_shows_on_the_pages(made, page, monkeypatch):
    workspace, run_id = made
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    content = TICKETS.head(20).to_csv(index=False).encode()
    request = Request(run_id, "desk.csv")
    prediction = jobs.start_prediction(workspace, request, content)
    assert jobs.start_prediction(workspace, request, content) == prediction
    others = [
        jobs.start_prediction(workspace, replace(request, contributions=True), content),
        jobs.start_prediction(workspace, request, content.replace(b"a", b"b")),
    ]
    assert len({prediction, *others}) == 3
    for other in others:
        jobs.cancel(workspace, other)
    assert jobs.wait(workspace, prediction, timeout_s=120).state == "finished"
    shown = open_page("pages/classify.py", run=run_id, prediction=prediction, tab="A file")
    assert "desk: finished" in text_of(shown)
    assert "20 texts; sources present on" in text_of(shown)
    listed = open_page("pages/jobs.py")
    assert any("Files labelled" in box.label for box in listed.expander)


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    """A run whose LLM is a server on loopback, and the server."""
    folder = tmp_path_factory.mktemp("asking")
    workspace = Workspace.at(folder / "ws")
    with running() as (server, address):
        values = asking_config(folder, address, n=40) | {"costs": {"prices": PRICES}}
        values["data"]["path"] = str(folder / "tickets.csv")
        run = create_run(workspace, RunConfig.from_dict(values))
        work(run, workspace)
        yield ResultsManager(workspace).open(run.id), workspace, server


def test_an_llm_is_asked_only_on_the_button_and_paid_once(asking, monkeypatch):
    run, workspace, server = asking
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(workspace.root))
    page, paid = open_page("pages/classify.py", run=run.id), server.counts["paid"]
    page = classify(page, "a new text for the server")
    assert "not asked. Expected cost" in text_of(page)
    assert server.counts["paid"] == paid
    page = press(page, "Ask llm")
    assert server.counts["paid"] == paid + 1
    page = classify(page, "a new text for the server")
    assert "Use LLM" in {box.label for box in page.checkbox}
    assert server.counts["paid"] == paid + 1


def test_what_stands_in_the_way_of_asking(asking):
    run, workspace, _ = asking
    classifier, rows = run.model(workspace.cache), as_rows("yet another new text")
    entry = run.config.llm[0]
    assert offer(run, classifier, entry, rows, workspace).expected > 0
    down = entry.model_copy(update={"base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(ProviderError):
        ask(run, classifier, down, rows, workspace)
    keyless = entry.model_copy(update={"api_key_env": "NO_SUCH_KEY_FOR_THIS_TEST"})
    with pytest.raises(ConfigError, match="NO_SUCH_KEY_FOR_THIS_TEST"):
        ask(run, classifier, keyless, rows, workspace)
    broke = run.config.costs.model_copy(deep=True)
    broke.budget.run_usd = 0.0
    with pytest.raises(Exception, match="limit was reached"):
        ask(run, classifier, entry, rows, workspace, costs=broke)
    alone = what_if(classifier, encoder_answer(classifier, rows), set())
    assert not alone.present.any()
