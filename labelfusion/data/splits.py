"""Which labelled rows are for training and which for the final test.

Knows the user's own split, duplicates and the stratified draw. Does not know folds' use or models.
"""

from __future__ import annotations

import numpy as np

from labelfusion.config import DataConfig
from labelfusion.data.duplicates import duplicate_groups
from labelfusion.data.stratification import stratified_test_rows
from labelfusion.errors import InputError
from labelfusion.types import Dataset, Split

# Below this many labelled rows a test part would say nothing: all of them are trained on.
MIN_LABELLED = 10


def make_split(dataset: Dataset, config: DataConfig, seed: int) -> Split:
    """Divide the labelled rows into training and test.

    The user's own split is taken as it is. Otherwise the same texts (but for case and whitespace)
    are reduced to the first of them, and left out where their labels disagree, so that no text is
    in both parts; then a share `config.test_size` is drawn, stratified by label. Fewer than
    MIN_LABELLED rows are all for training. The same seed gives the same split. Where there are no
    test rows, the rows without a label are to be predicted; else they are in no part, as those that
    are left out.

    Raises:
        InputError: There is no text, or the data know one label only (multi-class).
    """
    _check_labels(dataset)
    rows = np.flatnonzero(dataset.labelled)
    if dataset.split is not None:
        part = dataset.split[rows]
        return _checked(dataset, rows[part == "train"], rows[part == "test"])
    if config.deduplicate and len(rows):
        groups = duplicate_groups(dataset, rows)
        rows = rows[groups.first & ~groups.conflicting]
    if len(rows) < MIN_LABELLED:
        return _checked(dataset, rows, rows[:0])
    rng = np.random.default_rng(seed)
    in_test = stratified_test_rows(dataset.targets[rows], dataset.space, config.test_size, rng)
    return _checked(dataset, rows[~in_test], rows[in_test])


def _checked(dataset: Dataset, train: np.ndarray, test: np.ndarray) -> Split:
    unlabelled = np.flatnonzero(~dataset.labelled)
    written = np.array([bool(dataset.texts[i]) for i in unlabelled], dtype=bool)
    split = Split(train, test, unlabelled[:0] if len(test) else unlabelled[written])
    if not len(train) + len(test) + len(split.predict):
        raise InputError(
            "There is no text to label or to learn from",
            where=dataset.name,
            expected="at least one row with a text",
            found=f"{len(dataset)} rows",
            remedy="Check data.text_columns",
        )
    return split


def _check_labels(dataset: Dataset) -> None:
    if len(dataset.space) < 2 and not dataset.space.multi_label:
        raise InputError(
            "All usable rows have the same label",
            where=dataset.name,
            expected="at least two labels, in the rows or named in data.labels",
            found=f"only {dataset.space.names[0]!r}",
            remedy="Add rows of another label, or describe the other labels in data.labels",
        )
