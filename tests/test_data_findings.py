"""Each problem of the data is found, with its rows, and clean data has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from labelfusion.config import DataConfig
from labelfusion.data import (
    Finding,
    dataset_from_arrays,
    dataset_from_table,
    find_problems,
    load_dataset,
    make_split,
    read_table,
)
from labelfusion.types import Split

SAMPLES = Path(__file__).parent.parent / "sample_data"


def problems(texts: list[str], labels: list[str | None], **settings) -> dict[str, Finding]:
    found = find_problems(dataset_from_arrays(texts, labels, config=DataConfig(**settings)))
    return {finding.kind: finding for finding in found}


def clean(n: int = 20) -> tuple[list[str], list[str | None]]:
    return [f"A fine text number {i}" for i in range(n)], ["ab"[i % 2] for i in range(n)]


def test_clean_data_has_no_findings() -> None:
    assert problems(*clean()) == {}


def test_sample_tickets_have_no_errors() -> None:
    config = DataConfig(path=str(SAMPLES / "tickets.csv"), id_column="id", label_column="label")
    data = load_dataset(config)
    found = find_problems(data, make_split(data, config, 0))
    assert [finding for finding in found if finding.severity == "error"] == []


def test_empty_texts_and_unlabelled_rows() -> None:
    texts, labels = clean()
    found = problems([*texts, " ", "Not labelled yet"], [*labels, "a", None])
    assert found["empty_text"].rows == (21,)
    assert found["unlabelled"].rows == (22,)
    assert found["unlabelled"].severity == "info"


def test_duplicates_by_case_and_spaces() -> None:
    texts, labels = clean()
    found = problems([*texts, "a FINE  text\nnumber 0 "], [*labels, "a"])
    assert found["duplicate_text"].rows == (21,)
    assert "conflicting_labels" not in found


def test_same_text_with_different_labels() -> None:
    texts, labels = clean()
    found = problems([*texts, "a fine text number 0", "A fine text number 1"], [*labels, "b", None])
    assert found["conflicting_labels"].rows == (1, 21)
    assert "1 text occurs" in found["conflicting_labels"].message


def test_rare_labels_and_labels_without_example() -> None:
    texts, labels = clean()
    found = problems([*texts, "Once only"], [*labels, "rare"])
    assert found["rare_label"].severity == "error"
    assert found["rare_label"].rows == (21,)
    assert "'rare' has one example" in found["rare_label"].message
    found = problems([*texts, "Once", "Twice"], [*labels, "rare", "rare"])
    assert found["rare_label"].severity == "warning"
    targets = np.array([[i % 2, 1 - i % 2, 0] for i in range(20)])
    data = dataset_from_arrays(texts, targets, config=DataConfig(label_columns=["a", "b", "c"]))
    kinds = {finding.kind: finding for finding in find_problems(data)}
    assert "'c'" in kinds["label_without_example"].message


def test_one_label_only() -> None:
    texts, _ = clean()
    assert problems(texts, ["a"] * 20)["single_label"].severity == "error"


def test_similar_label_names() -> None:
    texts, labels = clean(40)
    found = problems([*texts, "Another"], [*labels, "A"])
    assert "'A', 'a'" in found["similar_labels"].message
    assert found["similar_labels"].rows == (41,)


def test_lengths_and_texts_without_words() -> None:
    texts, labels = clean()
    extra = ["word " * 300, "word " * 5000, "12-34 !", "x", "好", "no"]
    found = problems([*texts, *extra], [*labels, *"ababab"])
    assert found["long_text"].rows == (21,)
    assert found["very_long_text"].rows == (22,)
    assert found["not_text"].rows == (23, 24)


def test_leakage_between_own_split_or_given_split() -> None:
    rows = "text,label,split\nSame text,a,train\nOther,b,train\nsame  TEXT,a,test\nNew,b,test\n"
    config = DataConfig(label_column="label", split_column="split")
    data = dataset_from_table(read_table(rows.encode(), name="x.csv"), config)
    leak = {f.kind: f for f in find_problems(data)}["leakage"]
    assert leak.rows == (4,)
    assert leak.severity == "error"
    apart = Split(train=np.array([0, 2]), test=np.array([1, 3]))
    assert "leakage" not in {f.kind for f in find_problems(data, apart)}


def test_errors_come_first_and_findings_are_json_ready() -> None:
    texts, labels = clean()
    data = dataset_from_arrays([*texts, texts[0], "One", "12"], [*labels, "a", "c", None])
    found = find_problems(data)
    order = ["error", "warning", "info"]
    severities = [order.index(finding.severity) for finding in found]
    assert severities == sorted(severities)
    assert len(set(severities)) == 3
    again = json.loads(json.dumps([finding.to_dict() for finding in found]))
    assert again[0]["rows"] == [22]
    assert all(each["message"].endswith(".") and each["remedy"] for each in again)
