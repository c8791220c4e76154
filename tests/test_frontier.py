"""Frontier and certificate: what holds for any rows, and that a guarantee is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.errors import InputError
from labelfusion.evaluation.certificate import THRESHOLDS, certify, rows_needed
from labelfusion.evaluation.frontier import (
    MARGIN_UNKNOWN,
    MAX_POINTS,
    SEND_ALL,
    SEND_NONE,
    AskingCost,
    Routable,
    make_frontier,
    margins,
)
from labelfusion.evaluation.metrics import decision_metrics
from labelfusion.types import Prediction
from tests.signals import draw_targets, space


def draw_rows(n: int, k: int, seed: int, *, multi_label: bool = False) -> Routable:
    """Rows whose cheap decisions go wrong the more often, the smaller the margin."""
    rng = np.random.default_rng(seed)
    targets = draw_targets(n, k, seed, multi_label=multi_label)
    margin = rng.random(n).round(2)
    decided = []
    for wrong in (rng.random(n) < 0.5 * (1 - margin), rng.random(n) < 0.05):
        decided.append(np.where(wrong[:, None], np.roll(targets, 1, axis=1), targets).astype(bool))
    return Routable(targets, margin, *decided)


ROWS = st.builds(
    draw_rows,
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(0, 10_000),
    multi_label=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(rows=ROWS)
def test_shares_rise_with_the_threshold_and_the_ends_are_never_and_always(rows: Routable) -> None:
    frontier = make_frontier(rows, draws=20)
    points = frontier.points
    shares = [point.share for point in points]
    assert shares == sorted(shares)
    assert len(points) <= MAX_POINTS
    for point, decisions in ((points[0], rows.cheap), (points[-1], rows.full)):
        expected = decision_metrics(rows.targets, decisions)
        assert point.accuracy == pytest.approx(expected["accuracy"])
        assert point.macro_f1 == pytest.approx(expected["macro_f1"])
        assert point.lead == pytest.approx(0)
    assert (shares[0], shares[-1], points[-1].loss) == (0, 1, 0)


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, threshold=st.floats(-1, 1))
def test_a_point_is_what_routing_at_its_threshold_gives(rows: Routable, threshold: float) -> None:
    point = make_frontier(rows, thresholds=np.array([threshold]), draws=20).points[0]
    sent = rows.margin < threshold
    decisions = np.where(sent[:, None], rows.full, rows.cheap)
    expected = decision_metrics(rows.targets, decisions)
    assert point.share == pytest.approx(sent.mean())
    assert point.accuracy == pytest.approx(expected["accuracy"])
    assert point.macro_f1 == pytest.approx(expected["macro_f1"])
    assert point.loss == pytest.approx((rows.losses() * ~sent).mean())


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, share=st.floats(0, 1))
def test_a_threshold_for_a_share_sends_no_more(rows: Routable, share: float) -> None:
    threshold = float(rows.thresholds_for(np.array([share]))[0])
    sent = (rows.margin < threshold).mean()
    assert sent <= share + 1e-9
    next_margin = rows.margin[rows.margin >= threshold]
    if len(next_margin) and share > 0 and threshold > SEND_NONE:
        tied = (rows.margin <= next_margin.min()).mean()
        assert tied > share - 1e-9


def test_random_routing_is_what_sending_at_random_gives_on_average() -> None:
    rows = draw_rows(400, 3, 1)
    point = make_frontier(rows, thresholds=rows.thresholds_for(np.array([0.3])), draws=20).points[0]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        sent = rng.permutation(400) < round(400 * point.share)
        drawn.append(decision_metrics(rows.targets, np.where(sent[:, None], rows.full, rows.cheap)))
    for metric in ("accuracy", "macro_f1"):
        mean = np.mean([figures[metric] for figures in drawn])
        assert getattr(point, f"random_{metric}") == pytest.approx(mean, abs=0.002)
    assert point.lead > 0.03
    assert point.lead_interval[0] > 0


def test_intervals_hold_the_figure_and_shrink_with_rows() -> None:
    widths = []
    for n in (100, 1600):
        rows = draw_rows(n, 3, 2)
        point = make_frontier(rows, draws=500).points[20]
        for name in ("accuracy", "macro_f1", "loss", "lead"):
            low, high = getattr(point, f"{name}_interval")
            assert low <= getattr(point, name) <= high
        widths.append(point.accuracy_interval[1] - point.accuracy_interval[0])
    assert widths[1] < widths[0] / 3


def test_costs_follow_the_share_and_unknown_is_not_free() -> None:
    rows = draw_rows(50, 2, 3)
    for point in make_frontier(rows, cost=AskingCost(0.002, 1.5), draws=20).points:
        assert point.usd_per_1000 == pytest.approx(2 * point.share)
        assert point.seconds == pytest.approx(1.5 * point.share)
    point = make_frontier(rows, draws=20).points[-1]
    assert (point.usd_per_1000, point.seconds) == (None, None)


def test_the_flip_rate_is_the_floor_of_an_oracle() -> None:
    rows = draw_rows(300, 3, 4)
    flips = (rows.cheap != rows.full).any(axis=1)
    oracle = Routable(rows.targets, np.where(flips, 0.0, 1.0), rows.cheap, rows.full)
    point = make_frontier(oracle, thresholds=np.array([0.5]), draws=20).points[0]
    assert point.share == pytest.approx(rows.flip_rate)
    assert point.loss == pytest.approx(0)


def test_rows_that_do_not_fit_are_refused() -> None:
    rows = draw_rows(10, 3, 5)
    with pytest.raises(InputError, match=r"\(10, 2\)"):
        Routable(rows.targets, rows.margin, rows.cheap[:, :2], rows.full)
    with pytest.raises(InputError, match="no labelled rows"):
        make_frontier(Routable(*(part[:0] for part in vars(rows).values())))


def test_margins_of_both_tasks() -> None:
    present = np.array([[True], [True], [False]])
    p = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.5, 0.3, 0.2]])
    one = Prediction(space(3), p, np.eye(3, dtype=bool)[[0, 0, 0]], ("ml",), present)
    assert margins(one).tolist() == pytest.approx([0.5, 0.05, MARGIN_UNKNOWN])
    given = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=bool)
    many = Prediction(space(3, multi_label=True), p, given, ("ml",), present)
    assert margins(many).tolist() == pytest.approx([0.4, -0.2, MARGIN_UNKNOWN])


def test_a_certificate_is_wrong_no_more_often_than_it_says() -> None:
    alpha, tolerance, n = 0.1, 0.02, 600
    population = draw_rows(200_000, 2, 6)
    losses, harmful = population.losses(), population.losses() > 0
    rng = np.random.default_rng(7)
    wrong, certified = 0, 0
    for _ in range(200):
        drawn = rng.integers(0, len(population), n)
        found = certify(population.margin[drawn], losses[drawn], tolerance=tolerance, alpha=alpha)
        harm = (harmful & (population.margin >= found.threshold)).mean()
        wrong += bool(harm > tolerance)
        certified += found.share < 1
    assert wrong <= alpha * 200
    assert certified >= 180


def test_a_certificate_sends_less_the_more_is_tolerated() -> None:
    rows = draw_rows(3000, 2, 8)
    shares = [
        certify(rows.margin, rows.losses(), tolerance=tolerance, alpha=0.1).share
        for tolerance in (0.003, 0.01, 0.05, 0.2)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.4 < shares[0]


@pytest.mark.parametrize("n", [0, 1, 200])
def test_too_few_labels_certify_nothing_and_say_how_many_would(n: int) -> None:
    found = certify(np.linspace(0, 1, n), np.zeros(n, dtype=int), tolerance=0.01, alpha=0.1)
    assert not found.certified
    assert (found.threshold, found.share) == (SEND_ALL, 1)
    assert found.rows_needed == 230
    assert "about 230 would do" in found.reason
    enough = certify(np.full(230, 0.5), np.zeros(230, dtype=int), tolerance=0.01, alpha=0.1)
    assert (enough.threshold, enough.share) == (SEND_NONE, 0)


def test_no_number_of_labels_helps_where_the_surest_rows_are_harmed() -> None:
    loss = np.arange(1000) % 10 == 0
    found = certify(np.ones(1000), loss.astype(int), tolerance=0.01, alpha=0.1)
    assert (found.certified, found.rows_needed) == (False, None)
    assert "10 % are harmed" in found.reason
    assert rows_needed(0.005, 0.01, 0.1) > 230


def test_the_thresholds_of_the_test_fall() -> None:
    assert (np.diff(THRESHOLDS) < 0).all()
    assert THRESHOLDS[0] < SEND_ALL
