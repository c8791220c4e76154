"""Recorded scores: what is read, what is missing, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelfusion.config import LLMConfig
from labelfusion.errors import InputError
from labelfusion.llm import ScoringContext, score_rows
from labelfusion.types import LabelSpace, Rows

SPACE = LabelSpace(("red", "green", "blue"), multi_label=False)
SAMPLES = Path(__file__).parent.parent / "sample_data"


def read(path: Path, ids, texts=None, space=SPACE, context=None, **settings):
    entry = LLMConfig(provider="recorded", path=str(path), **settings)
    return score_rows(entry, Rows(ids, texts or ["t"] * len(ids)), space, context=context)


def write(folder: Path, content: str, name: str = "scores.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_scores_follow_rows_and_labels_by_name(tmp_path):
    path = write(tmp_path, "blue,id,red,green\n.1,007,.7,.2\n.6,b,.1,.3\n")
    signal = read(path, ["b", "absent", "007"])
    assert signal.present.tolist() == [True, False, True]
    np.testing.assert_allclose(signal.scores[[0, 2]], [[0.1, 0.3, 0.6], [0.7, 0.2, 0.1]])
    assert np.isnan(signal.scores[1]).all()
    assert signal.kind == "probabilities"
    assert "scores.csv" in signal.origin


@pytest.mark.parametrize("prefix", ["", "p_", "llm_", "gpt_"])
def test_prefixes(tmp_path, prefix):
    header = ",".join(prefix + name for name in SPACE.names)
    signal = read(write(tmp_path, f"id,{header}\na,1,0,0\n"), ["a"], name="gpt")
    assert signal.source == "gpt"
    assert signal.scores.tolist() == [[1, 0, 0]]


def test_prefixed_scores_win_over_bare_label_columns(tmp_path):
    path = write(tmp_path, "id,red,green,blue,llm_red,llm_green,llm_blue\na,1,0,0,.2,.3,.5\n")
    assert read(path, ["a"]).scores.tolist() == [[0.2, 0.3, 0.5]]


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_other_formats(tmp_path, suffix):
    frame = pd.DataFrame({"id": ["01", "02"], "red": [0.5, None], "green": 0.25, "blue": 0.25})
    frame.loc[1, ["green", "blue"]] = None
    path = tmp_path / f"scores.{suffix}"
    if suffix == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif suffix == "jsonl":
        path.write_text(
            "\n".join(json.dumps(r) for r in json.loads(frame.to_json(orient="records")))
        )
    else:
        frame.to_parquet(path)
    signal = read(path, ["02", "01"])
    assert signal.present.tolist() == [False, True]
    assert signal.scores[1].tolist() == [0.5, 0.25, 0.25]


def test_by_text_where_ids_do_not_match(tmp_path):
    path = write(tmp_path, 'text,red,green,blue\n"a, b",1,0,0\nc,0,1,0\n')
    signal = read(path, ["1", "2"], ["c", "a, b"])
    assert signal.scores.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_id_column_of_the_data_is_understood(tmp_path):
    path = write(tmp_path, "ticket,red,green,blue\nT1,1,0,0\n")
    context = ScoringContext(id_columns=("ticket", "id"))
    assert read(path, ["T1"], context=context).coverage == 1


def test_equal_repeats_are_fine(tmp_path):
    path = write(tmp_path, "id,red,green,blue\na,1,0,0\na,1,0,0\n")
    assert read(path, ["a"]).scores.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        ("id,red,green\na,1,0\n", {}, ["blue", "1 of 3 labels", "scores.csv"]),
        ("id,red,green,blue\na,1,0,0\nb,x,0,0\n", {}, ["row 3", "'red'", "'x'", "0 to 1"]),
        ("id,red,green,blue\na,1.2,0,0\n", {}, ["row 2", "'1.2'", "kind"]),
        ("id,red,green,blue\na,.4,0,0\n", {"kind": "hard"}, ["row 2", "0 or 1"]),
        ("id,red,green,blue\na,inf,0,0\n", {"kind": "logits"}, ["row 2", "finite"]),
        ("id,red,green,blue\na,1,,0\n", {}, ["row 2", "'green'", "empty cell"]),
        ("id,red,green,blue\na,1,0,0\na,0,1,0\n", {}, ["row 3", "'a'", "row 2"]),
        ("id,red,green,blue\nz,1,0,0\n", {}, ["No row", "'a'", "'z'"]),
        ("name,red,green,blue\na,1,0,0\n", {}, ["neither an id nor a text", "name"]),
        ("id,text,red,green,blue\na,other,1,0,0\n", {}, ["another text", "'other'"]),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path, content, settings, words):
    with pytest.raises(InputError) as error:
        read(write(tmp_path, content), ["a"], **settings)
    for word in words:
        assert word in str(error.value)


def test_blank_lines_keep_their_row_numbers(tmp_path):
    path = write(tmp_path, "id,red,green,blue\n\na,1,0,0\nb,9,0,0\n")
    with pytest.raises(InputError, match="row 4"):
        read(path, ["a"])


def test_no_rows_are_no_error(tmp_path):
    assert read(write(tmp_path, "id,red,green,blue\na,1,0,0\n"), []).scores.shape == (0, 3)


def test_absent_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        read(tmp_path / "nowhere.csv", ["a"])


def test_sample_tickets():
    frame = pd.read_csv(SAMPLES / "tickets.csv", dtype=str, keep_default_na=False)
    space = LabelSpace(tuple(sorted(set(frame["label"]))), multi_label=False)
    signal = read(SAMPLES / "tickets_llm_scores.csv", list(frame["id"]), list(frame["text"]), space)
    gold = np.array([space.index(label) for label in frame["label"]])
    assert signal.coverage == 1
    assert (signal.scores.argmax(axis=1) == gold).mean() == pytest.approx(0.924, abs=0.001)
