"""What differs between multi-class and multi-label, in two small objects of the same shape.

Everything else works on *evidence* `z` (n, k): log-probabilities for multi-class, log-odds for
multi-label. Knows no source, no fitting and no file.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.special import expit, log_softmax, logit, softmax

from labelfusion.types import LabelSpace, Signal, SignalKind

# Keeps log(1 - p) finite where a label is certain (log p = 0).
_TINY = 1e-12


def one_hot(codes: np.ndarray, k: int) -> np.ndarray:
    """(n,) integer codes -> (n, k) bool."""
    return np.eye(k, dtype=bool)[codes]


def score_floor(k: int) -> float:
    """Smallest probability taken at its word: .005, less for more than 10 labels."""
    return min(0.005, 0.05 / k)


class Task(Protocol):
    """The behaviour that depends on whether labels exclude each other."""

    multi_label: bool
    primary_metric: str

    def evidence(self, scores: np.ndarray, kind: SignalKind) -> np.ndarray:
        """(n, k) scores of a told kind -> (n, k) clipped evidence. NaN rows stay NaN."""
        ...

    def normalise(self, z: np.ndarray) -> np.ndarray:
        """Evidence with its free constant removed (log-softmax), if it has one."""
        ...

    def centre(self, z: np.ndarray) -> np.ndarray:
        """Evidence as a linear pool reads it: 0 says nothing (centred log-ratio, or log-odds)."""
        ...

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """(..., k) evidence -> probabilities."""
        ...

    def row_loss(self, z: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(..., n, k) evidence, (n, k) targets -> (..., n) negative log-likelihood in nats."""
        ...

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """(n, k) targets -> (k,) evidence of the smoothed class frequencies."""
        ...

    def log_odds(self, z: np.ndarray) -> np.ndarray:
        """(..., k) evidence -> log p/(1-p) of each label, the scale contributions are told in."""
        ...

    def decide(self, z: np.ndarray, thresholds: np.ndarray, at_least_one: bool) -> np.ndarray:
        """(n, k) evidence -> (n, k) bool. `thresholds` (k,) are log-odds; multi-label only."""
        ...


class MultiClass:
    """Exactly one label a text; evidence is log p, probabilities sum to 1."""

    multi_label = False
    primary_metric = "accuracy"

    def evidence(self, scores: np.ndarray, kind: SignalKind) -> np.ndarray:
        p = softmax(scores, axis=1) if kind == "logits" else np.asarray(scores, dtype=float)
        p = np.clip(p, 0.0, None)
        total = p.sum(axis=1, keepdims=True)
        # A row of zeros names no label at all: it is even, not a division by zero.
        p = np.where(total > 0, p / np.where(total > 0, total, 1.0), 1.0 / p.shape[1])
        p = np.where(np.isnan(scores), np.nan, p)
        return self.normalise(np.log(np.maximum(p, score_floor(p.shape[1]))))

    def normalise(self, z: np.ndarray) -> np.ndarray:
        return log_softmax(z, axis=-1)

    def centre(self, z: np.ndarray) -> np.ndarray:
        return z - z.mean(axis=-1, keepdims=True)

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        return softmax(z, axis=-1)

    def row_loss(self, z: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return -(log_softmax(z, axis=-1) * targets).sum(axis=-1)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        counts = targets.sum(axis=0) + 1.0
        return np.log(counts / counts.sum())

    def log_odds(self, z: np.ndarray) -> np.ndarray:
        log_p = np.minimum(log_softmax(z, axis=-1), -_TINY)
        return log_p - np.log(-np.expm1(log_p))

    def decide(self, z: np.ndarray, thresholds: np.ndarray, at_least_one: bool) -> np.ndarray:  # noqa: ARG002
        return one_hot(z.argmax(axis=1), z.shape[1])


class MultiLabel:
    """Any number of labels a text; evidence is log-odds, each label on its own."""

    multi_label = True
    primary_metric = "macro_f1"

    def evidence(self, scores: np.ndarray, kind: SignalKind) -> np.ndarray:
        p = expit(scores) if kind == "logits" else np.asarray(scores, dtype=float)
        floor = score_floor(1)
        return logit(np.clip(p, floor, 1 - floor))

    def normalise(self, z: np.ndarray) -> np.ndarray:
        return z

    def centre(self, z: np.ndarray) -> np.ndarray:
        return z

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        return expit(z)

    def row_loss(self, z: np.ndarray, targets: np.ndarray) -> np.ndarray:
        # log(1 + e^z) - y z, written so that neither large z nor -z overflows.
        return (np.logaddexp(0.0, z) - targets * z).sum(axis=-1)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        return logit((targets.sum(axis=0) + 1.0) / (len(targets) + 2.0))

    def log_odds(self, z: np.ndarray) -> np.ndarray:
        return z

    def decide(self, z: np.ndarray, thresholds: np.ndarray, at_least_one: bool) -> np.ndarray:
        margin = z - thresholds
        decided = margin >= 0
        if at_least_one:
            decided |= one_hot(margin.argmax(axis=1), z.shape[1]) & ~decided.any(1, keepdims=True)
        return decided


def task_for(space: LabelSpace) -> Task:
    """The one place where multi-class and multi-label part."""
    return MultiLabel() if space.multi_label else MultiClass()


def signal_evidence(task: Task, signal: Signal) -> np.ndarray:
    """(n, k) evidence of a signal; missing rows are NaN."""
    return task.evidence(signal.scores, signal.kind)


def evidence_present(evidence: np.ndarray) -> np.ndarray:
    """(..., k) evidence -> (...) bool, whether the row is there."""
    return np.asarray(~np.isnan(evidence).any(axis=-1))
