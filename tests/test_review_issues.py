"""Suspected label errors: planted flips come first, with what each source says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelfusion.review import label_issues, label_margin, mistakes, row_table
from labelfusion.types import LabelSpace
from tests.review_data import simulated

PLAIN = LabelSpace(("a", "b", "c"), False)


def test_margins_of_one_label_a_text_and_of_several():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    gold = np.array([[True, False, False], [False, True, False]])
    assert label_margin(PLAIN, gold, p).tolist() == [[pytest.approx(0.5)], [pytest.approx(-0.3)]]
    several = label_margin(LabelSpace(("a", "b", "c"), True), gold, p)
    assert several[0] == pytest.approx([0.4, 0.6, 0.8])
    assert several[1] == pytest.approx([0.8, -0.4, -0.2])


def test_planted_flips_come_first():
    rows = simulated(400, error=0.0)
    flipped = np.arange(0, 400, 20)
    gold = rows.gold.copy()
    gold[flipped] = np.roll(gold[flipped], 1, axis=1)
    found = label_issues(replace(rows, gold=gold))
    assert set(found["position"]) == set(flipped)
    assert (found["suggested"].to_numpy() == rows.gold_names[found["position"]]).all()
    assert found["margin"].is_monotonic_increasing
    assert (found["ml"].to_numpy() == rows.answer_names("ml")[found["position"]]).all()
    assert found["p_llm"].between(0, 1).all()


def test_several_labels_are_judged_one_by_one():
    rows = simulated(200, multi_label=True, error=0.0)
    gold = rows.gold.copy()
    gold[5, 1] ^= True
    gold[5, 2] ^= True
    found = label_issues(replace(rows, gold=gold))
    assert found["label"].sort_values().tolist() == ["delivery", "returns"]
    at = found.set_index("label").loc["delivery"]
    expected = gold[5].copy()
    expected[1] ^= True
    names = np.array(rows.space.names)[expected]
    assert at["suggested"] == "|".join(names)


def test_a_row_that_no_source_spoke_of_is_not_suspected():
    rows = simulated(100, error=0.5)
    assert len(label_issues(rows))
    assert label_issues(replace(rows, informed=np.zeros(100, dtype=bool))).empty


def test_the_table_of_mistakes_says_who_said_what():
    rows = simulated(200, error=0.3)
    table = mistakes(rows)
    assert len(table) == (~rows.right).sum()
    assert not table["right"].any()
    assert table["confidence"].is_monotonic_decreasing
    whole = row_table(rows, np.arange(200))
    assert (whole["data_channel"] == rows.metadata["channel"]).all()
    top = rows.probabilities.argmax(axis=1)
    assert whole["contribution_llm"].to_numpy() == pytest.approx(
        rows.contributions[np.arange(200), 1, top]
    )
    right = {name: rows.verdicts(name) == "right" for name in ("ml", "llm")}
    both = rows.quadrants == "ml right, llm wrong"
    assert (both == (right["ml"] & ~right["llm"])).all()
