"""Combiners that others use: voting, the weighted average, and one source for each label.

They are candidates like the pools, so that a run shows what the simple ways would have given.
Know calibrated evidence of a few sources. Do not know whether they are worth having.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelfusion.pooling import MIN_POSITIVES
from labelfusion.tasks import Task, one_hot

_EM_STEPS = 200
_EM_TOLERANCE = 1e-6
_TINY = 1e-12


@dataclass(frozen=True)
class Vote:
    """Each source has a vote a label; the mean of the probabilities votes too and breaks ties."""

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence -> (n, k) evidence."""
        given = evidence > 0
        if not task.multi_label:
            given = np.stack([one_hot(z.argmax(axis=1), z.shape[1]) for z in evidence])
        votes = given.sum(axis=0) + task.probabilities(evidence).mean(axis=0)
        votes[np.isnan(evidence).any(axis=(0, 2))] = np.nan
        return task.evidence(votes / (len(evidence) + 1), "probabilities")


@dataclass(frozen=True)
class WeightedAverage:
    """The linear opinion pool Σ_s w_s p_s (Stone 1961). `weights` (S,) ≥ 0 sum to 1."""

    weights: np.ndarray

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence -> (n, k) evidence."""
        mixed = np.tensordot(self.weights, task.probabilities(evidence), axes=1)
        return task.evidence(mixed, "probabilities")


@dataclass(frozen=True)
class ClassRouting:
    """Each label is taken from the one source that knows it best. `source` (k,) positions."""

    source: np.ndarray

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence -> (n, k) evidence."""
        p = task.probabilities(evidence)
        routed = p[self.source, :, np.arange(p.shape[2])].T.copy()
        routed[np.isnan(evidence).any(axis=(0, 2))] = np.nan
        return task.evidence(routed, "probabilities")


def fit_weights(evidence: np.ndarray, targets: np.ndarray, task: Task) -> WeightedAverage:
    """Weights of greatest likelihood, by expectation-maximisation (Dempster et al. 1977, §4.3).

    Args:
        evidence: (S, n, k), no row missing. Each source counts as one answer before any was seen.
    """
    p = task.probabilities(evidence)
    right = np.where(targets.astype(bool), p, 1 - p)
    likelihood = right.reshape(len(p), -1) if task.multi_label else (p * targets).sum(axis=2)
    weights = np.full(len(p), 1 / len(p))
    for _ in range(_EM_STEPS):
        joint = weights[:, None] * np.maximum(likelihood, _TINY)
        share = (joint / joint.sum(axis=0)).sum(axis=1) + 1.0
        moved = share / share.sum() - weights
        weights = weights + moved
        if np.abs(moved).max() < _EM_TOLERANCE:
            break
    return WeightedAverage(weights)


def fit_routing(evidence: np.ndarray, targets: np.ndarray, task: Task) -> ClassRouting:
    """For each label the source with the lowest one-vs-rest log-loss; for rare labels, of all."""
    p = np.clip(task.probabilities(evidence), _TINY, 1 - _TINY)
    y = targets.astype(bool)
    losses = -np.where(y, np.log(p), np.log1p(-p)).sum(axis=1)
    best = losses.argmin(axis=0)
    rare = y.sum(axis=0) < MIN_POSITIVES
    best[rare] = losses.sum(axis=1).argmin()
    return ClassRouting(best)
