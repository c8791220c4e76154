"""Signals drawn for tests: sources of known quality, with rows that are missing."""

from __future__ import annotations

import numpy as np

from labelfusion.evaluation.metrics import LabelCounts
from labelfusion.types import LabelSpace, Signal, SignalKind


def space(k: int, *, multi_label: bool = False) -> LabelSpace:
    return LabelSpace(tuple(f"label{j}" for j in range(k)), multi_label)


def draw_targets(n: int, k: int, seed: int, *, multi_label: bool = False) -> np.ndarray:
    """(n, k) indicators; about a quarter of the labels of a multi-label row."""
    rng = np.random.default_rng(seed)
    if multi_label:
        return (rng.random((n, k)) < 0.25).astype(np.int8)
    return np.eye(k, dtype=np.int8)[rng.integers(0, k, n)]


def draw_signal(
    name: str,
    targets: np.ndarray,
    seed: int,
    *,
    strength: float = 2.0,
    present: float = 1.0,
    kind: SignalKind = "logits",
) -> Signal:
    """Noisy scores of the targets; `strength` in standard deviations, 0 is chance."""
    rng = np.random.default_rng(seed)
    logits = strength * targets + rng.normal(size=targets.shape)
    shown = rng.random(len(targets)) < present
    if kind == "hard":
        scores = np.eye(targets.shape[1])[logits.argmax(axis=1)]
    elif kind == "probabilities":
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    else:
        scores = logits
    return Signal(name, np.where(shown[:, None], scores, np.nan), kind, shown)


def accuracy(decisions: np.ndarray, targets: np.ndarray) -> float:
    return float((decisions == targets).all(axis=1).mean())


def worth(decisions: np.ndarray, targets: np.ndarray, names: LabelSpace) -> float:
    """Accuracy; for multi-label the mean of macro-F1 and exact match, which decisions weigh."""
    exact = accuracy(decisions, targets)
    if not names.multi_label:
        return exact
    return (exact + float(LabelCounts.of(targets, decisions).macro_f1())) / 2
