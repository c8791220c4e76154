"""Simulated rows of a run, for tests of review without a run folder."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labelfusion.review import ReviewRows
from labelfusion.types import LabelSpace, Prediction

WORDS = np.array([f"word{i}" for i in range(40)], dtype=object)


def simulated(
    n: int = 600,
    *,
    labels: tuple[str, ...] = ("billing", "delivery", "returns"),
    multi_label: bool = False,
    error: float | np.ndarray = 0.1,
    seed: int = 0,
) -> ReviewRows:
    """`n` rows whose fused labels are wrong with probability `error` (a number, or one a row)."""
    rng = np.random.default_rng(seed)
    space, k = LabelSpace(labels, multi_label), len(labels)
    gold = (
        rng.random((n, k)) < 0.4 if multi_label else np.eye(k, dtype=bool)[rng.integers(k, size=n)]
    )
    wrong = rng.random(n) < error
    decided = _spoilt(gold, wrong, multi_label, rng)
    answers = {
        name: _answer(space, _spoilt(gold, rng.random(n) < 0.3, multi_label, rng), rng)
        for name in ("ml", "llm")
    }
    texts = tuple(" ".join(row) for row in rng.choice(WORDS, (n, 8)))
    return ReviewRows(
        space=space,
        ids=np.array([f"T{i}" for i in range(n)], dtype=object),
        row_numbers=np.arange(n) + 2,
        split=np.where(np.arange(n) % 4 == 0, "test", "train").astype(object),
        gold=gold,
        decided=decided,
        probabilities=_probabilities(decided, rng, multi_label),
        sources=("ml", "llm"),
        answers=answers,
        informed=np.ones(n, dtype=bool),
        contributions=rng.normal(size=(n, 2, k)),
        texts=texts,
        metadata=pd.DataFrame({"channel": rng.choice(["mail", "chat", "phone"], n)}),
    )


def _spoilt(gold: np.ndarray, wrong: np.ndarray, multi_label: bool, rng) -> np.ndarray:
    spoilt = gold.copy()
    at = np.flatnonzero(wrong)
    if multi_label:
        spoilt[at, rng.integers(gold.shape[1], size=len(at))] ^= True
        return spoilt
    step = rng.integers(1, gold.shape[1], len(at))
    spoilt[at] = np.eye(gold.shape[1], dtype=bool)[(gold[at].argmax(axis=1) + step) % gold.shape[1]]
    return spoilt


def _probabilities(decided: np.ndarray, rng, multi_label: bool) -> np.ndarray:
    p = np.where(
        decided, rng.uniform(0.6, 0.99, decided.shape), rng.uniform(0.01, 0.4, decided.shape)
    )
    return p if multi_label else p / p.sum(axis=1, keepdims=True)


def _answer(space: LabelSpace, decided: np.ndarray, rng) -> Prediction:
    p = _probabilities(decided, rng, space.multi_label)
    present = np.ones((len(decided), 2), dtype=bool)
    return Prediction(space, p, decided, ("ml", "llm"), present)
