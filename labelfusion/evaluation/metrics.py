"""How right and how calibrated a system's output is, as numbers.

Knows targets, probabilities and decisions of one system. Does not know where they came from, nor
uncertainty (intervals), nor other systems (comparison). A value that does not exist (no rows) is
NaN here; `report` writes it as None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import dct, idct

from labelfusion.types import LabelSpace

SMALLEST_PROBABILITY = 1e-12
CALIBRATION_BINS = 15
# Stated probabilities are rounded to a grid this fine, which moves smooth ECE by about as much.
SMOOTH_GRID = 1000
_BISECTIONS = 40
PROBABILITY_METRICS = ("nll", "brier", "ece_classwise", "ece_mass", "ece_smooth")


@dataclass(frozen=True)
class LabelCounts:
    """Sums over rows from which every F1 but samples-F1 follows.

    Each array is (..., k): leading axes are bootstrap draws, or absent.

    Attributes:
        hits: rows where the label is both right and given (true positives).
        predicted: rows where the label is given.
        support: rows where the label is right.
    """

    hits: np.ndarray
    predicted: np.ndarray
    support: np.ndarray

    @staticmethod
    def of(targets: np.ndarray, decisions: np.ndarray) -> LabelCounts:
        """Counts of (n, k) targets and (n, k) decisions."""
        gold, given = targets.astype(bool), decisions.astype(bool)
        return LabelCounts((gold & given).sum(0), given.sum(0), gold.sum(0))

    def precision(self) -> np.ndarray:
        """(..., k); 0 for a label that is never given."""
        return _ratio(self.hits, self.predicted)

    def recall(self) -> np.ndarray:
        """(..., k); 0 for a label without support."""
        return _ratio(self.hits, self.support)

    def f1(self) -> np.ndarray:
        """(..., k); 0 for a label that is never given, never right, or neither."""
        return _ratio(2 * self.hits, self.predicted + self.support)

    def macro_f1(self) -> np.ndarray:
        """Plain mean of `f1` over *all* labels of the space.

        A label without support counts as 0, as in scikit-learn with ``labels`` given and
        ``zero_division=0``: the figure cannot reach 1 on rows that lack a label.
        """
        return self.f1().mean(axis=-1)

    def micro_f1(self) -> np.ndarray:
        """F1 of all (row, label) pairs together; 0 if no pair is given or right."""
        total = self.predicted.sum(axis=-1) + self.support.sum(axis=-1)
        return _ratio(2 * self.hits.sum(axis=-1), total)

    def weighted_f1(self) -> np.ndarray:
        """Mean of `f1` weighted by support: a label without support has no weight."""
        return _ratio((self.f1() * self.support).sum(axis=-1), self.support.sum(axis=-1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, 0 where the denominator is 0."""
    denominator = np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def exact_match(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """(n,) bool: every label of the row is decided rightly (multi-class: the class is right)."""
    return (targets.astype(bool) == decisions.astype(bool)).all(axis=1)


def row_nll(targets: np.ndarray, probabilities: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(n,) negative log-likelihood in nats; probabilities are clipped at 1e-12.

    Multi-class: -log p of the right class. Multi-label: summed over the labels of the text.
    """
    gold = targets.astype(bool)
    right = -np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))
    if not space.multi_label:
        return np.where(gold, right, 0.0).sum(axis=1)
    wrong = -np.log(np.clip(1.0 - probabilities, SMALLEST_PROBABILITY, 1.0))
    return np.where(gold, right, wrong).sum(axis=1)


def row_brier(targets: np.ndarray, probabilities: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(n,) squared error of the probabilities (Brier 1950).

    Multi-class: summed over classes, 0..2. Multi-label: mean over labels, 0..1.
    """
    squares = (probabilities - targets) ** 2
    return squares.mean(axis=1) if space.multi_label else squares.sum(axis=1)


def row_samples_f1(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """(n,) F1 of each row's own label set; 0 for a row with no label right and none given."""
    gold, given = targets.astype(bool), decisions.astype(bool)
    return _ratio(2 * (gold & given).sum(axis=1), gold.sum(axis=1) + given.sum(axis=1))


def stated_and_observed(
    targets: np.ndarray, probabilities: np.ndarray, space: LabelSpace
) -> tuple[np.ndarray, np.ndarray]:
    """What the system states overall and whether it came true: two arrays of the same length.

    Multi-class: the top label's probability, one a text (Guo et al. 2017, section 2). Multi-label:
    every (text, label) pair on its own; pairs of one text are not independent, so intervals over
    them are somewhat too narrow.
    """
    if space.multi_label:
        return probabilities.ravel(), targets.ravel().astype(bool)
    rows, top = np.arange(len(targets)), probabilities.argmax(axis=1)
    return probabilities[rows, top], targets[rows, top].astype(bool)


def equal_width_bins(stated: np.ndarray, n_bins: int) -> np.ndarray:
    """(m,) index of each stated probability's bin; bins are (i/n_bins, (i+1)/n_bins]."""
    return np.clip(np.ceil(stated * n_bins).astype(int) - 1, 0, n_bins - 1)


def equal_mass_bins(stated: np.ndarray, n_bins: int) -> np.ndarray:
    """(m,) index of each stated probability's bin, bins holding about equally many.

    Equal values share a bin, so there may be fewer bins than asked for; none is empty.
    """
    if not len(stated):
        return np.zeros(0, dtype=int)
    quantiles = np.arange(1, n_bins + 1) / n_bins
    upper = np.unique(np.quantile(stated, quantiles, method="inverted_cdf"))
    return np.searchsorted(upper, stated, side="left")


def binned_calibration_error(stated: np.ndarray, observed: np.ndarray, bins: np.ndarray) -> float:
    """Mean over values of their bin's |mean stated - observed frequency|; NaN for no values.

    With few values a bin it is biased upwards even for perfect calibration (Kumar et al. 2019,
    section 5): compare systems on the same rows, and do not read it as a distance from truth.
    """
    if not len(stated):
        return float("nan")
    return float(np.abs(np.bincount(bins, weights=stated - observed)).sum() / len(stated))


def ece_classwise(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Classwise expected calibration error, 0..1: mean over labels, 15 equal-width bins each.

    Kull et al. 2019 (Dirichlet calibration), section 2; the static calibration error of Nixon et
    al. 2019. Labels without support count: what is stated for them is then simply too much.
    """
    errors = [
        binned_calibration_error(p, y, equal_width_bins(p, CALIBRATION_BINS))
        for p, y in zip(probabilities.T, targets.T, strict=True)
    ]
    return float(np.mean(errors))


def ece_mass(targets: np.ndarray, probabilities: np.ndarray, space: LabelSpace) -> float:
    """Expected calibration error of `stated_and_observed`, 0..1, over 15 equal-mass bins.

    Equal-mass (adaptive) bins: Nixon et al. 2019; the l1 error of a binned forecast.
    """
    stated, observed = stated_and_observed(targets, probabilities, space)
    return binned_calibration_error(stated, observed, equal_mass_bins(stated, CALIBRATION_BINS))


def ece_smooth(targets: np.ndarray, probabilities: np.ndarray, space: LabelSpace) -> float:
    """Smooth ECE of `stated_and_observed`, 0..1: no bins, so no choice of bins."""
    return smooth_calibration_error(*stated_and_observed(targets, probabilities, space))


def smooth_calibration_error(stated: np.ndarray, observed: np.ndarray) -> float:
    """Smooth calibration error of (m,) stated probabilities, 0..1; NaN for no values.

    Błasiok & Nakkiran 2023 ("Smooth ECE: Principled Reliability Diagrams via Kernel
    Smoothing", section 3): the residuals observed - stated are smoothed over the stated probability
    by a Gaussian kernel of width s that is reflected at 0 and 1, and s is the one width at which
    the mean absolute value left, which falls as s grows, is s itself. The reflected kernel is the
    heat kernel of [0, 1] with closed ends, which a cosine transform makes a product: frequency j is
    damped by exp(-(pi j s)^2 / 2).
    """
    if not len(stated):
        return float("nan")
    cell = np.minimum((stated * SMOOTH_GRID).astype(int), SMOOTH_GRID - 1)
    residuals = np.bincount(cell, weights=observed - stated, minlength=SMOOTH_GRID) / len(stated)
    waves = np.asarray(dct(residuals, norm="ortho"))
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        width = (low + high) / 2
        low, high = (width, high) if _left_at(width, waves) > width else (low, width)
    return high


def _left_at(width: float, waves: np.ndarray) -> float:
    """Sum over the grid of what smoothing with this width leaves of the residuals."""
    damping = np.exp(-((np.pi * width * np.arange(len(waves))) ** 2) / 2)
    return float(np.abs(np.asarray(idct(waves * damping, norm="ortho"))).sum())


def probability_metrics(
    targets: np.ndarray, probabilities: np.ndarray, space: LabelSpace
) -> dict[str, float]:
    """PROBABILITY_METRICS of (n, k) probabilities; NaN for n = 0."""
    if not len(targets):
        return dict.fromkeys(PROBABILITY_METRICS, float("nan"))
    return {
        "nll": float(row_nll(targets, probabilities, space).mean()),
        "brier": float(row_brier(targets, probabilities, space).mean()),
        "ece_classwise": ece_classwise(targets, probabilities),
        "ece_mass": ece_mass(targets, probabilities, space),
        "ece_smooth": ece_smooth(targets, probabilities, space),
    }


def decision_metrics(targets: np.ndarray, decisions: np.ndarray) -> dict[str, float]:
    """accuracy and macro, micro, weighted and samples F1 of (n, k) decisions; NaN for n = 0."""
    names = ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "samples_f1")
    if not len(targets):
        return dict.fromkeys(names, float("nan"))
    counts = LabelCounts.of(targets, decisions)
    values = (
        exact_match(targets, decisions).mean(),
        counts.macro_f1(),
        counts.micro_f1(),
        counts.weighted_f1(),
        row_samples_f1(targets, decisions).mean(),
    )
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def evaluate(
    targets: np.ndarray, probabilities: np.ndarray, decisions: np.ndarray, space: LabelSpace
) -> dict[str, float]:
    """Every metric of metrics.json for (n, k) arrays.

    Accuracy is exact match for multi-label. See `LabelCounts.macro_f1` for labels without support.
    """
    return decision_metrics(targets, decisions) | probability_metrics(targets, probabilities, space)


def confusion(targets: np.ndarray, decisions: np.ndarray, space: LabelSpace) -> list[list[int]]:
    """k x k counts, rows gold and columns decided; multi-label: k rows of [tn, fp, fn, tp]."""
    gold, given = targets.astype(np.int64), decisions.astype(np.int64)
    if not space.multi_label:
        return (gold.T @ given).tolist()
    counts = LabelCounts.of(targets, decisions)
    false_alarms, misses = counts.predicted - counts.hits, counts.support - counts.hits
    quiet = len(targets) - counts.hits - false_alarms - misses
    return np.stack([quiet, false_alarms, misses, counts.hits], axis=1).tolist()


def per_label(
    targets: np.ndarray,
    decisions: np.ndarray,
    space: LabelSpace,
    thresholds: np.ndarray | None = None,
) -> list[dict[str, object]]:
    """One record a label: label, precision, recall, f1, support, predicted, threshold (or None)."""
    counts = LabelCounts.of(targets, decisions)
    precision, recall, f1 = counts.precision(), counts.recall(), counts.f1()
    return [
        {
            "label": label,
            "precision": float(precision[j]),
            "recall": float(recall[j]),
            "f1": float(f1[j]),
            "support": int(counts.support[j]),
            "predicted": int(counts.predicted[j]),
            "threshold": None if thresholds is None else float(thresholds[j]),
        }
        for j, label in enumerate(space.names)
    ]
