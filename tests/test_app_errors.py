"""The Errors page without a browser: filters, slices, verdicts, versions, training again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labelfusion import jobs
from labelfusion.data import load_dataset
from labelfusion.datasets import DatasetStore
from labelfusion.review import label_issues, review_rows
from labelfusion.review.verdicts import Verdicts
from labelfusion.runs import ResultsManager
from labelfusion.workspace import Workspace
from tests.review_run import reviews_run, tickets_run
from tests.run_folders import write_run
from tests.test_app_pages import ROOT, open_page, press, text_of

PAGE = "pages/errors.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two workspaces, each with a run and its data set, to be copied by tests."""
    roots = {}
    for name, make in (("tickets", tickets_run), ("reviews", reviews_run)):
        roots[name] = tmp_path_factory.mktemp(name)
        make(Workspace.at(roots[name] / "ws"), roots[name] / "files")
    return roots


def desk(trained, tmp_path, monkeypatch, name):
    """A workspace of the test's own, its run and data set."""
    root = tmp_path / "ws"
    shutil.copytree(trained[name] / "ws", root)
    for config in root.glob("runs/*/config.yaml"):
        config.write_text(config.read_text().replace(str(trained[name] / "ws"), str(root)))
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(root))
    space = Workspace.at(root)
    run = ResultsManager(space).open("last")
    stored = DatasetStore(space).list()[0]
    return run, stored, load_dataset(stored.config)


@pytest.fixture
def tickets(trained, tmp_path, monkeypatch):
    return desk(trained, tmp_path, monkeypatch, "tickets")


@pytest.fixture
def reviews(trained, tmp_path, monkeypatch):
    return desk(trained, tmp_path, monkeypatch, "reviews")


def shown(page):
    return int(
        next(m.value for m in page.markdown if " texts**, fusion is wrong on" in m.value)
        .removeprefix("**")
        .split(" of ")[0]
        .replace(",", "")
    )


@pytest.mark.parametrize("tab", ["Texts", "Slices", "Suspected labels", "Corrections"])
@pytest.mark.parametrize("name", ["tickets", "reviews"])
def test_every_tab_opens_cold(name, tab, request):
    run, _, _ = request.getfixturevalue(name)
    page = open_page(PAGE, run=run.id, tab=tab)
    assert not page.error


def test_a_cell_of_the_confusion_matrix_shows_its_texts(tickets):
    run, _, dataset = tickets
    rows = review_rows(run, dataset)
    expected = ((rows.gold_names == "technical") & (rows.decided_names == "technical")).sum()
    page = open_page(PAGE, run=run.id, gold="technical", predicted="technical")
    assert shown(page) == expected > 0


def test_filters_combine_and_are_in_the_address(tickets):
    run, _, dataset = tickets
    rows = review_rows(run, dataset)
    page = open_page(PAGE, run=run.id, show="all")
    assert shown(page) == len(rows)
    next(s for s in page.selectbox if s.label == "Part").set_value("test")
    page.run()
    next(t for t in page.text_input if t.label == "Text contains").set_value("THE")
    page.run()
    confidence = next(s for s in page.slider if s.label == "Confidence (%)")
    confidence.set_value((50, 100))
    page.run()
    assert page.query_params["split"] in ("test", ["test"])
    assert page.query_params["confidence"] in ("50-100", ["50-100"])
    holds = np.array(["the" in text.casefold() for text in rows.texts])
    expected = (rows.split == "test") & holds & (rows.confidence >= 0.5)
    assert shown(page) == expected.sum()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"gold": "bilings"}, "billing"),
        ({"confidence": "high"}, "no range"),
        ({"meta.nope": "x"}, "nope"),
        ({"slice": "words: zzz"}, "no such slice"),
        ({"quadrant": "ml"}, "quadrant"),
    ],
)
def test_an_address_that_makes_no_sense_is_a_sentence(tickets, query, complaint):
    run, _, _ = tickets
    page = open_page(PAGE, run=run.id, **query)
    assert complaint in page.error[0].value


def test_a_row_that_is_not_there_is_said(tickets):
    run, _, _ = tickets
    page = open_page(PAGE, run=run.id, show="all", row="gone")
    assert "no row with the id gone" in page.warning[0].value


def test_a_label_is_fixed_saved_as_a_version_and_trained_again(tickets, monkeypatch):
    run, stored, dataset = tickets
    spawned = []
    monkeypatch.setattr(jobs, "_spawn", lambda folder, workspace: spawned.append(folder))
    row_id = str(dataset.ids[4])
    page = open_page(PAGE, run=run.id, show="all", row=row_id, tab="Texts")
    other = next(n for n in dataset.space.names if not dataset.targets[4, dataset.space.index(n)])
    next(s for s in page.selectbox if s.label == "Right label").set_value(other)
    press(page.run(), "Fix this label")
    pending = Verdicts(stored.folder).pending()
    assert pending[row_id].new == (other,)
    assert DatasetStore(Workspace.at()).open(stored.name).current == 1

    page = open_page(PAGE, run=run.id, tab="Corrections")
    press(page, "Save as version 2")
    added = DatasetStore(Workspace.at()).open(stored.name)
    assert added.current == 2
    assert "1 label corrected" in added.version.note
    page = open_page(PAGE, run=run.id, tab="Corrections")
    assert "test texts are the same" in text_of(page)
    press(page, "Train again on this version")
    again = ResultsManager(Workspace.at()).open(spawned[0].id)
    assert Path(again.config.data.path).name == "v2.csv"
    assert again.config.ml == run.config.ml


def test_a_suspect_that_is_kept_is_not_shown_again(tickets):
    run, stored, dataset = tickets
    before = label_issues(review_rows(run, dataset))
    assert len(before)
    page = open_page(PAGE, run=run.id, tab="Suspected labels")
    assert f"{len(before):,} labels to look at" in text_of(page)
    press(page, "Keep it")
    assert len(Verdicts(stored.folder).kept()) == 1
    page = open_page(PAGE, run=run.id, tab="Suspected labels")
    assert f"{len(before) - 1:,} labels to look at" in text_of(page)


def test_one_of_several_labels_is_corrected_and_taken_back(reviews):
    run, stored, dataset = reviews
    found = label_issues(review_rows(run, dataset))
    page = open_page(PAGE, run=run.id, tab="Suspected labels")
    button = next(b for b in page.button if b.key and b.key.startswith("fix_"))
    button.click()
    page.run()
    assert not page.exception
    (fix,) = Verdicts(stored.folder).pending().values()
    assert set(fix.new) ^ set(fix.old) == {found["label"][0]}
    page = open_page(PAGE, run=run.id, tab="Corrections")
    press(page, "Take it back")
    assert Verdicts(stored.folder).pending() == {}


def test_clicks_that_come_before_the_page_is_drawn_again_all_count(reviews):
    run, stored, _ = reviews
    page = open_page(PAGE, run=run.id, tab="Suspected labels")
    fixes = [b for b in page.button if b.key and b.key.startswith("fix_")]
    for button in fixes[:2]:
        button.click()
    page.run()
    assert not page.exception
    pending = Verdicts(stored.folder).pending().values()
    changed = {f"fix_{fix.id}_{label}" for fix in pending for label in set(fix.new) ^ set(fix.old)}
    assert changed == {button.key for button in fixes[:2]}


def test_a_verdict_that_the_disk_refuses_is_said(tickets, monkeypatch):
    run, stored, _ = tickets

    def full(*_):
        raise OSError(28, "No space left on device")

    page = open_page(PAGE, run=run.id, tab="Suspected labels")
    monkeypatch.setattr(Verdicts, "add", full)
    press(page, "Keep it")
    assert "No space left on device" in page.error[0].value
    assert Verdicts(stored.folder).kept() == set()


def test_data_that_is_no_data_set_can_be_kept_as_one(tickets):
    run, stored, _ = tickets
    elsewhere = Workspace.at().root / "elsewhere.csv"
    shutil.copy(stored.config.path, elsewhere)
    text = run.folder.config.read_text().replace(stored.config.path, str(elsewhere))
    run.folder.config.write_text(text)
    DatasetStore(Workspace.at()).delete(stored.name)
    page = open_page(PAGE, run=run.id)
    assert "is no data set of this workspace" in text_of(page)
    press(page, "Keep a copy as a data set")
    assert DatasetStore(Workspace.at()).open("elsewhere").confirmed
    page = open_page(PAGE, run=run.id, show="all", tab="Texts")
    assert any(b.label == "Fix this label" for b in page.button)


def test_a_run_whose_data_is_gone_is_shown_without_texts(tickets):
    run, stored, _ = tickets
    (stored.folder / "v1.csv").unlink()
    for tab in ("Texts", "Slices", "Suspected labels", "Corrections"):
        page = open_page(PAGE, run=run.id, tab=tab)
        assert not page.error
        assert any("moved or changed" in w.value for w in page.warning)


def test_a_run_of_many_labels_without_signals_still_opens(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(tmp_path))
    folder = write_run(tmp_path, labels=tuple(f"label {i}" for i in range(60)), n=2000)
    page = open_page(PAGE, run=folder.name)
    assert not page.error
    assert shown(page) > 0


def test_an_unfinished_run_points_to_its_job(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(tmp_path))
    folder = write_run(tmp_path, state="failed")
    assert "failed, so there are no results yet" in text_of(open_page(PAGE, run=folder.name))


def test_the_page_loads_neither_torch_nor_sklearn(tickets):
    run, _, _ = tickets
    code = (
        "import sys\n"
        "from tests.test_app_errors import PAGE, open_page\n"
        "for tab in ('Texts', 'Slices', 'Suspected labels', 'Corrections'):\n"
        f"    assert not open_page(PAGE, run={run.id!r}, tab=tab).error\n"
        "print(sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
