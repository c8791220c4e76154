"""Precision-recall and ROC curves of one label, or of all (text, label) pairs together.

Knows scores and outcomes. Does not choose a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_CURVE_POINTS = 200


@dataclass(frozen=True)
class Curve:
    """A curve from the highest threshold to the lowest, each array of at most MAX_CURVE_POINTS.

    Attributes:
        x, y: recall and precision, or false and true positive rate, 0..1.
        thresholds: the label is given from this score on; infinity gives it to none.
        area: of the whole curve, before it was thinned.
    """

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray
    area: float


def precision_recall(observed: np.ndarray, scores: np.ndarray) -> Curve | None:
    """Precision over recall of (m,) bool outcomes and (m,) scores; None if none came true.

    The area is the average precision, a step function as scikit-learn has it: interpolating between
    points is too optimistic (Davis & Goadrich 2006).
    """
    hits, alarms, thresholds = _counts(observed, scores)
    if not len(hits) or not hits[-1]:
        return None
    recall, precision = hits / hits[-1], hits / (hits + alarms)
    area = float((np.diff(recall, prepend=0.0) * precision).sum())
    return _thinned(recall, precision, thresholds, area)


def roc(observed: np.ndarray, scores: np.ndarray) -> Curve | None:
    """True over false positive rate; None unless some came true and some did not.

    The area is the chance that one that came true has the higher score (Hanley & McNeil 1982).
    """
    hits, alarms, thresholds = _counts(observed, scores)
    if not len(hits) or not hits[-1] or not alarms[-1]:
        return None
    x, y = np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])
    return _thinned(x, y, np.append(np.inf, thresholds), float(np.trapezoid(y, x)))


def _counts(observed: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives at each distinct score as threshold, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], observed[order].astype(np.int64)
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else []
    at = np.asarray(last, dtype=int)
    hits = right.cumsum()[at]
    return hits, at + 1 - hits, ranked[at]


def _thinned(x: np.ndarray, y: np.ndarray, thresholds: np.ndarray, area: float) -> Curve:
    """Points evenly spaced along the curve, its ends among them."""
    if len(x) > MAX_CURVE_POINTS:
        along = np.append(0.0, (np.abs(np.diff(x)) + np.abs(np.diff(y))).cumsum())
        wanted = np.linspace(0, along[-1], MAX_CURVE_POINTS - 1)
        kept = np.unique(np.append(np.searchsorted(along, wanted), len(x) - 1))
        x, y, thresholds = x[kept], y[kept], thresholds[kept]
    return Curve(x, y, thresholds, area)
