"""Review of real runs: rows, neighbours, verdicts, corrected versions, and training on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from labelfusion.config import DataConfig
from labelfusion.data import load_dataset, make_split, read_table
from labelfusion.data.labels import label_cells, read_labels
from labelfusion.datasets import DatasetStore, with_labels
from labelfusion.encoders import embeddings
from labelfusion.errors import InputError, RunError
from labelfusion.review import label_issues, nearest, neighbours, review_rows
from labelfusion.review.corrections import SPLIT_COLUMN, matched, save_corrections, train_again
from labelfusion.review.rows import split_names
from labelfusion.review.verdicts import Verdict, Verdicts, text_digest
from labelfusion.workspace import Workspace
from tests.review_run import reviews_run, tickets_run


@pytest.fixture(scope="module")
def tickets(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    return Workspace.at(root), *tickets_run(Workspace.at(root), root / "files")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    return Workspace.at(root), *reviews_run(Workspace.at(root), root / "files")


@pytest.fixture
def fresh(tickets, tmp_path):
    """The tickets' data set in a workspace of its own, so that a test may add versions."""
    _, run, stored = tickets
    store = DatasetStore(Workspace.at(tmp_path))
    return store, run, store.adopt(stored.config, 0), load_dataset(run.config.data)


def fix(run, dataset, at, new):
    old = tuple(np.array(dataset.space.names)[dataset.targets[at].astype(bool)])
    text = text_digest(dataset.texts[at])
    return Verdict(str(dataset.ids[at]), text, "fix", old, new, "ada", run.id)


@pytest.mark.parametrize("name", ["tickets", "reviews"])
def test_rows_say_what_the_run_measured(name, request):
    _, run, _ = request.getfixturevalue(name)
    rows = review_rows(run, load_dataset(run.config.data))
    test = rows.split == "test"
    systems = run.metrics["systems"]
    assert rows.right[test].mean() == pytest.approx(systems["fusion"]["metrics"]["accuracy"])
    for source in ("ml", "llm"):
        right = rows.verdicts(source)[test] == "right"
        assert right.mean() == pytest.approx(systems[source]["metrics"]["accuracy"])
    assert set(rows.metadata.columns) == set()
    assert len(rows.texts) == len(rows.ids) == 160


def test_rows_without_the_data_have_no_texts_and_other_data_is_refused(tickets):
    _, run, _ = tickets
    assert review_rows(run).texts is None
    other = load_dataset(run.config.data).take(np.arange(5))
    with pytest.raises(RunError, match="does not hold a row"):
        review_rows(run, other)
    with pytest.raises(InputError, match="not at hand"):
        nearest(run, review_rows(run), ["x"])


def test_names_with_the_separator_in_them_are_told_apart():
    names = ("a", "b|c", "b", "a|b")
    assert split_names("b|c|a|b", names) in {("b|c", "a|b"), ("b|c", "a", "b")}
    assert split_names("", names) == ()
    with pytest.raises(RunError, match="does not know"):
        split_names("b|x", names)


def test_the_nearest_training_text_of_a_text_is_the_like_one(tickets):
    workspace, run, _ = tickets
    rows = review_rows(run, load_dataset(run.config.data))
    at = int(np.flatnonzero(rows.split == "train")[3])
    found = nearest(run, rows, [rows.texts[at]], 3, workspace.cache)[0]
    assert found["id"][0] == rows.ids[at]
    assert found["similarity"][0] == pytest.approx(1.0)
    near = neighbours(run, rows, workspace.cache)
    assert near.way == "shared words"
    others = near.of(at, 4)
    assert rows.ids[at] not in set(others["id"])
    assert others["similarity"].is_monotonic_decreasing
    assert set(others["id"]) <= set(rows.ids[rows.split == "train"])


def test_kept_embeddings_are_used_and_no_network_is_loaded(tickets, monkeypatch):
    workspace, run, _ = tickets
    rows = review_rows(run, load_dataset(run.config.data))
    config = run.config.model_copy(deep=True)
    config.ml.encoder = "minilm"
    monkeypatch.setattr(run, "config", config)
    embedder = embeddings.shared_embedder(
        "minilm", max_tokens=256, batch_size=32, device="auto", cache_dir=workspace.cache
    )
    assert neighbours(run, rows, workspace.cache).way == "shared words"
    first, second = (int(i) for i in np.flatnonzero(rows.split == "train")[:2])
    vectors = np.eye(len(rows), 200, dtype=np.float32)
    vectors[second] = vectors[first]
    stored = {embedder._key(t): v.tobytes() for t, v in zip(rows.texts, vectors, strict=True)}
    embedder._cache.put_many(stored)
    near = neighbours(run, rows, workspace.cache)
    assert near.way == "embeddings of minilm"
    assert near.of(first, 1)["id"][0] == rows.ids[second]
    assert embedder.forwarded == 0


def test_verdicts_gather_and_the_last_one_on_a_text_counts(fresh):
    _, run, stored, dataset = fresh
    journal = Verdicts(stored.folder)
    first = fix(run, dataset, 0, ("billing",))
    journal.add(first)
    journal.add(fix(run, dataset, 1, ("returns",)))
    journal.add(replace(first, new=("returns",)))
    with journal.path.open("ab") as file:
        file.write(b'{"id": "torn')
    journal.add(replace(fix(run, dataset, 1, ()), action="withdraw"))
    assert [v.new for v in journal.pending().values()] == [("returns",)]
    journal.add(replace(first, action="keep", label="billing"))
    key = (first.id, first.text, first.old, "billing")
    assert journal.kept() == {key}
    assert journal.all()[0].who == "ada"
    assert journal.all()[0].time
    with pytest.raises(InputError, match="Nobody is named"):
        journal.add(replace(first, who=" "))


def test_a_correction_made_while_another_of_the_text_is_saved_still_waits(fresh):
    _, run, stored, dataset = fresh
    journal = Verdicts(stored.folder)
    first = fix(run, dataset, 0, ("billing",))
    journal.add(first)
    journal.add(replace(first, new=("returns",)))
    journal.saved([first], 2, "ada")
    assert [v.new for v in journal.pending().values()] == [("returns",)]
    journal.saved(journal.pending().values(), 3, "ada")
    assert journal.pending() == {}


def test_corrections_make_a_version_and_change_nothing_else(fresh):
    store, run, stored, dataset = fresh
    before = (stored.folder / "v1.csv").read_bytes()
    journal = Verdicts(stored.folder)
    with pytest.raises(InputError, match="no correction"):
        save_corrections(store, stored, run, dataset, "ada")
    journal.add(fix(run, dataset, 3, ("billing",)))
    journal.add(fix(run, dataset, 8, ("returns",)))
    added = save_corrections(store, stored, run, dataset, "bo")
    assert added.current == 2
    assert (stored.folder / "v1.csv").read_bytes() == before
    now = load_dataset(added.config)
    assert now.texts == dataset.texts
    changed = np.flatnonzero((now.targets != dataset.targets).any(axis=1))
    assert changed.tolist() == [3, 8]
    assert now.targets[3, now.space.index("billing")] == 1
    assert journal.pending() == {}
    assert {(v.who, v.version) for v in journal.all() if v.action == "saved"} == {("bo", 2)}


def test_training_again_keeps_the_test_texts_and_the_configuration(fresh):
    store, run, stored, dataset = fresh
    at_train = int(make_split(dataset, run.config.data, run.config.seed).train[0])
    at_test = int(make_split(dataset, run.config.data, run.config.seed).test[0])
    journal = Verdicts(stored.folder)
    for at in (at_train, at_test):
        now = dataset.targets[at].argmax()
        journal.add(fix(run, dataset, at, (dataset.space.names[now - 1],)))
    again = train_again(save_corrections(store, stored, run, dataset, "bo"), run, dataset)
    old = run.splits.set_index("id")["split"]
    now = load_dataset(again.config.data)
    split = make_split(now, again.config.data, again.config.seed)
    assert set(now.ids[split.test]) == set(old.index[old == "test"])
    assert set(now.ids[split.train]) == set(old.index[old == "train"])
    assert (again.changed_train, again.changed_test) == (1, 1)
    assert again.kept_test == again.old_test == (old == "test").sum()
    assert again.config.ml == run.config.ml
    assert again.config.seed == run.config.seed


def test_a_version_that_does_not_know_the_split_is_not_trained_on(fresh):
    store, run, stored, dataset = fresh
    other = store.add_version(stored, read_table(stored.config.path).frame, "the same")
    with pytest.raises(InputError, match="does not say which texts"):
        train_again(other, run, dataset)


def test_rows_that_have_moved_are_found_by_their_text(fresh):
    store, run, stored, dataset = fresh
    Verdicts(stored.folder).add(fix(run, dataset, 9, ("billing",)))
    frame = read_table(stored.config.path).frame.iloc[5:]
    frame = frame.assign(id=[f"new{i}" for i in range(len(frame))])
    shorter = store.add_version(stored, frame, "shorter")
    added = save_corrections(store, shorter, run, dataset, "ada")
    now = load_dataset(added.config)
    assert now.targets[4, now.space.index("billing")] == 1
    assert matched(now, dataset).tolist() == list(range(5, 160))
    kept = train_again(added, run, dataset)
    assert kept.kept_test == (run.splits["split"][5:] == "test").sum()
    Verdicts(stored.folder).add(fix(run, dataset, 2, ("billing",)))
    with pytest.raises(InputError, match="not in the current version"):
        save_corrections(store, added, run, dataset, "ada")
    assert store.open(stored.name).current == 3


def test_the_last_text_of_a_label_stays(fresh):
    store, run, stored, dataset = fresh
    journal = Verdicts(stored.folder)
    for at in np.flatnonzero(dataset.targets[:, 0]):
        journal.add(fix(run, dataset, at, (dataset.space.names[1],)))
    with pytest.raises(InputError, match="left with a label"):
        save_corrections(store, stored, run, dataset, "ada")
    assert len(journal.pending()) == dataset.targets[:, 0].sum()


def test_several_labels_are_corrected_in_their_columns(reviews, tmp_path):
    _, run, stored = reviews
    store = DatasetStore(Workspace.at(tmp_path))
    stored = store.adopt(stored.config, 0)
    dataset = load_dataset(run.config.data)
    Verdicts(stored.folder).add(fix(run, dataset, 0, ("comfort", "value")))
    Verdicts(stored.folder).add(fix(run, dataset, 1, ()))
    now = load_dataset(save_corrections(store, stored, run, dataset, "ada").config)
    assert now.targets[0].tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert now.targets[1].sum() == 0
    assert now.labelled.all()
    assert SPLIT_COLUMN in now.metadata


def test_issues_of_a_run_name_each_source(reviews):
    _, run, _ = reviews
    found = label_issues(review_rows(run, load_dataset(run.config.data)))
    assert {"ml", "llm", "p_ml", "p_llm", "suggested", "text"} <= set(found.columns)
    assert (found["margin"] < 0).all()


@pytest.mark.parametrize(
    ("layout", "cells"),
    [
        ({"label_column": "label", "label_delimiter": ";"}, ["a;b", "b", ";", ""]),
        ({"label_columns": ["a", "b"], "multi_label": True}, None),
    ],
)
def test_label_cells_are_read_as_what_was_written(layout, cells, tmp_path):
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"text": list("wxyz")})
    if cells:
        frame["label"] = cells
    else:
        frame["a"], frame["b"] = [1, 0, 0, 0], [1, 1, 0, 0]
    frame.to_csv(path, index=False)
    config = DataConfig(path=str(path), **layout)
    table = read_table(path)
    changed = with_labels(table, config, {2: [], 3: ["a", "b"], 4: ["a"]})
    changed.to_csv(path, index=False)
    _, targets, labelled = read_labels(read_table(path), config)
    assert targets[:3].tolist() == [[0, 0], [1, 1], [1, 0]]
    assert labelled[:3].all()
    with pytest.raises(InputError, match="no such row"):
        with_labels(table, config, {99: ["a"]})
    with pytest.raises(InputError, match="Unknown label"):
        with_labels(table, config, {2: ["c"]})


def test_exactly_one_label_where_a_text_has_one(tickets):
    _, run, _ = tickets
    dataset = load_dataset(run.config.data)
    with pytest.raises(InputError, match="exactly one"):
        label_cells(["billing", "returns"], dataset.space, run.config.data)


def test_a_run_of_no_data_set_can_be_adopted(tickets, tmp_path):
    _, run, stored = tickets
    store = DatasetStore(Workspace.at(tmp_path))
    digest = run.status.data["sha256"]
    assert store.holding(run.config.data.path, digest) is None
    adopted = store.adopt(run.config.data, run.config.seed)
    assert store.holding(run.config.data.path, digest) == adopted
    assert adopted.confirmed
    assert load_dataset(adopted.config).texts == load_dataset(stored.config).texts
    with pytest.raises(InputError, match="cannot be copied"):
        store.adopt(run.config.data.model_copy(update={"path": str(tmp_path / "gone.csv")}), 0)
