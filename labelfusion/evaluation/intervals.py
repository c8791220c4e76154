"""How far a figure could move had other texts been drawn: paired bootstrap and Wilson intervals.

Knows systems that answered the same rows. Does not judge which of them is better (comparison).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from labelfusion.evaluation.metrics import LabelCounts, exact_match, row_brier, row_nll
from labelfusion.types import LabelSpace

INTERVAL_METRICS = ("accuracy", "macro_f1", "micro_f1", "nll", "brier")
# Weights held at once, in numbers: 4 million doubles are 32 MB whatever n and draws are.
CHUNK_NUMBERS = 4_000_000


@dataclass(frozen=True)
class SystemOutput:
    """What one system (a source, or the fusion) says about the n test rows.

    Attributes:
        probabilities: (n, k), finite.
        decisions: (n, k) bool; exactly one a row for multi-class.
        coverage: share of rows the system had an answer of its own for, 0..1.
        thresholds: (k,) of the decision rule, or None where there are none.
    """

    probabilities: np.ndarray
    decisions: np.ndarray
    coverage: float = 1.0
    thresholds: np.ndarray | None = None


def bootstrap_metrics(
    targets: np.ndarray,
    systems: Mapping[str, SystemOutput],
    space: LabelSpace,
    *,
    draws: int,
    seed: int,
) -> dict[str, dict[str, np.ndarray]]:
    """{system: {metric: (draws,)}} for INTERVAL_METRICS on `draws` resamples of the rows.

    The rows of a draw are the same for all systems, so differences of two systems are paired.
    Rows drawn are counted as weights, so that every metric is a product of a (draws, n) matrix
    with per-row figures. NaN for n = 0.
    """
    n, k = targets.shape
    if not n:
        empty = np.full(draws, np.nan)
        return {name: dict.fromkeys(INTERVAL_METRICS, empty) for name in systems}
    features = np.concatenate(
        [targets, *(_row_features(targets, output, space) for output in systems.values())], axis=1
    )
    sums = np.concatenate([w @ features for w in row_weights(n, draws, seed)])
    support, *parts = np.split(sums, k + (2 * k + 3) * np.arange(len(systems)), axis=1)
    return {
        name: _metrics_of_sums(part, support, n) for name, part in zip(systems, parts, strict=True)
    }


def _row_features(targets: np.ndarray, output: SystemOutput, space: LabelSpace) -> np.ndarray:
    """(n, 2k + 3): hits, predicted, exact match, nll, brier of each row."""
    return np.column_stack(
        [
            targets.astype(bool) & output.decisions.astype(bool),
            output.decisions,
            exact_match(targets, output.decisions),
            row_nll(targets, output.probabilities, space),
            row_brier(targets, output.probabilities, space),
        ]
    )


def row_weights(n: int, draws: int, seed: int, *, chunk: int | None = None) -> Iterator[np.ndarray]:
    """Chunks (c, n) of how often each row is drawn; all chunks together have `draws` rows.

    `chunk` is the most draws at once, by default as many as CHUNK_NUMBERS lets in.

    Counts of uniform draws are multinomial; counting indices is several times faster than numpy's
    multinomial, which goes through n binomials a draw.
    """
    rng = np.random.default_rng(seed)
    chunk = chunk or max(1, CHUNK_NUMBERS // n)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)


def _metrics_of_sums(sums: np.ndarray, support: np.ndarray, n: int) -> dict[str, np.ndarray]:
    k = support.shape[1]
    counts = LabelCounts(sums[:, :k], sums[:, k : 2 * k], support)
    accuracy, nll, brier = sums[:, 2 * k :].T / n
    values = (accuracy, counts.macro_f1(), counts.micro_f1(), nll, brier)
    return dict(zip(INTERVAL_METRICS, values, strict=True))


def percentile_interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Central percentile interval of bootstrap values (Efron & Tibshirani 1993, section 13.3)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_intervals(
    bootstrap: Mapping[str, np.ndarray], confidence: float
) -> dict[str, tuple[float, float]]:
    """{metric: (low, high)} of one system's part of `bootstrap_metrics`."""
    return {name: percentile_interval(values, confidence) for name, values in bootstrap.items()}


def wilson_interval(
    successes: np.ndarray, counts: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a frequency, low and high in 0..1 (Wilson 1927); 0 and 1 where counts are 0."""
    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    successes, counts = np.asarray(successes, dtype=float), np.asarray(counts, dtype=float)
    centre = (successes + z2 / 2) / (counts + z2)
    spread = successes * (counts - successes) / np.where(counts > 0, counts, 1.0) + z2 / 4
    half = np.sqrt(z2 * spread) / (counts + z2)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
