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

MIN_LABELLED = 10


def make_split(dataset: Dataset, config: DataConfig, seed: int) -> Split:
    """Divide the labelled rows into training and test.

    The user's own split is taken as it is. Otherwise the same texts (but for case and whitespace)
    are reduced to the first of them, and left out where their labels disagree, so that no text is
    in both parts; then a share `config.test_size` is drawn, stratified by label. The same seed
    gives the same split. Unlabelled and left-out rows are in neither part.

    Raises:
        InputError: Fewer than 10 labelled rows, one label only (multi-class), or an own split
            without training or without test rows.
    """
    rows = np.flatnonzero(dataset.labelled)
    if dataset.split is not None:
        return _own_split(dataset, rows)
    if config.deduplicate and len(rows):
        groups = duplicate_groups(dataset, rows)
        rows = rows[groups.first & ~groups.conflicting]
    _check_enough(dataset, rows)
    rng = np.random.default_rng(seed)
    in_test = stratified_test_rows(dataset.targets[rows], dataset.space, config.test_size, rng)
    if not in_test.any() or in_test.all():
        raise InputError(
            "The test part cannot be drawn",
            where=dataset.name,
            expected="rows for training and for testing",
            found=f"{len(rows)} usable rows and data.test_size {config.test_size:g}",
            remedy="Label more rows, or bring data.test_size nearer to 0.25",
        )
    return Split(train=rows[~in_test], test=rows[in_test])


def _own_split(dataset: Dataset, rows: np.ndarray) -> Split:
    assert dataset.split is not None
    part = dataset.split[rows]
    split = Split(train=rows[part == "train"], test=rows[part == "test"])
    if not len(split.train) or not len(split.test):
        missing = "training" if not len(split.train) else "test"
        raise InputError(
            f"The split column leaves no labelled {missing} rows",
            where=dataset.name,
            expected="labelled rows of both train and test",
            found=f"{len(split.train)} training and {len(split.test)} test rows",
            remedy=f"Mark some labelled rows as {missing}, or leave data.split_column out",
        )
    _check_enough(dataset, np.concatenate([split.train, split.test]))
    return split


def _check_enough(dataset: Dataset, rows: np.ndarray) -> None:
    if len(rows) < MIN_LABELLED:
        raise InputError(
            "There are too few labelled rows",
            where=dataset.name,
            expected=f"at least {MIN_LABELLED} labelled rows with different texts",
            found=f"{len(rows)} (of {len(dataset)} rows in all)",
            remedy=f"Label at least {MIN_LABELLED - len(rows)} more rows",
        )
    used = np.flatnonzero(dataset.targets[rows].any(axis=0))
    if len(used) < 2 and not dataset.space.multi_label:
        raise InputError(
            "All usable rows have the same label",
            where=dataset.name,
            expected="rows of at least two labels",
            found=f"only {dataset.space.names[used[0]]!r}",
            remedy="Add rows of another label",
        )
