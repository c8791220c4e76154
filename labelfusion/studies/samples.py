"""Which rows a study trains on: nested, stratified subsets, counted in labels.

Knows targets and seeds. Does not know texts, sources or what is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelfusion.errors import ConfigError, InputError

SHARES = (0.05, 0.2, 0.5, 1.0)


def nested_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """(n,) a permutation of the rows of which every prefix is stratified by label.

    Each row stands for its rarest label. In a prefix of m rows no such group has more than one row
    beyond its share of m, and every group has a row from as many rows on as there are groups.
    Which rows of a group come first is chance.

    Args:
        targets: (n, k) indicators; rows may have one label, several or none.
    """
    rng = np.random.default_rng(seed)
    group = _rarest_label(targets)
    order = rng.permutation(len(targets))
    due = np.empty(len(targets))
    for number in np.unique(group):
        rows = order[group[order] == number]
        due[rows] = np.arange(len(rows)) / len(rows)
    return order[np.argsort(due[order], kind="stable")]


def _rarest_label(targets: np.ndarray) -> np.ndarray:
    """(n,) the column of each row's least frequent label; k where a row has none."""
    counts = targets.sum(axis=0)
    frequency = np.where(targets.astype(bool), counts, np.iinfo(np.int64).max)
    return np.where(targets.any(axis=1), frequency.argmin(axis=1), targets.shape[1])


def subset_sizes(asked: Sequence[float], n: int, *, least: int) -> list[int]:
    """Absolute sizes, ascending, each once.

    Args:
        asked: shares (floats up to 1) of n, or numbers of rows (integers). Shares that come to
            fewer than `least` rows become `least`.
        n: the training rows there are.

    Raises:
        ConfigError: something that is neither a share nor a number of rows.
        InputError: more rows than there are, or fewer than `least`.
    """
    sizes = sorted({_size(value, n, least) for value in asked})
    if not sizes or sizes[-1] > n or sizes[0] < least:
        raise InputError(
            "The sizes do not fit the training rows",
            where="--sizes",
            expected=f"shares such as 5%, or {least} to {n} rows",
            found=", ".join(str(size) for size in sizes) or "none",
            remedy="Give other sizes, or label more rows",
        )
    return sizes


def _size(value: float, n: int, least: int) -> int:
    if isinstance(value, int) and value > 0:
        return value
    if 0 < value <= 1:
        return min(n, max(least, round(value * n)))
    raise ConfigError(
        "A size cannot be used", where="--sizes", expected="5%, 0.05 or 120", found=str(value)
    )


def parse_sizes(text: str) -> list[float]:
    """``"5%,20%,120"`` or ``"0.05,0.2,120"`` -> [0.05, 0.2, 120]. Raises ConfigError."""
    return [_parsed(part.strip()) for part in text.split(",") if part.strip()]


def _parsed(part: str) -> float:
    try:
        if part.endswith("%"):
            return float(part[:-1]) / 100
        return int(part) if part.isdigit() else float(part)
    except ValueError:
        raise ConfigError(
            "A size cannot be read", where="--sizes", expected="5%, 0.05 or 120", found=part
        ) from None
