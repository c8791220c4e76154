"""Precision-recall and ROC curves agree with scikit-learn, and stay small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from labelfusion.evaluation.curves import MAX_CURVE_POINTS, precision_recall, roc

scores = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)
pairs = st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=60)


def arrays(drawn):
    stated, observed = zip(*drawn, strict=True)
    return np.array(observed), np.array(stated)


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_areas_equal_scikit_learn(drawn):
    observed, stated = arrays(drawn)
    curve, other = precision_recall(observed, stated), roc(observed, stated)
    assert (curve is None) == (not observed.any())
    assert (other is None) == (observed.all() or not observed.any())
    if curve:
        assert curve.area == pytest.approx(average_precision_score(observed, stated))
    if other:
        assert other.area == pytest.approx(roc_auc_score(observed, stated))


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_every_point_is_what_its_threshold_gives(drawn):
    observed, stated = arrays(drawn)
    curve = precision_recall(observed, stated)
    assume(curve)
    for recall, precision, threshold in zip(curve.x, curve.y, curve.thresholds, strict=True):
        given_to = stated >= threshold
        assert precision == pytest.approx(observed[given_to].mean())
        assert recall == pytest.approx(observed[given_to].sum() / observed.sum())


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_its_area():
    rng = np.random.default_rng(0)
    stated = rng.random(20_000)
    observed = rng.random(20_000) < stated
    for curve in (precision_recall(observed, stated), roc(observed, stated)):
        assert len(curve.x) == len(curve.y) == len(curve.thresholds) <= MAX_CURVE_POINTS
        assert curve.x[-1] == 1.0
        assert (np.diff(curve.x) >= 0).all()
    assert curve.area == pytest.approx(roc_auc_score(observed, stated))
    # What is drawn is close to the whole: trapezoids over the kept points.
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(curve.area, abs=1e-3)


def test_no_values_have_no_curve():
    assert precision_recall(np.zeros(0, bool), np.zeros(0)) is None
    assert roc(np.zeros(0, bool), np.zeros(0)) is None
