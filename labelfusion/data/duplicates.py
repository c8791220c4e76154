"""Which texts are the same but for case and whitespace, and whether their labels agree.

Does not decide what becomes of them: see findings and splits.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labelfusion.types import Dataset


def normalised(text: str) -> str:
    """The text without differences of case, whitespace and Unicode composition."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


@dataclass(frozen=True)
class DuplicateGroups:
    """Groups of same texts among rows.

    Attributes:
        rows: (m,) positions in the Dataset that were compared, ascending.
        group: (m,) group number of each.
        first: (m,) bool, the first row of its group.
        conflicting: (m,) bool, the group's rows do not all have the same labels.
    """

    rows: np.ndarray
    group: np.ndarray
    first: np.ndarray
    conflicting: np.ndarray


def duplicate_groups(dataset: Dataset, rows: np.ndarray) -> DuplicateGroups:
    """Groups of same texts among the positions `rows` (m,) of a Dataset."""
    group, _ = pd.factorize(pd.Series([normalised(dataset.texts[i]) for i in rows], dtype="str"))
    first = ~pd.Series(group).duplicated().to_numpy(dtype=bool)
    _, labels = np.unique(dataset.targets[rows], axis=0, return_inverse=True)
    count = pd.Series(labels.ravel()).groupby(group).transform("nunique")
    return DuplicateGroups(rows, group, first, count.to_numpy() > 1)
