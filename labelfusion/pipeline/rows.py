"""Which rows of a dataset a run uses for what. Knows positions, and nothing of sources."""

from __future__ import annotations

import numpy as np

from labelfusion.llm import TrainingTexts
from labelfusion.types import Dataset, Rows, Split


def scored_rows(split: Split) -> np.ndarray:
    """Positions of the rows that every LLM source scores, in the order they are asked about."""
    return np.concatenate([split.train, split.test, split.predict])


def training_texts(dataset: Dataset, split: Split) -> TrainingTexts:
    """The rows that few-shot examples may be drawn from."""
    rows = rows_at(dataset, split.train)
    return TrainingTexts(rows.ids, rows.texts, dataset.targets[split.train])


def rows_at(dataset: Dataset, positions: np.ndarray) -> Rows:
    """The rows at integer positions, in that order."""
    return Rows(ids=dataset.ids[positions].tolist(), texts=[dataset.texts[i] for i in positions])
