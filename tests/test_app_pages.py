"""Every page of the app, driven without a browser: links opened cold, empty states, errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from labelfusion import jobs
from labelfusion.costs import LEDGER_NAME
from labelfusion.datasets import DatasetStore
from labelfusion.workspace import Workspace
from tests.run_folders import write_run

ROOT = Path(__file__).parent.parent
NAMES = ("data", "train", "jobs", "results", "calibration", "cost", "errors", "classify", "label")
PAGES = ["app.py", *(f"pages/{name}.py" for name in NAMES)]
RUN = "20260131-142501-tickets"
CSV = b"id,text,label\n" + b"".join(b"%d,text %d,%c\n" % (i, i, b"ab"[i % 2]) for i in range(40))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(tmp_path))
    return Workspace.at(tmp_path)


@pytest.fixture
def started(monkeypatch):
    """Runs are made, and their processes are not: what they do is the jobs' own tests' matter."""
    spawned = []
    monkeypatch.setattr(jobs, "_spawn", lambda folder, workspace: spawned.append(folder.id))
    return spawned


def open_page(path, **query):
    page = AppTest.from_file(ROOT / "app.py", default_timeout=60)
    if path != "app.py":
        page.switch_page(path)
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def text_of(page):
    parts = [*page.title, *page.subheader, *page.markdown, *page.caption, *page.info]
    parts += [*page.error, *page.success, *page.warning]
    return "\n".join(part.value for part in parts)


def press(page, label):
    next(b for b in page.button if b.label.startswith(label)).click()
    page.run()
    assert not page.exception
    return page


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_workspace_says_what_to_do_next(path, workspace):
    page = open_page(path)
    assert len(page.title) == 1
    assert not page.error
    assert any(word in text_of(page) for word in ("yet", "no data set"))
    assert not workspace.runs.exists()


def test_the_app_process_loads_neither_torch_nor_sklearn(workspace):
    write_run(workspace.root)
    DatasetStore(workspace).add_sample("tickets")
    code = (
        "import sys\n"
        "from tests.test_app_pages import PAGES, RUN, open_page\n"
        "for path in PAGES: open_page(path, run=RUN, dataset='tickets')\n"
        "print(sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", PAGES[1:])
def test_a_link_to_what_is_not_there_is_a_sentence(path, workspace):
    write_run(workspace.root)
    DatasetStore(workspace).add_sample("tickets")
    page = open_page(path, run="20200101-000000-gone", dataset="gone")
    assert "gone" in page.error[0].value
    assert "What to do" in page.error[0].value


def chosen_in(page):
    return [caption.value.replace("\\", "") for caption in page.sidebar.caption]


@pytest.mark.parametrize("path", PAGES)
def test_the_sidebar_names_the_run_that_the_page_shows(path, workspace):
    write_run(workspace.root, "20250101-000000-older")
    write_run(workspace.root)
    assert f"Run: {RUN}, the newest" in chosen_in(open_page(path))
    assert "Run: 20250101-000000-older" in chosen_in(open_page(path, run="20250101-000000-older"))


def test_the_sidebar_follows_a_page_that_cannot_show_the_newest_run(workspace):
    write_run(workspace.root, "20250101-000000-older")
    write_run(workspace.root, state="queued")
    assert f"Run: {RUN}, the newest" in chosen_in(open_page("app.py"))
    assert "Run: 20250101-000000-older" in chosen_in(open_page("pages/classify.py"))


def test_the_sidebar_forgets_a_run_that_was_deleted(workspace):
    older = write_run(workspace.root, "20250101-000000-older")
    write_run(workspace.root)
    page = open_page("pages/results.py", run=older.name)
    shutil.rmtree(older)
    page.switch_page("app.py")
    page.query_params.clear()
    page.run()
    assert f"Run: {RUN}, the newest" in chosen_in(page)


def test_overview_shows_headline_figures(workspace):
    folder = write_run(workspace.root)
    systems = json.loads((folder / "metrics.json").read_text())["systems"]
    page = open_page("app.py")
    fused = next(m for m in page.metric if m.label.startswith("Fusion"))
    assert fused.value == f"{100 * systems['fusion']['metrics']['accuracy']:.1f} %"


def test_one_click_tries_the_sample(workspace, started):
    press(open_page("app.py"), "Try it on the sample")
    assert len(started) == 1
    assert DatasetStore(workspace).open("tickets").scores.covered == 460
    run = workspace.runs / started[0]
    assert "recorded" in (run / "config.yaml").read_text()


def test_data_uploads_guesses_and_saves_a_layout(workspace):
    page = open_page("pages/data.py")
    page.file_uploader[0].upload("mine.csv", CSV, "text/csv")
    page.run()
    assert not page.exception
    assert page.query_params["dataset"] == "mine"
    page = open_page("pages/data.py", dataset="mine", tab="Columns")
    assert "is the label" in text_of(page)
    press(page, "Save the layout")
    stored = DatasetStore(workspace).open("mine")
    assert stored.confirmed
    assert stored.config.label_column == "label"


def test_data_says_why_a_file_is_refused(workspace):
    page = open_page("pages/data.py")
    page.file_uploader[0].upload("mine.csv", b"%PDF-1.7", "text/csv")
    page.run()
    assert not page.exception
    assert "PDF" in page.error[0].value
    assert DatasetStore(workspace).list() == []


def test_data_mends_a_finding_in_a_new_version(workspace):
    DatasetStore(workspace).add("mine.csv", CSV + b"40,,a\n", {})
    page = open_page("pages/data.py", dataset="mine", tab="Findings")
    assert "42" in text_of(page)
    press(page, "Remove the rows without text (1)")
    stored = DatasetStore(workspace).open("mine")
    assert (stored.current, stored.version.rows) == (2, 40)


def test_data_saves_a_test_split(workspace):
    DatasetStore(workspace).add("mine.csv", CSV, {})
    page = open_page("pages/data.py", dataset="mine", tab="Test split")
    page.slider[0].set_value(50)
    page.number_input[0].set_value(7)
    press(page.run(), "Save the test split")
    stored = DatasetStore(workspace).open("mine")
    assert (stored.config.test_size, stored.seed) == (0.5, 7)


def test_data_attaches_scores_and_refuses_those_of_other_labels(workspace):
    DatasetStore(workspace).add("mine.csv", CSV, {})
    page = open_page("pages/data.py", dataset="mine", tab="LLM scores")
    page.file_uploader[-1].upload("s.csv", b"id,a,c\n1,.9,.1\n", "text/csv")
    press(page.run(), "Check and attach")
    assert "lack a column" in page.error[0].value
    page.file_uploader[-1].upload("s.csv", b"id,a,b\n1,.9,.1\n", "text/csv")
    press(page.run(), "Check and attach")
    assert DatasetStore(workspace).open("mine").scores.covered == 1


def test_train_starts_what_it_shows(workspace, started):
    DatasetStore(workspace).add_sample("tickets")
    page = open_page("pages/train.py", dataset="tickets")
    page.radio[0].set_value("tfidf")
    page.run()
    shown = page.code[0].value
    assert "encoder: tfidf" in shown
    press(page, "Start training")
    assert (workspace.runs / started[0] / "config.yaml").read_text().strip() == shown.strip()


def test_train_does_not_start_what_cannot_run(workspace, started):
    DatasetStore(workspace).add("mine.csv", b"id,text,label\n1,one,a\n2,two,a\n", {})
    page = open_page("pages/train.py", dataset="mine")
    assert "All usable rows have the same label" in page.error[0].value
    assert next(b for b in page.button if b.label == "Start training").disabled
    assert started == []


def test_jobs_shows_a_failure_and_offers_resume_and_retry(workspace, started):
    write_run(workspace.root, state="failed")
    page = open_page("pages/jobs.py", run=RUN)
    assert "ran out of memory" in page.error[0].value
    assert "**Train the encoder**: stopped" in text_of(page)
    press(page, "Resume")
    assert started == [RUN]


def test_jobs_says_that_a_process_is_gone(workspace):
    write_run(workspace.root, state="running")
    page = open_page("pages/jobs.py", run=RUN)
    assert "interrupted" in page.subheader[0].value


def test_jobs_retries_as_a_new_run(workspace, started):
    folder = write_run(workspace.root)
    (folder / "scores.csv").write_text("id\n")
    press(open_page("pages/jobs.py", run=RUN), "Retry")
    assert len(started) == 1
    assert started[0] != RUN


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    "tab", ["Summary", "Labels", "Confusion", "Curves", "Why this fusion", "Compare runs", "Export"]
)
def test_every_tab_of_results_opens_cold(tab, multi_label, workspace):
    write_run(workspace.root, multi_label=multi_label)
    write_run(workspace.root, "20260201-000000-other", multi_label=multi_label, seed=1)
    page = open_page("pages/results.py", run=RUN, tab=tab)
    assert not page.error
    assert page.selectbox[0].value == RUN


def test_results_shows_test_texts_even_of_a_hundred_labels(workspace):
    labels = tuple(f"label {i}" for i in range(100))
    write_run(workspace.root, labels=labels, n=2000)
    page = open_page("pages/results.py", run=RUN, tab="Confusion")
    shown = page.dataframe[-1].value
    assert shown["text"].str.startswith("text number").all()
    assert len(shown) <= 50


def test_results_still_opens_when_the_data_is_gone(workspace):
    write_run(workspace.root)
    (workspace.root / f"{RUN}.csv").unlink()
    page = open_page("pages/results.py", run=RUN, tab="Confusion")
    assert "moved or changed" in text_of(page)


def test_results_of_an_unfinished_run_point_to_its_job(workspace):
    write_run(workspace.root, state="failed")
    page = open_page("pages/results.py", run=RUN)
    assert "failed, so there are no results yet" in text_of(page)


def test_a_damaged_run_is_a_sentence(workspace):
    folder = write_run(workspace.root)
    (folder / "metrics.json").write_text("{")
    page = open_page("pages/results.py", run=RUN)
    assert "damaged" in page.error[0].value


@pytest.mark.parametrize("path", ["app.py", "pages/results.py", "pages/cost.py"])
def test_a_damaged_ledger_is_a_sentence_and_keeps_nobody_from_the_rest(path, workspace):
    write_run(workspace.root)
    (workspace.root / LEDGER_NAME).write_bytes(b"no database" * 1000)
    page = open_page(path, run=RUN)
    assert not page.exception
    assert all("ledger" in error.value for error in page.error)
    assert page.sidebar.error
    assert page.title[0].value


def test_a_deleted_run_is_forgotten_between_pages(workspace):
    write_run(workspace.root)
    page = open_page("pages/jobs.py", run=RUN)
    shutil.rmtree(workspace.runs / RUN)
    write_run(workspace.root, "20260201-000000-other")
    del page.query_params["run"]
    page.run()
    assert not page.exception
    assert not page.error
