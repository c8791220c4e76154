"""Dividing rows so that every part has its share of every label.

Knows target matrices and shares. Does not know texts, duplicates or the user's own split.
"""

from __future__ import annotations

import numpy as np

from labelfusion.errors import InputError
from labelfusion.types import LabelSpace


def make_folds(targets: np.ndarray, space: LabelSpace, n_folds: int, seed: int) -> np.ndarray:
    """(n,) int64 fold numbers 0..f-1, f = min(n_folds, n), every label spread evenly.

    Multi-class: the counts of a label differ by at most one between folds, and so do the folds'
    sizes. Multi-label: iterative stratification. Labels with fewer rows than folds are in that
    many folds. The same seed gives the same folds.

    Args:
        targets: (n, k) indicators of labelled rows.
        space: The labels.
        n_folds: At least 2.
        seed: Of the random order.

    Raises:
        InputError: Fewer than 2 rows, or fewer than 2 folds.
    """
    n = len(targets)
    if n < 2 or n_folds < 2:
        raise InputError(
            "The rows cannot be divided into folds",
            expected="at least 2 labelled rows and 2 folds",
            found=f"{n} rows and {n_folds} folds",
            remedy="Label more rows",
        )
    folds = min(n_folds, n)
    rng = np.random.default_rng(seed)
    if space.multi_label:
        return iterative_stratification(targets, np.full(folds, 1 / folds), rng)
    order = _shuffled_by_class(targets, rng)
    numbers = np.empty(n, dtype=np.int64)
    numbers[order] = np.arange(n) % folds
    return numbers


def stratified_test_rows(
    targets: np.ndarray, space: LabelSpace, test_size: float, rng: np.random.Generator
) -> np.ndarray:
    """(n,) bool, the rows for testing: a share `test_size` of each label.

    A label with one row has it in training, and no label has all its rows in the test part.
    """
    alone = (targets[:, targets.sum(axis=0) == 1] > 0).any(axis=1)
    pool = np.flatnonzero(~alone)
    in_test = np.zeros(len(targets), dtype=bool)
    if space.multi_label:
        shares = np.array([1 - test_size, test_size])
        in_test[pool] = iterative_stratification(targets[pool], shares, rng) == 1
    else:
        in_test[pool] = _every_so_many(targets[pool], test_size, rng)
    for j in np.flatnonzero(targets.any(axis=0)):
        rows = np.flatnonzero(targets[:, j])
        if in_test[rows].all():
            in_test[rows[0]] = False
    return in_test


def _shuffled_by_class(targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions sorted by class, in random order within a class."""
    return np.lexsort((rng.permutation(len(targets)), targets.argmax(axis=1)))


def _every_so_many(targets: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Systematic sampling through the classes: each gets its share, rounded up or down."""
    steps = np.floor(np.arange(len(targets) + 1) * share + rng.random()).astype(np.int64)
    chosen = np.empty(len(targets), dtype=bool)
    chosen[_shuffled_by_class(targets, rng)] = np.diff(steps) > 0
    return chosen


def iterative_stratification(
    targets: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(n,) int64 part numbers for multi-label rows, by iterative stratification.

    The label with the fewest rows left is dealt out first; each of its rows goes to the part that
    lacks most of that label, then most rows, then by chance. Rows without a label come last.

    Source: Sechidis, Tsoumakas and Vlahavas (2011), On the Stratification of Multi-Label Data,
    ECML PKDD, Algorithm 1.

    Args:
        targets: (n, k) indicators.
        shares: (f,) share of the rows each part is to have, summing to 1.
        rng: Breaks ties.
    """
    targets = targets.astype(bool)
    order = rng.permutation(len(targets))
    parts = np.full(len(targets), -1, dtype=np.int64)
    room = shares * len(targets)
    lacking = targets.sum(axis=0)[:, None] * shares
    left = targets.sum(axis=0)
    while left.any():
        label = int(np.where(left > 0, left, len(targets) + 1).argmin())
        for row in order[targets[order, label] & (parts[order] < 0)]:
            part = _neediest(lacking[label], room, rng)
            parts[row] = part
            room[part] -= 1
            lacking[targets[row], part] -= 1
            left -= targets[row]
    for row in order[parts[order] < 0]:
        parts[row] = _neediest(room, room, rng)
        room[parts[row]] -= 1
    return parts


def _neediest(need: np.ndarray, room: np.ndarray, rng: np.random.Generator) -> int:
    most = np.flatnonzero(need == need.max())
    if len(most) > 1:
        most = most[room[most] == room[most].max()]
    return int(most[0] if len(most) == 1 else rng.choice(most))
