"""Reliability diagrams as data: what was stated, what came true, and how sure that is.

Knows stated probabilities and outcomes. Draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr

from labelfusion.evaluation.intervals import wilson_interval
from labelfusion.evaluation.metrics import (
    equal_mass_bins,
    equal_width_bins,
    stated_and_observed,
)
from labelfusion.types import LabelSpace

RELIABILITY_BINS = 10
HISTOGRAM_BINS = 20
# Fewer values than this a bin, and a frequency says next to nothing: use fewer bins instead.
SMALLEST_BIN = 10

Bin = dict[str, float]


def reliability_bins(
    stated: np.ndarray, observed: np.ndarray, confidence: float = 0.95
) -> list[Bin]:
    """Equal-mass bins of (m,) stated probabilities and (m,) outcomes, lowest first; [] for m = 0.

    At most 10 bins, fewer where a bin would hold less than 10 values. `low` and `high` are the
    smallest and largest value in the bin; `observed_low/high` the Wilson interval of the observed
    frequency; `expected_low/high` the consistency band: where the observed frequency would lie
    were the stated probabilities right (Broecker & Smith 2007). The band is that of a binomial at
    the bin's mean in place of their resampling: exact for equal values, else slightly wide.
    """
    if not len(stated):
        return []
    n_bins = int(np.clip(len(stated) // SMALLEST_BIN, 1, RELIABILITY_BINS))
    index = equal_mass_bins(stated, n_bins)
    counts = np.bincount(index)
    hits = np.bincount(index, weights=observed)
    mean = np.bincount(index, weights=stated) / counts
    columns = {
        "low": _per_bin(np.minimum, stated, index, len(counts)),
        "high": _per_bin(np.maximum, stated, index, len(counts)),
        "mean_predicted": mean,
        "observed": hits / counts,
        "count": counts,
    }
    columns["observed_low"], columns["observed_high"] = wilson_interval(hits, counts, confidence)
    columns["expected_low"], columns["expected_high"] = consistency_band(mean, counts, confidence)
    return [
        {name: values[b].item() for name, values in columns.items()} for b in range(len(counts))
    ]


def _per_bin(ufunc: np.ufunc, values: np.ndarray, index: np.ndarray, n_bins: int) -> np.ndarray:
    start = np.inf if ufunc is np.minimum else -np.inf
    out = np.full(n_bins, start)
    ufunc.at(out, index, values)
    return out


def consistency_band(
    mean: np.ndarray, counts: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Binomial quantiles of the frequency at (b,) means and (b,) counts, in 0..1."""
    tail = (1 - confidence) / 2
    bands = [
        np.searchsorted(bdtr(np.arange(count), count, min(p, 1.0)), [tail, 1 - tail]) / count
        for p, count in zip(mean, counts, strict=True)
    ]
    low, high = np.asarray(bands).T
    return low, high


def reliability(
    targets: np.ndarray, probabilities: np.ndarray, space: LabelSpace, confidence: float
) -> dict[str, Any]:
    """{"overall": bins, "labels": {label: bins}, "histogram": {"overall": counts, "labels": …}}.

    See `stated_and_observed` for overall. Counts are of HISTOGRAM_BINS equal-width bins of 0..1:
    how often which probability is stated, which bins of equal mass do not show.
    """
    pairs = {
        label: (probabilities[:, j], targets[:, j].astype(bool))
        for j, label in enumerate(space.names)
    }
    stated, observed = stated_and_observed(targets, probabilities, space)
    return {
        "overall": reliability_bins(stated, observed, confidence),
        "labels": {label: reliability_bins(*pair, confidence) for label, pair in pairs.items()},
        "histogram": {
            "overall": _histogram(stated),
            "labels": {label: _histogram(p) for label, (p, _) in pairs.items()},
        },
    }


def _histogram(stated: np.ndarray) -> list[int]:
    bins = equal_width_bins(stated, HISTOGRAM_BINS)
    return np.bincount(bins, minlength=HISTOGRAM_BINS).tolist()


def describe_reliability(bins: Sequence[Mapping[str, float]]) -> str:
    """One line that reads a diagram, such as 'At 0.90 confidence it is right 81 % of the time …'.

    Reads the bin that is furthest off, weighted by its count, among those that calibrated
    probabilities would hardly give (exact binomial p < 0.05 over all bins, Bonferroni); where there
    is none, the most confident bin.
    """
    if not bins:
        return "There are no labelled texts to read the confidence against."
    off = [b for b in bins if _binomial_p(b) * len(bins) < 0.05]
    if not off:
        return _read_bin(bins[-1], "no sign of miscalibration beyond chance")
    worst = max(off, key=lambda b: b["count"] * abs(b["observed"] - b["mean_predicted"]))
    over = worst["observed"] < worst["mean_predicted"]
    return _read_bin(worst, "over-confident" if over else "under-confident")


def _binomial_p(b: Mapping[str, float]) -> float:
    """Two-sided p-value (smaller tail doubled) of a bin's count, had it stated the truth."""
    hits, stated = round(b["observed"] * b["count"]), min(b["mean_predicted"], 1.0)
    at_most = bdtr(hits, b["count"], stated)
    at_least = 1 - bdtr(hits - 1, b["count"], stated) if hits else 1.0
    return 2 * float(min(at_most, at_least))


def _read_bin(b: Mapping[str, float], verdict: str) -> str:
    return (
        f"At {b['mean_predicted']:.2f} confidence it is right {100 * b['observed']:.0f} % of the "
        f"time ({100 * b['observed_low']:.0f} to {100 * b['observed_high']:.0f} % from "
        f"{b['count']:.0f}): {verdict}."
    )
