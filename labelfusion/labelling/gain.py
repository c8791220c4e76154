"""What more labels would bring, with an interval, from runs on more and fewer labels.

Knows how many labels a run had and which test texts it got right; no file and no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 20_000
CONFIDENCE = 0.9
# Exponents of learning curves err(n) = a + b n^-c as they are found on text (Hestness et al. 2017).
EXPONENTS = (0.2, 1.0)
# Training anew on other texts moves the error too, by about this share of its sampling variance.
REFIT_VARIANCE = 0.25
# With fewer effective draws the curves do not fit what was seen: the newest run speaks alone.
MIN_EFFECTIVE = 50
WORTHWHILE = 0.01


@dataclass(frozen=True)
class CurvePoint:
    """A run: how many labels it was trained on, and (m,) bool, the test texts it got right.

    All points of a curve are of the same m test texts in the same order.
    """

    labels: int
    right: np.ndarray


@dataclass(frozen=True)
class Gain:
    """What `more` labels are expected to bring.

    Attributes:
        error: share of test texts decided wrongly now.
        expected: by how much it falls (median), 0..1.
        interval: 90 % interval of that.
        test_texts, runs: what it rests on.
        enough: even the interval's upper end is less than is worthwhile.
    """

    more: int
    error: float
    expected: float
    interval: tuple[float, float]
    test_texts: int
    runs: int
    enough: bool

    @property
    def sentence(self) -> str:
        """The estimate for people."""
        low, high = (f"{100 * value:.1f}" for value in self.interval)
        rests = f"{self.test_texts:,} test texts and {self.runs} run{'s' * (self.runs != 1)}"
        expected = (
            f"{self.more:,} more labels are expected to bring {100 * self.expected:.1f} points "
            f"of accuracy (90 % interval {low} to {high}; from {rests})"
        )
        if self.enough:
            return f"Labelling has stopped being useful here: {expected}."
        return f"Labelling is still useful: {expected}."


def estimate_gain(
    points: Sequence[CurvePoint], more: int, *, seed: int = 0, worthwhile: float = WORTHWHILE
) -> Gain:
    """How much `more` labels are expected to lower the error of the run with the most labels.

    The error after n labels is taken as a + (e - a) (n_now / n)^c with the present error e drawn
    from its Jeffreys posterior, the floor a anywhere below e, and c anywhere in EXPONENTS; each
    draw is weighted by how well it tells the differences to the earlier runs, which are paired on
    the test texts. With one run nothing is known of the curve and the interval is as wide as that.

    Raises ValueError: no point, or points of different test texts.
    """
    if not points or len({len(point.right) for point in points}) > 1 or not len(points[0].right):
        raise ValueError("points must be at least one, of the same test texts")
    last = max(points, key=lambda point: point.labels)
    rng = np.random.default_rng(seed)
    wrong, n = int((~last.right).sum()), len(last.right)
    error = rng.beta(wrong + 0.5, n - wrong + 0.5, DRAWS)
    floor = error * rng.random(DRAWS)
    exponent = rng.uniform(*EXPONENTS, DRAWS)
    weights = _weights([p for p in points if p.labels < last.labels], last, error, floor, exponent)
    gains = (error - floor) * (1 - (last.labels / (last.labels + more)) ** exponent)
    tail = (1 - CONFIDENCE) / 2
    low, middle, high = _quantiles(gains, weights, [tail, 0.5, 1 - tail])
    return Gain(more, wrong / n, middle, (low, high), n, len(points), high < worthwhile)


def _weights(
    earlier: Sequence[CurvePoint],
    last: CurvePoint,
    error: np.ndarray,
    floor: np.ndarray,
    exponent: np.ndarray,
) -> np.ndarray:
    log_weights = np.zeros(len(error))
    for point in earlier:
        seen = last.right.astype(float) - point.right
        spread = (seen.var() + 1 / len(seen)) / len(seen) + REFIT_VARIANCE * _variance(point.right)
        told = (error - floor) * ((last.labels / point.labels) ** exponent - 1)
        log_weights -= (seen.mean() - told) ** 2 / (2 * spread)
    weights = np.exp(log_weights - log_weights.max())
    effective = weights.sum() ** 2 / (weights**2).sum()
    return weights if effective >= MIN_EFFECTIVE else np.ones_like(weights)


def _variance(right: np.ndarray) -> float:
    share = right.mean()
    return float(share * (1 - share) / len(right))


def _quantiles(values: np.ndarray, weights: np.ndarray, at: Sequence[float]) -> list[float]:
    order = values.argsort()
    cumulative = np.cumsum(weights[order])
    places = np.searchsorted(cumulative, np.array(at) * cumulative[-1])
    return [float(value) for value in values[order][np.minimum(places, len(values) - 1)]]
