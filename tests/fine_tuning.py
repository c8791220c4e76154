"""Data and interruptions for the tests that fine-tune a tiny transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.encoders.optimisation import Learner
from labelfusion.types import Event, LabelSpace
from tests.tiny_transformer import WORDS

SPACE = LabelSpace(("delivery", "billing"), multi_label=False)


def word_rows(n: int, space: LabelSpace = SPACE) -> tuple[list[str], np.ndarray]:
    """Texts whose label j is said by the j-th word (any number of them for multi-label)."""
    rng = np.random.default_rng(5)
    targets = np.eye(len(space), dtype=np.int8)[rng.integers(len(space), size=n)]
    if space.multi_label:
        targets = (rng.random((n, len(space))) < 0.4).astype(np.int8)
    words = WORDS[len(space) :]
    texts = [
        " ".join([*np.array(WORDS)[: len(space)][row > 0], *rng.choice(words, rng.integers(1, 9))])
        for row in targets
    ]
    return texts, targets


def notes(events: list[Event], key: str) -> list[Event]:
    return [event for event in events if event.status == "note" and key in event.data]


class Interrupted(Exception):
    """Stands for a process that is killed."""


def interrupt_at_step(monkeypatch, number: int) -> None:
    steps, step = [], Learner.step

    def interrupted(self, *args):
        steps.append(1)
        if len(steps) > number:
            raise Interrupted
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", interrupted)


def run_settings(
    folder: Path,
    model: Path,
    texts: list[str],
    targets: np.ndarray,
    *,
    space: LabelSpace = SPACE,
    scored: np.ndarray | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Write texts, labels and noisy LLM scores (of the rows `scored`), and configure a run."""
    ids = [f"r{i}" for i in range(len(texts))]
    labels = pd.DataFrame(targets, columns=list(space.names))
    pd.DataFrame({"id": ids, "text": texts}).join(labels).to_csv(folder / "data.csv", index=False)
    noisy = 0.6 * targets + 0.4 * np.random.default_rng(0).random(targets.shape)
    if not space.multi_label:
        noisy /= noisy.sum(axis=1, keepdims=True)
    scores = pd.DataFrame(noisy, columns=list(space.names)).assign(id=ids)
    kept = np.ones(len(texts), dtype=bool) if scored is None else scored
    scores[kept].to_csv(folder / "scores.csv", index=False)
    data = {"path": str(folder / "data.csv"), "id_column": "id", "deduplicate": False}
    layout = {"label_columns": list(space.names), "multi_label": space.multi_label}
    return {
        "data": data | layout,
        "llm_scores": str(folder / "scores.csv"),
        "ml": {
            "encoder": str(model),
            "fine_tune": True,
            "training": {"epochs": 3, "learning_rate": 1e-2} | training,
        },
        "fusion": {"cv_repeats": 1, "cv_folds": 3},
        "evaluation": {"bootstrap_draws": 100},
    }
