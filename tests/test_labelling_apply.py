"""From the journal to a new version, suggestions of a model, and what a training changed."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from labelfusion.cli import app
from labelfusion.config import LLMConfig, MLConfig, RunConfig
from labelfusion.data import load_dataset, make_split, read_table
from labelfusion.datasets import DatasetStore
from labelfusion.errors import InputError
from labelfusion.labelling import suggestions
from labelfusion.labelling.acquisition import in_audit
from labelfusion.labelling.apply import apply, keys_of, label_space, labels_table, readable
from labelfusion.labelling.desk import Book, Desk, Plan
from labelfusion.labelling.journal import Entry, Journal, text_hash
from labelfusion.labelling.state import replayed
from labelfusion.labelling.training import change_between, expected_gain, next_config, runs_of
from labelfusion.runs import create_run
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from scripts.screenshots import ROOT

SOURCE = pd.read_csv(ROOT / "sample_data" / "tickets.csv").head(200)
GOLD = dict(zip(SOURCE["text"], SOURCE["label"], strict=True))


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path)


def add(workspace, frame=SOURCE[["id", "text"]]):
    return DatasetStore(workspace).add("desk.csv", frame.to_csv(index=False).encode(), {})


def journal(workspace, *entries):
    Journal.of(workspace, "desk").append(entries)


def applied(workspace, stored):
    state = replayed(Journal.of(workspace, "desk").read_new())
    config = readable(stored.config, state)
    dataset = load_dataset(config)
    return apply(DatasetStore(workspace), stored, read_table(config.path), dataset, state)


def label_all(workspace, stored, count, by=None):
    """Label the next `count` texts as a person would; returns the version made."""
    book = Book(Journal.of(workspace, "desk"))
    dataset = load_dataset(readable(stored.config, book.refresh()))
    found = None
    if by:
        space = label_space(dataset, book.state)
        found = suggestions.read_suggestions(workspace, "desk", by, dataset, space)
    desk = Desk(dataset, book, Plan(audit_share=0.3), found)
    for _ in range(count):
        card = desk.next_card("ana")
        assert card is not None
        label = GOLD[dataset.texts[card.row]]
        book.write([desk.act("label", card, "ana", visible=True, labels=(label,))])
    return applied(workspace, stored).stored


def train(workspace, config):
    folder = create_run(workspace, config)
    work(folder, workspace)
    return folder.id


def test_from_unlabelled_to_a_model_that_suggests_and_is_trained_again(workspace):
    stored = add(workspace)
    journal(
        workspace, Entry("labels", "ana", declared=dict.fromkeys(sorted(set(GOLD.values())), ""))
    )
    first = label_all(workspace, stored, 60)
    before = train(workspace, next_config(first, None, "tfidf"))

    command = ["labels", "desk", "--suggest", before, "--workspace", str(workspace.root)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert suggestions.how_far(workspace, "desk", before) is None
    dataset = load_dataset(first.config)
    found = suggestions.read_suggestions(workspace, "desk", before, dataset, dataset.space)
    known = ~np.isnan(found.fused).any(axis=1)
    split = make_split(dataset, first.config, first.seed)
    assert known[~dataset.labelled].all()
    assert known[split.train].all()
    right = [GOLD[dataset.texts[i]] in found.labels(i) for i in np.flatnonzero(known)]
    assert np.mean(right) > 2 / 7

    second = label_all(workspace, first, 40, by=before)
    (run,) = runs_of(workspace, second)
    after = train(workspace, next_config(second, run, "minilm"))
    newer, older = runs_of(workspace, second)
    assert (newer.id, older.id) == (after, before)
    change = change_between(workspace, "desk", older, newer)
    tests = load_dataset(second.config).split == "test"
    assert change.texts == tests.sum()
    assert change.labels[1] > change.labels[0]
    assert set(change.table["metric"]) == {"accuracy", "macro_f1", "nll"}
    assert "the new model" in change.sentence.casefold()
    accuracy = change.table.set_index("metric").loc["accuracy"]
    assert accuracy["after"] == pytest.approx(
        newer.metrics["systems"]["fusion"]["metrics"]["accuracy"]
    )
    assert len(change.changed) == (change.changed["before"] != change.changed["after"]).sum()
    gain = expected_gain(workspace, "desk", [newer, older], 100)
    assert gain is not None
    assert gain.runs == 2
    assert gain.test_texts == tests.sum()
    assert gain.interval[0] <= gain.expected <= gain.interval[1]


def test_the_audit_alone_is_the_test_split(workspace):
    stored = add(workspace)
    journal(workspace, Entry("labels", "ana", declared=dict.fromkeys(set(GOLD.values()), "")))
    made = load_dataset(label_all(workspace, stored, 60).config)
    assert made.split is not None
    labelled = made.labelled
    drawn = in_audit([key[1] for key in keys_of(made)], 0, 0.3)
    assert ((made.split == "test") == (drawn & labelled)).all()
    assert ((made.split == "train") == (labelled & ~drawn)).all()
    assert labelled.sum() == 60


def test_labels_there_were_stay_and_so_does_their_test_split(workspace):
    frame = SOURCE.copy()
    frame.loc[100:, "label"] = ""
    stored = add(workspace, frame)
    dataset = load_dataset(stored.config)
    split = make_split(dataset, stored.config, stored.seed)
    new = dataset.ids[150]
    journal(
        workspace,
        Entry(
            "label", "ana", row=str(new), text=text_hash(dataset.texts[150]), labels=("billing",)
        ),
        Entry("label", "ana", row="gone", text="gone", labels=("billing",)),
    )
    result = applied(workspace, stored)
    after = load_dataset(result.stored.config)
    again = make_split(after, result.stored.config, stored.seed)
    assert set(after.ids[again.test]) == set(dataset.ids[split.test])
    assert set(after.ids[again.train]) == {*dataset.ids[split.train], new}
    assert (result.new, result.missing) == (1, 1)
    with pytest.raises(InputError, match="no new labels"):
        applied(workspace, result.stored)


def test_several_labels_and_none_of_them_survive_whatever_they_are_called(workspace):
    stored = add(workspace)
    names = {"a|b": "", "c;d": "", "e": "", "unused": "never given"}
    dataset_ids = SOURCE["id"].tolist()
    given = [("a|b", "c;d"), (), ("e",)] * 5
    journal(workspace, Entry("labels", "ana", declared=names, multi_label=True))
    for row, labels in zip(dataset_ids, given, strict=False):
        text = text_hash(SOURCE.set_index("id").loc[row, "text"])
        journal(workspace, Entry("label", "ana", row=row, text=text, labels=labels))
    made = load_dataset(applied(workspace, stored).stored.config)
    space = np.asarray(made.space.names, dtype=object)
    assert [tuple(sorted(space[t > 0])) for t in made.targets[:15]] == given
    assert made.labelled.sum() == 15
    assert "unused" not in made.space.names


def test_labels_in_columns_of_0_and_1(workspace):
    frame = SOURCE[["id", "text"]].head(30).copy()
    for name in ("x", "y"):
        frame[name] = ["1" if (i % 3 == 0) == (name == "x") else "0" for i in range(20)] + [""] * 10
    stored = add(workspace, frame)
    assert stored.config.label_columns == ["x", "y"]
    row = frame.iloc[25]
    entry = Entry("label", "ana", row=row["id"], text=text_hash(row["text"]), labels=("y",))
    journal(workspace, entry)
    made = load_dataset(applied(workspace, stored).stored.config)
    assert made.targets[25].tolist() == [0, 1]
    assert made.labelled.sum() == 21


def test_an_llm_suggests_without_any_model(workspace, tmp_path):
    stored = add(workspace)
    scores = ROOT / "sample_data" / "tickets_llm_scores.csv"
    names = tuple(sorted(set(GOLD.values())))
    state = replayed([Entry("labels", "ana", declared=dict.fromkeys(names, ""))])
    config = readable(stored.config, state)
    dataset = load_dataset(config)
    run = RunConfig(
        data=config,
        ml=MLConfig(encoder="none"),
        llm=[LLMConfig(provider="recorded", path=str(scores))],
    )
    chosen = suggestions.to_ask(dataset, 0, 50)
    assert set(chosen) <= set(suggestions.to_ask(dataset, 0, 80))
    suggestions.suggest_by_llm(run, workspace, "desk", dataset, dataset.space, chosen)
    found = suggestions.read_suggestions(workspace, "desk", "llm", dataset, dataset.space)
    known = ~np.isnan(found.fused).any(axis=1)
    assert np.flatnonzero(known).tolist() == chosen.tolist()
    right = [found.labels(i) == (GOLD[dataset.texts[i]],) for i in chosen]
    assert np.mean(right) > 0.8

    desk = Desk(dataset, Book(Journal.of(workspace, "desk")), Plan("margin", 0.2), found)
    card = desk.next_card("ana")
    assert card is not None
    assert known[card.row] or card.is_audit
    same = desk.alike("billing", 0.9, "ana")
    assert same
    assert all(found.labels(one.row) == ("billing",) for one in same)
    hashes = [text_hash(dataset.texts[one.row]) for one in same]
    assert not in_audit(hashes, 0, 0.2).any()


def test_suggestions_that_cannot_be_made_say_why(workspace):
    add(workspace)
    suggestions.start(workspace, "desk", "absent-run")
    deadline = time.monotonic() + 60
    making = suggestions.how_far(workspace, "desk", "absent-run")
    while making and making.state == "working" and time.monotonic() < deadline:
        time.sleep(0.2)
        making = suggestions.how_far(workspace, "desk", "absent-run")
    assert making is not None
    assert making.state == "failed"


def test_suggestions_that_are_being_made_are_not_made_twice(workspace, monkeypatch):
    add(workspace)
    launched = []
    monkeypatch.setattr(suggestions.jobs, "launch", lambda arguments, log: launched.append(log))
    for by in ("one-run", "one-run", "other-run"):
        suggestions.start(workspace, "desk", by)
    assert [log.stem for log in launched] == ["one-run", "other-run"]


def test_two_people_are_not_asked_about_one_text_at_once(workspace):
    stored = add(workspace)
    book = Book(Journal.of(workspace, "desk"))
    book.write([Entry("labels", "ana", declared={"a": "", "b": ""})])
    dataset = load_dataset(readable(stored.config, book.state))
    desk = Desk(dataset, book, Plan("random"))
    first, second = desk.next_card("ana"), desk.next_card("ben")
    assert first is not None
    assert second is not None
    assert first.row != second.row
    both = Desk(dataset, book, Plan("random", double_share=1.0))
    card = both.next_card("ana")
    assert card is not None
    book.write([both.act("label", card, "ana", visible=False, labels=("a",))])
    assert both.next_card("ben") == card
    assert both.next_card("ana") != card


def test_a_suggestion_of_the_audit_is_never_seen(workspace):
    stored = add(workspace)
    names = dict.fromkeys(sorted(set(GOLD.values())), "")
    book = Book(Journal.of(workspace, "desk"))
    book.write([Entry("labels", "ana", declared=names)])
    dataset = load_dataset(readable(stored.config, book.state))
    k = len(names)
    fused = np.full((len(dataset), k), 1 / k)
    decided = np.eye(k, dtype=bool)[np.zeros(len(dataset), dtype=int)]
    found = suggestions.Suggestions("r", dataset.space, {}, fused, decided)
    desk = Desk(dataset, book, Plan("random", audit_share=0.5), found)
    seen = {True: 0, False: 0}
    for _ in range(40):
        card = desk.next_card("ana")
        assert card is not None
        entry = desk.act("label", card, "ana", visible=True, labels=("billing",))
        assert entry.shown is not None
        assert entry.shown.hidden == card.is_audit
        seen[card.is_audit] += 1
        book.write([entry])
    assert seen == {True: 20, False: 20}
    assert len(labels_table(book.state)) == 40


def test_the_command_says_how_far_a_data_set_is_and_exports(workspace, tmp_path):
    add(workspace)
    journal(workspace, Entry("labels", "ana", declared={"a": "", "b": ""}))
    for who, label in (("ana", "a"), ("ben", "b")):
        row = SOURCE.iloc[0]
        entry = Entry("label", who, row=row["id"], text=text_hash(row["text"]), labels=(label,))
        journal(workspace, entry)
    out = tmp_path / "out.jsonl"
    command = ["labels", "desk", "--export", str(out), "--agreement"]
    result = CliRunner().invoke(app, [*command, "--workspace", str(workspace.root)])
    assert result.exit_code == 0, result.output
    assert "ana 1, ben 1" in result.output
    assert "On 1 texts people disagree" in result.output
    (row,) = pd.read_json(out, lines=True).to_dict("records")
    assert (row["labels"], row["people"], row["agreed"]) == ("b", 2, False)
    assert row["text"] == SOURCE.iloc[0]["text"]
