"""Bootstrap and Wilson intervals: right on what they sum, paired, repeatable, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from labelfusion.evaluation import intervals
from labelfusion.evaluation.intervals import (
    INTERVAL_METRICS,
    SystemOutput,
    bootstrap_intervals,
    bootstrap_metrics,
    percentile_interval,
    wilson_interval,
)
from labelfusion.evaluation.metrics import evaluate
from tests.evaluation_data import make_space, make_system, make_targets


def _draws(y, systems, multi_label=False, draws=200, seed=0):
    return bootstrap_metrics(
        y, systems, make_space(y.shape[1], multi_label), draws=draws, seed=seed
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_each_draw_equals_the_metrics_of_the_rows_drawn(multi_label):
    y = make_targets(23, 4, multi_label)
    systems = {"a": make_system(y, multi_label, 1), "b": make_system(y, multi_label, 2)}
    space = make_space(4, multi_label)
    got = _draws(y, systems, multi_label, draws=7)
    weights = np.concatenate(list(intervals.row_weights(23, 7, 0))).astype(int)
    for name, output in systems.items():
        for d in range(7):
            rows = np.repeat(np.arange(23), weights[d])
            want = evaluate(y[rows], output.probabilities[rows], output.decisions[rows], space)
            for metric in INTERVAL_METRICS:
                assert got[name][metric][d] == pytest.approx(want[metric], rel=1e-12)


def test_chunks_change_the_memory_and_nothing_else(monkeypatch):
    sizes = []
    whole = np.concatenate(list(intervals.row_weights(50, 30, 1)))
    monkeypatch.setattr(intervals, "CHUNK_NUMBERS", 400)
    for chunk in intervals.row_weights(50, 30, 1):
        sizes.append(chunk.size)
    assert max(sizes) <= 400
    assert np.array_equal(np.concatenate(list(intervals.row_weights(50, 30, 1))), whole)
    assert (whole.sum(axis=1) == 50).all()


def test_draws_are_paired():
    y = make_targets(40, 3, False)
    one = make_system(y, False, 1)
    got = _draws(y, {"a": one, "b": SystemOutput(one.probabilities, one.decisions)})
    for metric in INTERVAL_METRICS:
        assert np.array_equal(got["a"][metric], got["b"][metric])


def test_the_seed_decides_the_draws():
    y = make_targets(40, 3, False)
    systems = {"a": make_system(y, False, 1)}
    first, again = _draws(y, systems, seed=3), _draws(y, systems, seed=3)
    other = _draws(y, systems, seed=4)
    assert np.array_equal(first["a"]["nll"], again["a"]["nll"])
    assert not np.array_equal(first["a"]["nll"], other["a"]["nll"])


def test_accuracy_interval_has_the_width_of_theory():
    y = make_targets(400, 3, False)
    output = make_system(y, False, 1)
    draws = _draws(y, {"a": output}, draws=4000)["a"]
    low, high = bootstrap_intervals(draws, 0.95)["accuracy"]
    p = (output.decisions & y.astype(bool)).any(axis=1).mean()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 400), rel=0.08)
    assert low < p < high


def test_no_rows_have_no_interval():
    y = make_targets(0, 3, False)
    got = _draws(y, {"a": make_system(y, False)})
    assert np.isnan(bootstrap_intervals(got["a"], 0.95)["accuracy"]).all()


def test_percentile_interval_leaves_out_equal_tails():
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))


def test_wilson_interval_by_the_textbook():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20 and 1 of 29.
    low, high = wilson_interval(np.array([81, 0, 1]), np.array([263, 20, 29]), 0.95)
    assert low == pytest.approx([0.2553, 0.0, 0.0061], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1611, 0.1718], abs=5e-5)


def test_wilson_interval_of_nothing_is_everything():
    low, high = wilson_interval(np.array([0]), np.array([0]), 0.95)
    assert (low[0], high[0]) == pytest.approx((0, 1))
