"""The workspace's data sets: versions, settings and attached scores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from labelfusion.data import find_problems, load_dataset, read_table
from labelfusion.datasets import DatasetStore, without_rows
from labelfusion.errors import InputError
from labelfusion.workspace import Workspace

CSV = b"id,text,label\n1,one,a\n2,two,b\n3,three,a\n4,,b\n5,one,a\n"


@pytest.fixture
def store(tmp_path):
    return DatasetStore(Workspace.at(tmp_path))


def test_an_upload_is_kept_byte_by_byte_and_its_layout_guessed(store):
    stored = store.add("My Tickets (2).csv", CSV, {})
    assert stored.name == "my-tickets-2"
    assert (stored.folder / "v1.csv").read_bytes() == CSV
    assert stored.config.label_column == "label"
    assert not stored.confirmed
    assert store.open(stored.name) == stored
    assert store.add("My Tickets (2).csv", CSV, {}).name == "my-tickets-2-2"


def test_a_file_that_cannot_be_read_leaves_nothing_behind(store):
    with pytest.raises(InputError):
        store.add("bad.csv", b"%PDF-1.7 no table", {})
    assert store.list() == []
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "absent"])
def test_only_a_data_set_of_the_workspace_opens(store, name):
    with pytest.raises(InputError, match="There is no data set"):
        store.open(name)


def test_a_mended_version_is_new_and_the_old_one_stays(store):
    stored = store.add("t.csv", CSV, {"encoding": "utf-8"})
    finding = next(f for f in find_problems(load_dataset(stored.config)) if f.kind == "empty_text")
    table = read_table(stored.config.path)
    mended = store.add_version(stored, without_rows(table, finding.rows), "without empty texts")
    assert mended.current == 2
    assert mended.config.encoding is None
    assert load_dataset(mended.config).ids.tolist() == ["1", "2", "3", "5"]
    back = store.use_version(mended, 1)
    assert back.config.encoding == "utf-8"
    assert (back.folder / "v1.csv").read_bytes() == CSV
    assert len(store.open("t").versions) == 2


def test_settings_that_do_not_fit_the_file_are_not_kept(store):
    stored = store.add("t.csv", CSV, {})
    wrong = stored.config.model_copy(update={"label_column": "absent"})
    with pytest.raises(InputError, match="absent"):
        store.configure(stored, wrong)
    assert store.open("t") == stored


def test_a_moved_workspace_still_opens(store, tmp_path):
    store.add("t.csv", CSV, {})
    store.folder.rename(tmp_path / "elsewhere")
    moved = DatasetStore(Workspace.at(tmp_path))
    moved.folder = tmp_path / "elsewhere"
    assert len(load_dataset(moved.open("t").config)) == 5


def test_the_sample_is_copied_once_with_its_scores(store):
    stored = store.add_sample("tickets")
    assert store.add_sample("tickets") == stored
    assert (stored.scores.covered, stored.scores.total) == (460, 460)
    assert stored.scores_config().provider == "recorded"


def test_the_sample_asked_for_by_several_at_once_is_one_with_its_scores(store):
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(store.add_sample, ["tickets"] * 3))
    assert made[0] == made[1] == made[2]
    assert made[0].scores is not None
    assert [one.name for one in store.list()] == ["tickets"]


def test_somebodys_own_data_of_the_same_name_is_not_the_sample(store):
    own = store.add("tickets.csv", CSV, {})
    sample = store.add_sample("tickets")
    assert (own.name, sample.name) == ("tickets", "tickets-2")
    assert store.open("tickets") == own


def test_a_change_of_what_has_changed_meanwhile_is_refused_and_the_same_one_made_once(store):
    stored = store.add("t.csv", CSV, {})
    frame = read_table(stored.config.path).frame
    first = store.add_version(stored, frame.iloc[:3], "the first three")
    assert store.add_version(stored, frame.iloc[:3], "the first three") == first
    kept = (stored.folder / "v2.csv").read_bytes()
    renamed = stored.config.model_copy(update={"id_column": None})
    for change in (
        lambda: store.add_version(stored, frame.iloc[:2], "the first two"),
        lambda: store.configure(stored, renamed),
        lambda: store.attach_scores(stored, "s.csv", b"id,a,b\n1,.9,.1\n", "probabilities"),
    ):
        with pytest.raises(InputError, match=r"changed meanwhile.*version 2"):
            change()
    assert (stored.folder / "v2.csv").read_bytes() == kept
    assert store.open("t") == first
    configured = store.configure(first, first.config.model_copy(update={"id_column": None}))
    assert store.configure(first, configured.config) == configured


def test_scores_attached_again_as_what_they_are_not_stay_attached(store):
    stored = store.add("t.csv", CSV, {})
    content = b"id,a,b\n1,.9,.1\n"
    attached = store.attach_scores(stored, "s.csv", content, "probabilities")
    with pytest.raises(InputError):
        store.attach_scores(attached, "s.csv", content, "hard")
    assert (attached.folder / attached.scores.file).read_bytes() == content


def test_scores_are_checked_and_their_coverage_counted(store):
    stored = store.add("t.csv", CSV, {})
    attached = store.attach_scores(stored, "s.csv", b"id,a,b\n1,.9,.1\n3,.8,.2\n", "probabilities")
    assert (attached.scores.covered, attached.scores.total) == (2, 5)
    for content, complaint in ((b"id,a\n1,.9\n", "lack a column"), (b"id,a,b\n9,1,0\n", "No row")):
        with pytest.raises(InputError, match=complaint):
            store.attach_scores(attached, "s.csv", content, "probabilities")
    assert store.open("t") == attached


def test_scores_that_no_longer_fit_are_detached_but_kept_on_disk(store):
    stored = store.add("t.csv", CSV, {})
    attached = store.attach_scores(stored, "s.csv", b"id,a,b\n1,.9,.1\n", "probabilities")
    other = attached.config.model_copy(update={"label_column": "text"})
    changed = store.configure(attached, other.model_copy(update={"text_columns": ["label"]}))
    assert changed.scores is None
    assert (stored.folder / attached.scores.file).is_file()
