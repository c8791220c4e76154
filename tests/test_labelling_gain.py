"""What more labels bring, how far people agree: figures that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from labelfusion.labelling.agreement import (
    agreement,
    alpha,
    between_persons,
    cohen_kappa,
    krippendorff_alpha,
    with_earlier,
    with_suggestions,
)
from labelfusion.labelling.gain import CurvePoint, estimate_gain
from labelfusion.labelling.journal import Entry, Shown
from labelfusion.labelling.state import replayed


def curve(sizes, floor, slope, exponent, n=400, seed=0):
    """Runs on growing labels whose errors follow a power law; texts have their own difficulty."""
    u = np.random.default_rng(seed).random(n)
    return [CurvePoint(size, u >= floor + slope * size**-exponent) for size in sizes]


def test_one_run_says_little_and_says_so():
    low, high = estimate_gain(curve([100], 0.1, 2, 0.5), 100).interval
    assert low < 0.02
    assert high > 0.05


def test_more_runs_narrow_the_interval():
    one = estimate_gain(curve([400], 0.02, 3, 0.5), 400).interval
    three = estimate_gain(curve([50, 100, 200, 400], 0.02, 3, 0.5), 400).interval
    assert three[1] - three[0] < one[1] - one[0]


def test_a_flat_curve_says_that_labelling_is_no_use():
    gain = estimate_gain(curve([100, 200, 400, 800], 0.15, 0.0, 0.5, n=2000), 100)
    assert gain.enough
    assert "stopped being useful" in gain.sentence


def test_a_steep_curve_says_go_on():
    gain = estimate_gain(curve([50, 100, 200], 0.0, 4, 0.5), 200)
    assert not gain.enough
    assert gain.expected > 0.03


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        floor, slope, exponent = rng.uniform(0, 0.2), rng.uniform(0.5, 3), rng.uniform(0.3, 0.8)
        points = curve([60, 120, 240], floor, slope, exponent, seed=seed)
        truth = slope * (240**-exponent - 440**-exponent)
        low, high = estimate_gain(points, 200).interval
        held += low <= truth <= high
    assert held >= 48


def test_gain_needs_runs_of_the_same_texts():
    with pytest.raises(ValueError, match="same test texts"):
        estimate_gain([], 10)
    with pytest.raises(ValueError, match="same test texts"):
        estimate_gain([*curve([10], 0, 1, 1, n=5), *curve([20], 0, 1, 1, n=6)], 10)


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(0)
    first, second = rng.choice(list("abc"), (2, 200))
    second = np.where(rng.random(200) < 0.6, first, second)
    expected = cohen_kappa_score(first, second)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    assert cohen_kappa(pairs) == pytest.approx(expected)
    assert cohen_kappa([("a", "a")] * 3) is None


def test_alpha_of_the_published_example():
    """Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: 0.743."""
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[v for v in unit if v is not None] for unit in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=0.0005)
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a"]]) is None


def entry(who, row, label, shown=None):
    return Entry("label", who, row=row, text="t", labels=(label,), shown=shown)


def test_agreement_between_persons_and_with_what_was_shown():
    seen, hidden = Shown(("a",), 0.9, "run", False), Shown(("a",), 0.9, "run", True)
    state = replayed(
        [
            entry("ana", "r1", "a", seen),
            entry("ana", "r2", "b", hidden),
            entry("ben", "r1", "a"),
            entry("ben", "r2", "a", hidden),
            entry("eve", "r3", "a"),
        ]
    )
    (pair,) = between_persons(state)
    assert (pair.what, pair.texts, pair.share) == ("ana and ben", 2, 0.5)
    by = {one.what: one for one in with_suggestions(state)}
    assert by["run, seen"].share == 1
    assert by["run, not seen"].share == 0.5
    assert alpha(state) == pytest.approx(0)
    assert with_earlier(state).texts == 0
    state.add([replace(entry("ana", "r9", "a"), earlier=("b",))])
    assert (with_earlier(state).texts, with_earlier(state).share) == (1, 0.0)
    assert agreement("nobody", []).share is None
