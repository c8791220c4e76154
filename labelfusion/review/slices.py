"""Slices: groups of rows that can be named, and on which the fusion errs more than on the rest.

Looks at labels, predicted labels, disagreement of the sources, text length, the file's other
columns, and words. Every group of enough rows is looked at, so chance alone makes some look bad:
what is listed is corrected for how many were looked at. Knows arrays. Reads no run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtri

from labelfusion.review.rows import ABSENT, ReviewRows
from labelfusion.review.words import find_words

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

MIN_ROWS = 10
ROWS_SHARE = 0.001  # of all rows, below which a slice is too small to be worth a name
FALSE_SHARE = 0.05
SAME_ROWS = 0.8
MAX_WORDS = 2000
MAX_VALUES = 200
PARTS = 5
COLUMNS = [
    "kind", "slice", "rows", "errors", "error", "rest_error", "excess", "low", "high",
    "p_value", "q_value", "also",
]  # fmt: skip


@dataclass(frozen=True)
class Candidates:
    """m named groups of n rows: `matrix` (n, m) bool; `kinds` and `names` m strings each."""

    matrix: csc_matrix
    kinds: list[str]
    names: list[str]

    def members(self, name: str) -> np.ndarray | None:
        """(n,) bool of the group called `name`, or None if there is none."""
        if name not in self.names:
            return None
        return self.matrix[:, [self.names.index(name)]].toarray().ravel()


def smallest_slice(n: int) -> int:
    """How many of n rows a slice must hold, unless told."""
    return max(MIN_ROWS, int(ROWS_SHARE * n))


def slice_candidates(rows: ReviewRows, min_rows: int | None = None) -> Candidates:
    """Every group of `rows` that has a name, at least `min_rows` rows, and that many outside."""
    from scipy.sparse import csc_matrix, hstack

    least = smallest_slice(len(rows)) if min_rows is None else min_rows
    parts, kinds, names = [], [], []
    for kind, labels, matrix in _groups(rows, least):
        size = np.asarray(matrix.sum(axis=0)).ravel()
        kept = np.flatnonzero((size >= least) & (size <= len(rows) - least))
        parts.append(matrix[:, kept])
        kinds += [kind] * len(kept)
        names += [labels[j] for j in kept]
    return Candidates(csc_matrix(hstack(parts), dtype=bool), kinds, names)


Group = tuple[str, list[str], "csc_matrix"]


def _groups(rows: ReviewRows, least: int) -> Iterator[Group]:
    from scipy.sparse import csc_matrix

    names = rows.space.names
    yield "label", [f"label: {name}" for name in names], csc_matrix(rows.gold)
    yield "predicted", [f"predicted: {name}" for name in names], csc_matrix(rows.decided)
    yield from _disagreements(rows)
    if rows.texts is None:
        return
    yield _parts("length", "characters", rows.lengths)
    for column in rows.metadata.columns:
        yield _values(str(column), np.asarray(rows.metadata[column], dtype=object))
    words = find_words(rows.texts, least, MAX_WORDS)
    yield "words", [f"words: {term}" for term in words.terms], words.matrix


def _disagreements(rows: ReviewRows) -> Iterator[Group]:
    for first, second in combinations(rows.answers, 2):
        one, other = rows.answer_names(first), rows.answer_names(second)
        apart = (one != other) & (one != ABSENT) & (other != ABSENT)
        said = f"{first} says " + one + f", {second} says " + other
        yield _coded("sources", np.where(apart, said, ""))
        yield _coded("sources", np.where(apart, f"{first} and {second} disagree", ""))
    for source in rows.answers:
        missing = ~rows.answered(source)
        yield _coded("sources", np.where(missing, f"{source} has no answer", ""))


def _coded(kind: str, values: np.ndarray, prefix: str = "") -> Group:
    """A group for each value; rows with "" are in none."""
    from scipy.sparse import csc_matrix

    codes, found = pd.factorize(pd.Series(values, dtype="str").replace("", np.nan))
    at = np.flatnonzero(codes >= 0)
    shape = (len(values), len(found))
    matrix = csc_matrix((np.ones(len(at), dtype=bool), (at, codes[at])), shape=shape)
    return kind, [f"{prefix}{value}" for value in found], matrix


def _values(column: str, cells: np.ndarray) -> Group:
    """The values of a column, or equal parts of a numeric column with many."""
    filled = cells != ""
    numbers = _numbers(cells)
    if pd.Series(cells).nunique() > MAX_VALUES and (np.isfinite(numbers) == filled).all():
        return _parts("metadata", column, numbers)
    return _coded("metadata", cells, f"{column}: ")


def _numbers(cells: np.ndarray) -> np.ndarray:
    """(n,) the cells as numbers; NaN where a cell is none."""
    return np.asarray(pd.to_numeric(pd.Series(cells), errors="coerce"), dtype=float)


def _parts(kind: str, unit: str, numbers: np.ndarray) -> Group:
    """PARTS groups of about as many rows each, by quantiles; NaN is in none."""
    known = np.isfinite(numbers)
    edges = (
        np.unique(np.quantile(numbers[known], np.linspace(0, 1, PARTS + 1))) if any(known) else []
    )
    if len(edges) < 3:
        return _coded(kind, np.full(len(numbers), "", dtype=object))
    part = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    last = len(edges) - 2
    names = np.array(
        [
            f"{low:g} to {high:g} {unit}" if i == last else f"{low:g} to under {high:g} {unit}"
            for i, (low, high) in enumerate(pairwise(edges))
        ],
        dtype=object,
    )
    return _coded(kind, np.where(known, names[part], ""), f"{kind}: ")


def find_slices(
    rows: ReviewRows,
    candidates: Candidates | None = None,
    *,
    false_share: float = FALSE_SHARE,
) -> pd.DataFrame:
    """The slices on which the fusion errs more than on the rest, the largest excess first.

    One-sided Fisher exact p values, of which Benjamini and Hochberg's (1995) procedure keeps those
    at a false discovery rate of `false_share`. The intervals of the excess are Newcombe's (1998,
    method 10) at level 1 - R · false_share / m for R slices kept of m, which keeps the share of
    intervals that miss at `false_share` (Benjamini and Yekutieli 2005, §3). A slice that shares
    SAME_ROWS of its rows (Jaccard) with one kept above it is named in that one's `also`.

    Returns:
        kind, slice, rows, errors, error and rest_error (0..1), excess with low and high, p_value,
        q_value, also (list of names). Empty where nothing stands out.
    """
    groups = slice_candidates(rows) if candidates is None else candidates
    wrong = ~rows.right
    size = np.asarray(groups.matrix.sum(axis=0)).ravel().astype(int)
    errors = np.asarray(groups.matrix.T @ wrong.astype(int)).ravel()
    p = _fisher(errors, size, int(wrong.sum()), len(rows))
    q = adjusted(p)
    kept = np.flatnonzero(q <= false_share)
    rest = (wrong.sum() - errors) / np.maximum(len(rows) - size, 1)
    level = len(kept) * false_share / max(len(p), 1)
    low, high = newcombe(errors, size, wrong.sum() - errors, len(rows) - size, level)
    error = errors / np.maximum(size, 1)
    table = pd.DataFrame(
        {
            "kind": groups.kinds, "slice": groups.names, "rows": size, "errors": errors,
            "error": error, "rest_error": rest, "excess": error - rest, "low": low, "high": high,
            "p_value": p, "q_value": q,
        }
    )  # fmt: skip
    order = kept[np.lexsort((p[kept], -(error - rest)[kept]))]
    return _merged(table, groups.matrix, order)


def _fisher(errors: np.ndarray, size: np.ndarray, wrong: int, n: int) -> np.ndarray:
    """(m,) P(at least so many errors in the slice) if errors fell on rows by chance.

    Slices no worse than the rest get 1, which only makes the procedure stricter.
    """
    from scipy.stats import hypergeom

    p = np.ones(len(errors))
    worse = np.flatnonzero(errors * n > wrong * size)
    if len(worse):
        pairs, back = np.unique(np.column_stack([errors, size])[worse], axis=0, return_inverse=True)
        p[worse] = hypergeom.sf(pairs[:, 0] - 1, n, wrong, pairs[:, 1])[back.ravel()]
    return p


def adjusted(p: np.ndarray) -> np.ndarray:
    """(m,) p values adjusted for m tests (Benjamini and Hochberg 1995)."""
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def newcombe(
    a: np.ndarray, n: np.ndarray, b: np.ndarray, m: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a/n - b/m that misses with probability `level` (Newcombe 1998, method 10)."""
    z = ndtri(1 - max(level, 1e-12) / 2)
    (p, low_p, high_p), (q, low_q, high_q) = _wilson(a, n, z), _wilson(b, m, z)
    low = p - q - np.sqrt((p - low_p) ** 2 + (high_q - q) ** 2)
    return low, p - q + np.sqrt((high_p - p) ** 2 + (q - low_q) ** 2)


def _wilson(
    count: np.ndarray, n: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = np.maximum(n, 1)
    p = count / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return p, middle - half, middle + half


def _merged(table: pd.DataFrame, matrix: csc_matrix, order: np.ndarray) -> pd.DataFrame:
    """The rows `order` of `table` without those that hold the same texts as an earlier one."""
    chosen = matrix[:, order].astype(np.int32)
    shared = (chosen.T @ chosen).toarray() if len(order) else np.zeros((0, 0))
    size = np.diag(shared)
    same = shared >= SAME_ROWS * (size[:, None] + size[None, :] - shared)
    leaders: list[int] = []
    also: dict[int, list[str]] = {}
    names = table["slice"].tolist()
    for i in range(len(order)):
        first = next((j for j in leaders if same[i, j]), None)
        if first is None:
            leaders.append(i)
            also[i] = []
        else:
            also[first].append(names[order[i]])
    merged = table.iloc[order[leaders]].reset_index(drop=True)
    merged["also"] = pd.Series([also[i] for i in leaders], dtype=object)
    return merged.loc[:, COLUMNS]
