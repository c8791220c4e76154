"""Reliability bins count every value once, and their reading names the right fault."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from labelfusion.evaluation.reliability import (
    consistency_band,
    describe_reliability,
    reliability,
    reliability_bins,
)
from tests.evaluation_data import make_space, make_system, make_targets


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200))
def test_bins_partition_the_values(pairs):
    stated, observed = (np.array(column) for column in zip(*pairs, strict=True))
    bins = reliability_bins(stated, observed)
    assert sum(b["count"] for b in bins) == len(pairs)
    assert sum(b["count"] * b["observed"] for b in bins) == pytest.approx(observed.sum())
    for b in bins:
        assert b["low"] <= b["mean_predicted"] + 1e-12
        assert b["mean_predicted"] <= b["high"] + 1e-12
        assert b["observed_low"] - 1e-12 <= b["observed"] <= b["observed_high"] + 1e-12
        assert 0 <= b["expected_low"] <= b["expected_high"] <= 1
    assert all(a["high"] < b["low"] for a, b in pairwise(bins))


def test_few_values_make_few_bins():
    assert len(reliability_bins(np.linspace(0, 1, 25), np.zeros(25, dtype=bool))) == 2
    assert len(reliability_bins(np.array([0.4]), np.array([True]))) == 1
    assert reliability_bins(np.zeros(0), np.zeros(0, dtype=bool)) == []


def test_consistency_band_is_the_binomial_one():
    means, counts = np.array([0.0, 0.3, 0.9, 1.0]), np.array([10, 40, 25, 10])
    low, high = consistency_band(means, counts, 0.95)
    assert low == pytest.approx(binom.ppf(0.025, counts, means).clip(0) / counts)
    assert high == pytest.approx(binom.ppf(0.975, counts, means).clip(0) / counts)


def test_both_layouts_have_a_diagram_per_label():
    for multi_label, values in ((False, 60), (True, 180)):
        y = make_targets(60, 3, multi_label)
        p = make_system(y, multi_label).probabilities
        got = reliability(y, p, make_space(3, multi_label), 0.95)
        assert sum(b["count"] for b in got["overall"]) == values
        assert list(got["labels"]) == ["label0", "label1", "label2"]
        assert all(sum(b["count"] for b in bins) == 60 for bins in got["labels"].values())


def test_the_reading_names_over_and_under_confidence():
    stated = np.full(100, 0.9)
    over = reliability_bins(stated, np.arange(100) < 71)
    assert describe_reliability(over) == (
        "At 0.90 confidence it is right 71 % of the time (61 to 79 % from 100): over-confident."
    )
    under = reliability_bins(np.full(100, 0.5), np.arange(100) < 90)
    assert describe_reliability(under).endswith("under-confident.")


def test_the_reading_accuses_nobody_on_thin_evidence():
    bins = reliability_bins(np.full(10, 0.9), np.arange(10) < 7)
    assert "no sign of miscalibration beyond chance" in describe_reliability(bins)
    assert describe_reliability([]).startswith("There are no labelled texts")
