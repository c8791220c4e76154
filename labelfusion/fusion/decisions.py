"""From fused probabilities to labels: thresholds and the at-least-one rule, learned out of fold.

Multi-class needs neither (the most probable label wins). Knows nothing of sources.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from labelfusion.pooling import MIN_POSITIVES
from labelfusion.tasks import Task, evidence_present

# Log-odds from which a label may be given, probabilities .04 to .9: outside, a rule learned from
# some hundred rows says more about the rows than about the label.
_GRID = np.linspace(-3.2, 2.2, 55)
# A threshold far from one half must earn it: one at log-odds ±1 a point, one at ±2 four.
_PULL = 0.01


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
    """Thresholds for (n, k) out-of-fold evidence: high macro-F1 that does not cost exact matches.

    Simple before rich, by the sum of macro-F1 and exact match on the same rows: one threshold for
    all labels; then a threshold a label, if that is better by more than noise. A label's own lies
    between the one that is best on its positives and the one that its probabilities speak for
    (expected F1, the plug-in rule of Koyejo et al. 2014, §4), nearer to the latter the fewer
    positives there are.
    """
    rule = default_rule(task, targets)
    rows = evidence_present(z)
    z, targets = z[rows], targets[rows].astype(bool)
    if not task.multi_label or not targets.any():
        return rule

    def value(thresholds: np.ndarray) -> float:
        return _value(replace(rule, thresholds=thresholds).decide(z, task), targets)

    one_for_all = [np.full(z.shape[1], threshold) for threshold in _GRID]
    worth = np.array([value(t) for t in one_for_all]) - _PULL * _GRID**2
    shared = one_for_all[int(worth.argmax())]
    own = _own_thresholds(z, targets, task)
    # 1/(2√n) is the largest standard error that a share of n rows can have.
    worth_it = value(own) > value(shared) + 0.5 / np.sqrt(len(z))
    return replace(rule, thresholds=own if worth_it else shared)


def _value(decisions: np.ndarray, targets: np.ndarray) -> float:
    """Macro-F1 over the labels that occur, plus exact match."""
    seen = targets.any(axis=0)
    right = (decisions & targets).sum(axis=0)
    f1 = 2 * right / np.maximum(decisions.sum(axis=0) + targets.sum(axis=0), 1)
    return float(f1[seen].mean() + (decisions == targets).all(axis=1).mean())


def _own_thresholds(z: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    positives = targets.sum(axis=0)
    expected = _best_thresholds(z, task.probabilities(z))
    observed = _best_thresholds(z, targets.astype(float))
    trust = np.where(positives < MIN_POSITIVES, 0.0, positives / (positives + 2 * MIN_POSITIVES))
    return trust * observed + (1 - trust) * expected


def _best_thresholds(z: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(k,) thresholds that maximise F1 against (n, k) labels, or probabilities of labels."""
    given = [z >= threshold for threshold in _GRID]
    right = np.stack([(g * truth).sum(axis=0) for g in given])
    predicted = np.stack([g.sum(axis=0) for g in given])
    f1 = 2 * right / np.maximum(predicted + truth.sum(axis=0), 1e-12)
    return np.array([_GRID[_middle_of_best(column)] for column in f1.T])


def _middle_of_best(f1: np.ndarray) -> int:
    """The middle of the best plateau: its edges are accidents of single rows."""
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return int(best[np.abs(best - np.median(best)).argmin()])
