"""Which texts of a reviewed run are shown: filters that combine, read from a page's address.

Knows ReviewRows and query strings. Knows no Streamlit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from labelfusion.errors import InputError, did_you_mean
from labelfusion.review import Candidates, ReviewRows
from labelfusion.review.rows import ABSENT
from labelfusion.ui.charts import system_name

SHOWN = {
    "wrong": "Fusion is wrong",
    "disagree": "Sources disagree",
    "right": "Fusion is right",
    "all": "All texts",
}
SPLITS = {"test": "Test", "train": "Training, out of fold"}
COLUMN = "meta."
ORDERS = {
    "surest": "Surest first",
    "least": "Least sure first",
    "row": "Order of the file",
    "longest": "Longest first",
}


@dataclass(frozen=True)
class Filters:
    """All conditions hold at once; None and "" ask for nothing.

    `confidence` is in per cent, `length` in characters, both inclusive; `columns` maps a column of
    the file to the value it must have.
    """

    show: str = "wrong"
    gold: str | None = None
    predicted: str | None = None
    quadrant: str | None = None
    split: str | None = None
    confidence: tuple[int, int] = (0, 100)
    length: tuple[int, int] | None = None
    text: str = ""
    slice: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def mask(self, rows: ReviewRows, candidates: Candidates) -> np.ndarray:
        """(n,) bool, the rows that are shown. Raises InputError for a slice that is not there."""
        shown = _shown(self.show, rows)
        for labels, name in ((rows.gold, self.gold), (rows.decided, self.predicted)):
            if name is not None:
                shown &= labels[:, rows.space.index(name)]
        if self.quadrant is not None:
            shown &= rows.quadrants == self.quadrant
        if self.split is not None:
            shown &= rows.split == self.split
        shown &= _between(100 * rows.confidence, self.confidence)
        if self.length is not None:
            shown &= _between(rows.lengths, self.length)
        for column, value in self.columns.items():
            shown &= (rows.metadata[column] == value).to_numpy(dtype=bool)
        return shown & self._in_slice(candidates) & self._holding(rows)

    def _in_slice(self, candidates: Candidates) -> np.ndarray | bool:
        if self.slice is None:
            return True
        members = candidates.members(self.slice)
        if members is None:
            raise InputError(
                "There is no such slice", found=self.slice, remedy="Choose one on the Slices tab"
            )
        return members

    def _holding(self, rows: ReviewRows) -> np.ndarray | bool:
        if not self.text or rows.texts is None:
            return True
        wanted = self.text.casefold()
        return np.array([wanted in text.casefold() for text in rows.texts], dtype=bool)


def _shown(show: str, rows: ReviewRows) -> np.ndarray:
    if show == "disagree":
        return disagreement(rows)
    return {"wrong": ~rows.right, "right": rows.right.copy()}.get(show, np.ones(len(rows), bool))


def _between(values: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    return np.asarray((values >= limits[0]) & (values <= limits[1]))


def disagreement(rows: ReviewRows) -> np.ndarray:
    """(n,) bool: two sources that both have an answer have different ones."""
    apart = np.zeros(len(rows), dtype=bool)
    for one, other in combinations(rows.answers, 2):
        first, second = rows.answer_names(one), rows.answer_names(other)
        apart |= (first != second) & (first != ABSENT) & (second != ABSENT)
    return apart


def read_filters(query: Mapping[str, str], rows: ReviewRows) -> Filters:
    """The filters an address asks for.

    An address that names a true and a predicted label, as one from the confusion matrix does, and
    says no more, asks for all of these texts, right or wrong.

    Raises InputError: a value is none of those that there are.
    """
    named = "gold" in query or "predicted" in query or "slice" in query or "quadrant" in query
    length = query.get("length")
    return Filters(
        show=_one_of(query, "show", SHOWN) or ("all" if named else "wrong"),
        gold=_one_of(query, "gold", rows.space.names),
        predicted=_one_of(query, "predicted", rows.space.names),
        quadrant=_one_of(query, "quadrant", quadrant_names(rows)),
        split=_one_of(query, "split", SPLITS),
        confidence=_range("confidence", query.get("confidence", "0-100")),
        length=_range("length", length) if length else None,
        text=query.get("text", ""),
        slice=query.get("slice") or None,
        columns=_columns(query, rows),
    )


def _one_of(
    query: Mapping[str, str], name: str, known: Mapping[str, str] | tuple | list
) -> str | None:
    value = query.get(name) or None
    if value is not None and value not in known:
        raise InputError(
            f"The address asks for a {name} that is not there",
            expected=f"one of {', '.join(known)}",
            found=value,
            remedy=did_you_mean(value, list(known)) or "Take it out of the address",
        )
    return value


def _range(name: str, text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    try:
        limits = int(low), int(high)
    except ValueError:
        limits = (1, 0)
    if limits[0] > limits[1]:
        raise InputError(
            f"The address has a {name} that is no range",
            expected="two whole numbers, as in 20-80",
            found=text,
            remedy="Clear the filters",
        )
    return limits


def _columns(query: Mapping[str, str], rows: ReviewRows) -> dict[str, str]:
    wanted = {k.removeprefix(COLUMN): v for k, v in query.items() if k.startswith(COLUMN)}
    for column in wanted:
        if column not in rows.metadata:
            raise InputError(
                "The address asks for a column that the data does not have",
                found=column,
                remedy=did_you_mean(column, list(rows.metadata.columns)) or "Clear the filters",
            )
    return wanted


def quadrant_names(rows: ReviewRows) -> list[str]:
    """The combinations of right, wrong and absent sources that occur, the most frequent first."""
    values, counts = np.unique(rows.quadrants.astype(str), return_counts=True)
    return [value for value in values[np.argsort(-counts, kind="stable")].tolist() if value]


def quadrant_words(name: str) -> str:
    """A quadrant for people: "ML encoder right, LLM wrong"."""
    parts = (part.rsplit(" ", 1) for part in name.split(", "))
    return ", ".join(f"{system_name(source)} {verdict}" for source, verdict in parts)


def ordered(rows: ReviewRows, mask: np.ndarray, order: str) -> np.ndarray:
    """Positions of the rows in `mask`, in one of ORDERS."""
    at = np.flatnonzero(mask)
    keys = {"surest": -rows.confidence, "least": rows.confidence, "longest": -rows.lengths}
    key = keys.get(order, rows.row_numbers)
    return at[np.argsort(key[at], kind="stable")]
