"""The journal: nothing acknowledged is lost, whoever writes and wherever a process dies."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.errors import InputError
from labelfusion.labelling.journal import Entry, Journal, Shown, text_hash
from labelfusion.labelling.state import match_rows, replayed

ROOT = Path(__file__).parent.parent
WORDS = st.text(max_size=12)
SHOWN = st.none() | st.builds(
    Shown, st.lists(WORDS, max_size=2).map(tuple), st.floats(0, 1), WORDS, st.booleans()
)
ENTRIES = st.builds(
    Entry,
    act=st.sampled_from(["label", "skip", "flag", "note"]),
    who=WORDS,
    row=WORDS,
    text=WORDS,
    labels=st.lists(WORDS, max_size=3).map(tuple),
    note=st.text(max_size=30),
    shown=SHOWN,
    earlier=st.none() | st.lists(WORDS, max_size=2).map(tuple),
    rank=st.none() | st.integers(0, 9),
    seconds=st.none() | st.floats(0, 100),
)


def label(row: str, *names: str, who: str = "ana", **more) -> Entry:
    return Entry("label", who, row=row, text=text_hash(row), labels=names, **more)


@given(st.lists(ENTRIES, max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_back(tmp_path_factory, entries):
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.jsonl")
    for entry in entries:
        journal.append([entry])
    assert journal.read_new() == entries
    assert journal.read_new() == []
    assert journal.damaged == []


@given(st.lists(ENTRIES, min_size=1, max_size=4), st.data())
@settings(max_examples=80, deadline=None)
def test_a_kill_at_any_byte_loses_nothing_acknowledged(tmp_path_factory, entries, data):
    """The last line is cut anywhere, as a kill would; the others were acknowledged before."""
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    Journal(path).append(entries)
    whole = path.read_bytes()
    last = entries[-1].to_line()
    cut = data.draw(st.integers(0, len(last) - 1), label="bytes of the last line")
    path.write_bytes(whole[: len(whole) - len(last) + cut])

    after = label("after", "a")
    journal = Journal(path)
    survived = journal.read_new()
    assert survived == entries[:-1]
    journal.append([after])
    # What is complete but for its end was never acknowledged; it may be kept, never garbled.
    complete = cut == len(last) - 1
    assert journal.read_new() == ([entries[-1]] if complete else []) + [after]
    assert len(journal.damaged) == (0 if complete or cut == 0 else 1)
    assert path.read_bytes().startswith(whole[: len(whole) - len(last) + cut])
    assert Journal(path).read_new() == survived + ([entries[-1]] if complete else []) + [after]


WRITER = """
import sys
from pathlib import Path
from labelfusion.labelling.journal import Entry, Journal
journal = Journal(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    journal.append([Entry("label", sys.argv[2], row=f"{sys.argv[2]}-{i}", labels=("a",))])
    print(i, flush=True)
"""


def test_writers_at_once_lose_and_mix_nothing(tmp_path):
    path = tmp_path / "journal.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, f"w{n}", "40"], cwd=ROOT)
        for n in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    journal = Journal(path)
    rows = [entry.row for entry in journal.read_new()]
    assert sorted(rows) == sorted(f"w{n}-{i}" for n in range(3) for i in range(40))
    assert journal.damaged == []


def test_a_killed_writer_has_kept_what_it_acknowledged(tmp_path):
    path = tmp_path / "journal.jsonl"
    command = [sys.executable, "-c", WRITER, path, "w", "100000"]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer:
        acknowledged = [int(next(writer.stdout)) for _ in range(30)]
        writer.kill()
    rows = [entry.row for entry in Journal(path).read_new()]
    assert rows[:30] == [f"w-{i}" for i in acknowledged]
    assert len(set(rows)) == len(rows)


def test_a_line_that_is_no_entry_is_set_aside_and_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).append([label("r1", "a")])
    with path.open("ab") as file:
        file.write(b"\xff\x00 not json\n[1, 2]\n" + b'{"format": 1, "act": "label"}\n')
    Journal(path).append([label("r2", "b")])
    journal = Journal(path)
    assert [entry.row for entry in journal.read_new()] == ["r1", "r2"]
    assert [damaged.line for damaged in journal.damaged] == [2, 3, 4]


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"format": 99, "act": "label", "who": "ana"}\n')
    with pytest.raises(InputError, match="newer"):
        Journal(path).read_new()


def test_undo_takes_back_the_persons_own_last_act_and_a_group_at_once():
    first, other = label("r1", "a"), label("r1", "b", who="ben")
    bulk = [label(row, "c", group="g") for row in ("r2", "r3")]
    state = replayed([first, other, *bulk])
    assert state.current()["r1", text_hash("r1")].labels == ("b",)
    last = state.last_act("ana")
    assert last is not None
    state.add([Entry("undo", "ana", undoes=last.group or last.id)])
    assert len(state.current()) == 1
    assert state.last_act("ana") == first
    state.add([Entry("undo", "ana", undoes=first.id)])
    assert state.last_act("ana") is None
    assert [entry.who for entry in state.current().values()] == ["ben"]


def test_the_same_entry_twice_counts_once():
    entry = label("r1", "a")
    state = replayed([entry, entry])
    assert len(state.acts(("r1", text_hash("r1")))) == 1


def test_skip_flag_note_and_conflict():
    key = ("r1", text_hash("r1"))
    act = Entry("skip", "ana", row=key[0], text=key[1])
    state = replayed([act, replace(act, act="flag", id="f1"), replace(act, act="note", note="n")])
    assert state.is_done(key, "ana")
    assert not state.is_done(key, "ben")
    assert state.skipped(key, "ana")
    state.add([replace(act, act="flag", id="f2"), label("r1", "a"), label("r1", "b", who="ben")])
    assert not state.flagged(key)
    assert not state.skipped(key, "ana")
    assert state.conflicts() == [key]
    assert state.is_done(key, "eve", wanted=2)
    assert not state.is_done(key, "eve", wanted=3)


def test_rows_that_were_renumbered_are_found_by_their_text():
    rows = {("row-2", "t1"): 0, ("row-3", "t2"): 1, ("row-4", "t1"): 2}
    keys = [("row-2", "t1"), ("row-9", "t2"), ("row-8", "gone")]
    assert match_rows(keys, rows) == {keys[0]: [0], keys[1]: [1]}
    assert match_rows([("row-9", "t1")], rows) == {("row-9", "t1"): [0, 2]}
