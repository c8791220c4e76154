"""Random targets and system outputs for the evaluation tests."""

from __future__ import annotations

import numpy as np

from labelfusion.evaluation import SystemOutput
from labelfusion.types import LabelSpace


def make_space(k: int, multi_label: bool) -> LabelSpace:
    return LabelSpace(tuple(f"label{j}" for j in range(k)), multi_label)


def make_targets(n: int, k: int, multi_label: bool, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if multi_label:
        return (rng.random((n, k)) < 0.3).astype(np.int8)
    return np.eye(k, dtype=np.int8)[rng.integers(0, k, n)]


def make_system(
    targets: np.ndarray, multi_label: bool, seed: int = 0, skill: float = 1.5
) -> SystemOutput:
    rng = np.random.default_rng(1000 + seed)
    z = rng.normal(size=targets.shape) + skill * targets
    if multi_label:
        p = 1 / (1 + np.exp(1 - z))
        return SystemOutput(p, p > 0.5, 0.9, np.full(targets.shape[1], 0.5))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return SystemOutput(p, np.eye(targets.shape[1], dtype=bool)[p.argmax(axis=1)])
