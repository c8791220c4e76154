"""Figures and filters of the Errors page: what they draw adds up and says what it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelfusion.data import load_dataset
from labelfusion.errors import InputError
from labelfusion.review import find_slices, review_rows, slice_candidates
from labelfusion.ui import review_charts
from labelfusion.ui.review_filters import ordered, quadrant_words, read_filters
from labelfusion.workspace import Workspace
from tests.review_data import simulated
from tests.review_run import reviews_run, tickets_run


@pytest.mark.parametrize("make", [tickets_run, reviews_run])
def test_contributions_add_up_from_the_prior_to_the_fusion(make, tmp_path):
    run, _ = make(Workspace.at(tmp_path / "ws"), tmp_path / "files")
    rows = review_rows(run, load_dataset(run.config.data))
    test = np.flatnonzero(rows.split == "test")[:20]
    priors = {name: [] for name in rows.space.names}
    for at in test:
        for j, name in enumerate(rows.space.names):
            table = review_charts.contribution_table(rows, int(at), name)
            parts = table["log_odds"].to_numpy()
            assert parts[:-1].sum() == pytest.approx(parts[-1])
            assert table["end"].iloc[-2] == pytest.approx(parts[-1])
            p = rows.probabilities[at, j]
            assert 1 / (1 + np.exp(-parts[-1])) == pytest.approx(p, abs=1e-6)
            priors[name].append(parts[0])
    # The prior of the classes is one and the same for every row of the final model.
    assert all(np.ptp(values) < 1e-4 for values in priors.values())
    chart = review_charts.contributions(table, name)
    assert f"{parts[-1]:+.2f}" in chart.reading


@pytest.mark.parametrize("multi_label", [False, True])
def test_quadrants_count_every_row_once(multi_label):
    rows = simulated(300, multi_label=multi_label)
    table = review_charts.quadrant_table(rows, "ml", "llm")
    assert table["texts"].sum() == 300
    assert (table["texts"] * table["fusion_right"]).sum() == pytest.approx(rows.right.sum())
    assert "Only LLM is right" in review_charts.quadrants(table, "ml", "llm").reading


def test_probabilities_show_the_label_of_the_data_among_many():
    rows = simulated(100, labels=tuple(f"label {i}" for i in range(40)), error=1.0)
    table = review_charts.probability_table(rows, 7)
    assert len(table) == review_charts.MAX_LABELS
    assert table.loc[table["gold"], "label"].tolist() == [rows.gold_names[7]]
    assert table["fusion"].is_monotonic_decreasing
    assert "LLM" in review_charts.probabilities(table).reading


def test_the_figure_of_slices_names_the_worst():
    where = np.arange(900) % 6 == 0
    rows = simulated(900, error=np.where(where, 0.6, 0.05))
    rows.metadata["half"] = np.where(where, "bad", "good")
    found = find_slices(rows)
    chart = review_charts.slices(found)
    assert chart.reading.startswith(f"Worst: {found['slice'][0]}")
    assert len(chart.table) == len(found)


def test_filters_hold_together():
    rows = simulated(400)
    groups = slice_candidates(rows)
    query = {"show": "all", "quadrant": "ml right, llm wrong", "split": "train"}
    query |= {"meta.channel": "mail", "length": "0-55", "slice": "words: word3"}
    found = read_filters(query, rows).mask(rows, groups)
    right = {name: rows.verdicts(name) == "right" for name in ("ml", "llm")}
    expected = right["ml"] & ~right["llm"] & (rows.split == "train") & (rows.lengths <= 55)
    expected &= (rows.metadata["channel"] == "mail").to_numpy()
    expected &= np.array(["word3" in text.split() for text in rows.texts])
    assert (found == expected).all()
    assert found.any()


def test_an_address_without_filters_asks_for_the_mistakes():
    rows = simulated(200)
    groups = slice_candidates(rows)
    assert (read_filters({}, rows).mask(rows, groups) == ~rows.right).all()
    cell = read_filters({"gold": "billing", "predicted": "billing"}, rows)
    assert cell.show == "all"
    assert cell.mask(rows, groups).any()
    apart = read_filters({"show": "disagree"}, rows).mask(rows, groups)
    assert (apart == (rows.answer_names("ml") != rows.answer_names("llm"))).all()


@pytest.mark.parametrize("query", [{"confidence": "9-1"}, {"length": "a-b"}, {"show": "none"}])
def test_an_address_with_nonsense_is_refused(query):
    with pytest.raises(InputError):
        read_filters(query, simulated(50))


def test_orders_and_words():
    rows = simulated(50)
    everything = np.ones(50, dtype=bool)
    assert np.diff(rows.confidence[ordered(rows, everything, "surest")]).max() <= 0
    assert np.diff(rows.confidence[ordered(rows, everything, "least")]).min() >= 0
    shuffled = replace(rows, row_numbers=rows.row_numbers[::-1].copy())
    assert ordered(shuffled, everything, "row").tolist() == list(range(49, -1, -1))
    assert quadrant_words("ml right, llm absent") == "ML encoder right, LLM absent"
