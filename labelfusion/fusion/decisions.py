"""From fused probabilities to labels: thresholds and the at-least-one rule, learned out of fold.

Multi-class needs neither (the most probable label wins). Knows nothing of sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from labelfusion.pooling import MIN_POSITIVES
from labelfusion.tasks import Task, evidence_present

# Thresholds are looked for between probabilities .1 and .9: outside, a rule learned from some
# hundred rows says more about the rows than about the label.
_GRID = np.linspace(-2.2, 2.2, 45)


@dataclass(frozen=True)
class DecisionRule:
    """When a label is given.

    Attributes:
        thresholds: (k,) log-odds from which a label is given (multi-label).
        at_least_one: every text gets at least its nearest label, because every labelled row did.
    """

    thresholds: np.ndarray
    at_least_one: bool

    def decide(self, z: np.ndarray, task: Task) -> np.ndarray:
        """(n, k) evidence -> (n, k) bool."""
        return task.decide(z, self.thresholds, self.at_least_one)

    @property
    def probabilities(self) -> np.ndarray:
        """(k,) thresholds as probabilities."""
        return expit(self.thresholds)


def default_rule(task: Task, targets: np.ndarray) -> DecisionRule:
    """One half for every label, and the at-least-one rule if the labelled rows follow it."""
    every_row = bool(len(targets)) and bool(targets.any(axis=1).all())
    return DecisionRule(np.zeros(targets.shape[1]), task.multi_label and every_row)


def learn_rule(z: np.ndarray, targets: np.ndarray, task: Task) -> DecisionRule:
    """Thresholds that maximise F1 on (n, k) out-of-fold evidence (Lipton et al. 2014, §3).

    A label's own threshold is shrunk towards the one shared by all labels, the more the fewer
    positives it has; below `MIN_POSITIVES` the shared one is used. The thresholds are kept only
    if they do not cost exact matches on the rows they were learned from.
    """
    rule = default_rule(task, targets)
    rows = evidence_present(z)
    z, targets = z[rows], targets[rows].astype(bool)
    if not task.multi_label or targets.sum() < MIN_POSITIVES:
        return rule
    tuned = DecisionRule(_shrunk_thresholds(z, targets), rule.at_least_one)
    exact, exact_tuned = ((r.decide(z, task) == targets).all(axis=1).mean() for r in (rule, tuned))
    return tuned if exact_tuned >= exact else rule


def _shrunk_thresholds(z: np.ndarray, targets: np.ndarray) -> np.ndarray:
    positives = targets.sum(axis=0)
    true, predicted = _counts(z, targets)
    shared = _GRID[_best(2 * true.sum(axis=1) / (predicted.sum(axis=1) + positives.sum()))]
    f1 = 2 * true / np.maximum(predicted + positives, 1)
    own = np.array([_GRID[_best(f1[:, j])] for j in range(z.shape[1])])
    trust = np.where(positives < MIN_POSITIVES, 0.0, positives / (positives + 2 * MIN_POSITIVES))
    return trust * own + (1 - trust) * shared


def _counts(z: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(g, k) true positives and predicted positives at each threshold of the grid."""
    given = [z >= threshold for threshold in _GRID]
    true = np.stack([(g & targets).sum(axis=0) for g in given])
    return true, np.stack([g.sum(axis=0) for g in given])


def _best(f1: np.ndarray) -> int:
    """The middle of the best plateau: its edges are accidents of single rows."""
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return int(best[np.abs(best - np.median(best)).argmin()])
