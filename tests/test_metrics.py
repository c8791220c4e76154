"""The metrics agree with scikit-learn, and say what they say about the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)

from labelfusion.evaluation.metrics import (
    SMOOTH_GRID,
    binned_calibration_error,
    confusion,
    ece_classwise,
    ece_mass,
    equal_mass_bins,
    equal_width_bins,
    evaluate,
    per_label,
    probability_metrics,
    row_nll,
    smooth_calibration_error,
)
from tests.evaluation_data import make_space, make_system, make_targets

EXACT = {"rel": 1e-12, "abs": 1e-12}
cases = st.tuples(st.integers(1, 60), st.integers(2, 7), st.booleans(), st.integers(0, 10_000))


@given(cases)
@settings(max_examples=60, deadline=None)
def test_decision_metrics_equal_scikit_learn(case):
    n, k, multi_label, seed = case
    y = make_targets(n, k, multi_label, seed)
    out = make_system(y, multi_label, seed)
    got = evaluate(y, out.probabilities, out.decisions, make_space(k, multi_label))
    d = out.decisions.astype(int)
    assert got["accuracy"] == pytest.approx(accuracy_score(y, d), **EXACT)
    for average in ("macro", "micro", "weighted", "samples"):
        want = f1_score(y, d, average=average, zero_division=0)
        assert got[f"{average}_f1"] == pytest.approx(want, **EXACT)


@given(cases)
@settings(max_examples=60, deadline=None)
def test_nll_and_brier_equal_scikit_learn(case):
    n, k, multi_label, seed = case
    y = make_targets(n, k, multi_label, seed)
    p = make_system(y, multi_label, seed).probabilities
    got = probability_metrics(y, p, make_space(k, multi_label))
    if multi_label:
        nll = sum(log_loss(y[:, j], p[:, j], labels=[0, 1]) for j in range(k))
        brier = ((p - y) ** 2).mean()
    else:
        nll = log_loss(y.argmax(axis=1), p, labels=range(k))
        brier = brier_score_loss(y.argmax(axis=1), p, labels=range(k), scale_by_half=False)
    assert got["nll"] == pytest.approx(nll, **EXACT)
    assert got["brier"] == pytest.approx(brier, **EXACT)


@given(cases)
@settings(max_examples=40, deadline=None)
def test_per_label_and_confusion_equal_scikit_learn(case):
    n, k, multi_label, seed = case
    y, space = make_targets(n, k, multi_label, seed), make_space(k, multi_label)
    d = make_system(y, multi_label, seed).decisions
    want = precision_recall_fscore_support(y, d.astype(int), average=None, zero_division=0)
    records = per_label(y, d, space)
    for name, values in zip(("precision", "recall", "f1", "support"), want, strict=True):
        assert [r[name] for r in records] == pytest.approx(list(values), **EXACT)
    assert [r["predicted"] for r in records] == d.sum(axis=0).tolist()
    if multi_label:
        table = multilabel_confusion_matrix(y, d).reshape(k, 4)
    else:
        table = confusion_matrix(y.argmax(1), d.argmax(1), labels=range(k))
    assert confusion(y, d, space) == table.tolist()


def test_a_label_without_support_lowers_macro_f1_but_not_weighted_f1():
    y = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.int8)
    got = evaluate(y, y * 1.0, y.astype(bool), make_space(3, False))
    assert got["macro_f1"] == pytest.approx(2 / 3)
    assert got["weighted_f1"] == got["micro_f1"] == got["accuracy"] == 1.0


def test_nll_of_an_impossible_right_class_is_finite():
    y = np.array([[1, 0]], dtype=np.int8)
    p = np.array([[0.0, 1.0]])
    assert row_nll(y, p, make_space(2, False))[0] == pytest.approx(-np.log(1e-12))
    assert row_nll(y, p, make_space(2, True))[0] == pytest.approx(-2 * np.log(1e-12))


@pytest.mark.parametrize("multi_label", [False, True])
def test_no_rows_have_no_metrics(multi_label):
    y = make_targets(0, 3, multi_label)
    out = make_system(y, multi_label)
    got = evaluate(y, out.probabilities, out.decisions, make_space(3, multi_label))
    assert len(got) == 10
    assert all(np.isnan(value) for value in got.values())


def test_one_class_is_always_right():
    y = np.ones((4, 1), dtype=np.int8)
    got = evaluate(y, y * 1.0, y.astype(bool), make_space(1, False))
    assert got["accuracy"] == got["macro_f1"] == 1.0
    assert got["nll"] == got["brier"] == got["ece_mass"] == 0.0


def test_calibration_error_by_hand():
    stated = np.array([0.9, 0.9, 0.9, 0.9, 0.2])
    observed = np.array([True, True, False, False, False])
    bins = equal_width_bins(stated, 10)
    assert bins.tolist() == [8, 8, 8, 8, 1]
    assert binned_calibration_error(stated, observed, bins) == pytest.approx(0.8 * 0.4 + 0.2 * 0.2)


def test_equal_width_bins_hold_both_ends():
    assert equal_width_bins(np.array([0.0, 1.0]), 15).tolist() == [0, 14]


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.97, 1.0]) | st.floats(0, 1), min_size=1),
    st.integers(1, 15),
)
def test_equal_mass_bins_are_ordered_unsplit_and_never_empty(values, n_bins):
    stated = np.array(values)
    bins = equal_mass_bins(stated, n_bins)
    assert sorted(set(bins.tolist())) == list(range(bins.max() + 1))
    assert bins.max() < n_bins
    order = np.argsort(stated, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert all(len(set(bins[stated == v].tolist())) == 1 for v in set(values))


def test_equal_mass_bins_hold_equally_many_distinct_values():
    bins = equal_mass_bins(np.random.default_rng(0).random(150), 15)
    assert np.bincount(bins).tolist() == [10] * 15


def test_calibration_errors_see_over_confidence():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=20_000)
    y = np.eye(4, dtype=np.int8)[(p.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)]
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    space = make_space(4, False)
    assert ece_mass(y, p, space) < 0.02 < 0.1 < ece_mass(y, sharp, space)
    assert ece_classwise(y, p) < 0.02 < 0.05 < ece_classwise(y, sharp)


def _smoothed_directly(stated, residuals, width):
    """Mean absolute smoothed residual, from the reflected kernel as the paper writes it."""
    grid = (np.arange(2000) + 0.5) / 2000
    images = [2 * turn + sign * stated for turn in range(-4, 5) for sign in (1, -1)]
    kernel = sum(norm.pdf(grid[:, None], image, width) for image in images)
    return np.abs((kernel * residuals).mean(axis=1)).mean()


@given(st.integers(1, 80), st.floats(0.3, 3), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_smooth_error_is_the_width_at_which_its_own_kernel_leaves_it(n, power, seed):
    rng = np.random.default_rng(seed)
    stated = rng.random(n)
    observed = (rng.random(n) < stated**power).astype(float)
    width = smooth_calibration_error(stated, observed)
    left = _smoothed_directly(stated, observed - stated, width)
    assert left == pytest.approx(width, abs=2e-3)


outcomes = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(outcomes, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_smooth_error_bounds_and_symmetries(pairs, random):
    stated, observed = np.array(pairs).T
    error = smooth_calibration_error(stated, observed)
    residuals = observed - stated
    # A width far below the grid's cells rings a little: the upper bound holds to a cell.
    assert abs(residuals.mean()) - 1e-9 <= error <= np.abs(residuals).mean() + 1 / SMOOTH_GRID
    assert smooth_calibration_error(1 - stated, 1 - observed) == pytest.approx(error, abs=2e-3)
    random.shuffle(pairs)
    assert smooth_calibration_error(*np.array(pairs).T) == pytest.approx(error)


@given(outcomes, st.floats(-0.02, 0.02))
@settings(max_examples=60, deadline=None)
def test_smooth_error_moves_little_when_the_probabilities_do(pairs, step):
    stated, observed = np.array(pairs).T
    moved = np.clip(stated + step, 0, 1)
    # Binned errors jump where a value crosses an edge; this one is continuous.
    change = smooth_calibration_error(moved, observed) - smooth_calibration_error(stated, observed)
    assert abs(change) <= 3 * abs(step) + 3e-3


def test_smooth_error_of_a_constant_that_never_comes_true_is_that_constant():
    assert smooth_calibration_error(np.full(9, 0.3), np.zeros(9)) == pytest.approx(0.3)
    assert smooth_calibration_error(np.ones(9), np.ones(9)) < 1e-9
    assert np.isnan(smooth_calibration_error(np.zeros(0), np.zeros(0)))
