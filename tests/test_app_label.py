"""The Label page without a browser: from a wholly unlabelled file to labels on the disk."""

from __future__ import annotations

import pytest

from labelfusion import jobs
from labelfusion.data import load_dataset
from labelfusion.datasets import DatasetStore
from labelfusion.labelling.journal import Entry, Journal, text_hash
from labelfusion.labelling.state import replayed
from labelfusion.workspace import Workspace
from tests.test_app_pages import open_page, press, text_of

TEXTS = [f"{('refund the invoice', 'where is my parcel')[i % 2]} {i}" for i in range(40)]
CSV = ("id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS))).encode()
PAGE = "pages/label.py"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(tmp_path))
    return Workspace.at(tmp_path)


@pytest.fixture
def started(monkeypatch):
    spawned = []
    monkeypatch.setattr(jobs, "_spawn", lambda folder, workspace: spawned.append(folder.id))
    return spawned


@pytest.fixture
def desk(workspace):
    """An unlabelled data set with two labels declared."""
    stored = DatasetStore(workspace).add("desk.csv", CSV, {})
    declare(workspace, "billing", "delivery")
    return stored


def declare(workspace, *names, several=False):
    declared = dict.fromkeys(names, "")
    Journal.of(workspace, "desk").append(
        [Entry("labels", "ana", declared=declared, multi_label=several)]
    )


def state_of(workspace):
    return replayed(Journal.of(workspace, "desk").read_new())


def shown(page):
    return page.text[0].value


def test_labels_are_typed_in_and_go_to_the_config(workspace):
    DatasetStore(workspace).add("desk.csv", CSV, {})
    page = open_page(PAGE, dataset="desk")
    assert "Type your name" in text_of(page)
    page.text_input(key="who_field").input("ana").run()
    page.text_area[0].input("billing: money\n\ndelivery : parcels: all of them")
    press(page, "Start labelling")
    config = DatasetStore(workspace).open("desk").config
    assert config.labels == {"billing": "money", "delivery": "parcels: all of them"}
    assert state_of(workspace).declared == config.labels
    assert page.query_params["who"] == "ana"
    assert shown(page) in TEXTS


def test_each_press_is_on_the_disk_with_all_that_belongs_to_it(workspace, desk):
    page = open_page(PAGE, dataset="desk", who="ana")
    seen = []
    for label in ("billing", "delivery", "billing"):
        seen.append(shown(page))
        press(page, label)
    entries = Journal.of(workspace, "desk").read_new()[1:]
    assert [entry.text for entry in entries] == [text_hash(text) for text in seen]
    assert [entry.labels for entry in entries] == [("billing",), ("delivery",), ("billing",)]
    assert [entry.rank for entry in entries] == [1, 2, 3]
    assert all(entry.who == "ana" and entry.seconds is not None for entry in entries)
    assert shown(page) not in seen
    assert "3 labelled by you" in text_of(page)


def test_skip_flag_note_and_undo(workspace, desk):
    page = open_page(PAGE, dataset="desk", who="ana")
    first = shown(page)
    press(page, "Flag")
    assert shown(page) == first
    note = next(field for field in page.text_input if field.label.startswith("Note"))
    note.input("two things at once").run()
    assert "two things at once" in text_of(page)
    press(page, "Skip")
    second = shown(page)
    assert second != first
    press(page, "billing")
    press(page, "Undo")
    assert shown(page) == second
    press(page, "delivery")
    (entry,) = state_of(workspace).current().values()
    assert entry.labels == ("delivery",)
    table = state_of(workspace)
    key = next(key for key in table.touched() if table.notes(key))
    assert table.flagged(key)
    assert table.skipped(key, "ana")


def test_a_text_labelled_elsewhere_is_not_asked_about_again(workspace, desk):
    page = open_page(PAGE, dataset="desk", who="ana")
    at_hand = shown(page)
    row = TEXTS.index(at_hand)
    other = Entry("label", "ben", row=str(row), text=text_hash(at_hand), labels=("billing",))
    Journal.of(workspace, "desk").append([other])
    page.run()
    assert shown(page) != at_hand


def test_several_labels_are_toggled_and_saved(workspace):
    DatasetStore(workspace).add("desk.csv", CSV, {})
    declare(workspace, "billing", "delivery", "urgent", several=True)
    page = open_page(PAGE, dataset="desk", who="ana")
    for button in ("billing", "urgent", "billing", "delivery"):
        press(page, button)
    assert state_of(workspace).current() == {}
    press(page, "Save: delivery, urgent")
    press(page, "Save: none of them")
    given = [entry.labels for entry in state_of(workspace).current().values()]
    assert sorted(given) == [(), ("delivery", "urgent")]


def test_many_labels_are_given_by_their_first_letters(workspace):
    names = [f"{letter}-topic" for letter in "abcdefghijklmnopqrstuvwxyz"] + ["aardvark"]
    names += [f"z{i}" for i in range(12)]
    DatasetStore(workspace).add("desk.csv", CSV, {})
    declare(workspace, *names)
    page = open_page(PAGE, dataset="desk", who="ana")
    shortcuts = [b.proto.shortcut for b in page.button if b.key and b.key.startswith("give_")]
    assert len(shortcuts) == len(names)
    used = [key for key in shortcuts if key]
    assert len(used) == len(set(used)) == 30
    assert not {"c", "r", "s", "f", "u", "h"} & set(used)
    field = page.text_input(key="typed_label")
    field.input("c-")
    press(page, "Give")
    page.text_input(key="typed_label").input("a")
    press(page, "Give")
    assert "Several labels begin with" in text_of(page)
    page.text_input(key="typed_label").input("AAR")
    press(page, "Give")
    given = [entry.labels[0] for entry in state_of(workspace).current().values()]
    assert given == ["c-topic", "aardvark"]


def test_sure_suggestions_are_confirmed_together_and_taken_back(workspace, desk):
    scores = [f"{i},{'.97,.03' if 'refund' in text else '.02,.98'}" for i, text in enumerate(TEXTS)]
    content = "\n".join(["id,billing,delivery", *scores]).encode()
    store, labels = DatasetStore(workspace), {"billing": "", "delivery": ""}
    labelled = store.configure(desk, desk.config.model_copy(update={"labels": labels}))
    store.attach_scores(labelled, "scores.csv", content, "probabilities")
    page = open_page(PAGE, dataset="desk", who="ana", tab="Suggestions")
    press(page, "Use the attached LLM scores")
    page = open_page(PAGE, dataset="desk", who="ana", tab="Confirm many")
    button = next(b for b in page.button if b.label.startswith("Confirm billing for"))
    press(page, button.label)
    given = state_of(workspace).current()
    assert button.label == f"Confirm billing for {len(given)} texts"
    rows = {TEXTS[int(entry.row)] for entry in given.values()}
    assert {entry.labels for entry in given.values()} == {("billing",)}
    assert len(rows) > 10
    assert all("refund" in text for text in rows)
    page = open_page(PAGE, dataset="desk", who="ana")
    press(page, "Undo")
    assert state_of(workspace).current() == {}


def test_labels_become_a_new_version_that_is_trained_on(workspace, desk, started):
    page = open_page(PAGE, dataset="desk", who="ana")
    for _ in range(30):
        press(page, ("billing", "delivery")[int(shown(page).split()[-1]) % 2])
    page = open_page(PAGE, dataset="desk", who="ana", tab="Train again")
    assert "known once a run" in text_of(page)
    page.radio[0].set_value("tfidf").run()
    press(page, "Train with 30 new labels")
    assert not page.error, page.error
    stored = DatasetStore(workspace).open("desk")
    assert stored.current == 2
    assert (stored.folder / "v1.csv").read_bytes() == CSV
    dataset = load_dataset(stored.config)
    assert dataset.labelled.sum() == 30
    assert dataset.split is not None
    test = dataset.split == "test"
    audited = {e.row for e in state_of(workspace).current().values() if e.strategy == "audit"}
    assert set(dataset.ids[test]) == audited
    assert len(audited) >= 4
    assert len(started) == 1
    assert "queued" in text_of(page)


def test_labels_of_a_spreadsheet_formula_are_harmless_in_the_export(workspace):
    evil = "=HYPERLINK(1)"
    csv = b"id,text\n" + b"".join(b'%d,"%s %d"\n' % (i, evil.encode(), i) for i in range(20))
    DatasetStore(workspace).add("desk.csv", csv, {})
    declare(workspace, "+a", "b")
    press(open_page(PAGE, dataset="desk", who="=ana"), "+a")
    from typer.testing import CliRunner

    from labelfusion.cli import app

    out = workspace.root / "labels.csv"
    result = CliRunner().invoke(
        app, ["labels", "desk", "--export", str(out), "--workspace", str(workspace.root)]
    )
    assert result.exit_code == 0, result.output
    cells = out.read_text("utf-8").splitlines()[1].split('","')
    assert not [c for c in cells if c.lstrip('"').startswith(("=", "+", "-", "@"))]
