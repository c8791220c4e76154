"""A first guess which columns hold ids, texts, labels and the split, with a reason for each.

Looks at names and cells of a Table only. The guess is for a person to confirm; nothing is loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from labelfusion.config import DataConfig
from labelfusion.data.dataset import SPLIT_NAMES
from labelfusion.data.labels import INDICATORS
from labelfusion.data.table import Table

_ID_NAMES = {"id", "ids", "uid", "uuid", "guid", "key", "nr", "no", "number", "index", "idx"}
_TEXT_NAMES = ["text", "texts", "body", "message", "content", "comment", "review", "description"]
_TITLE_NAMES = {"title", "subject", "headline"}
_LABEL_NAMES = ["label", "labels", "class", "category", "categories", "target", "topic", "topics"]
_LABEL_NAMES += ["tag", "tags", "intent", "sentiment", "emotion", "emotions", "genre", "genres"]
_SPLIT_COLUMNS = {"split", "set", "subset", "partition", "fold"}
# Columns of scores made by models are no labels, even if they hold 0 and 1.
_SCORE_PREFIX = re.compile(r"(llm|ml|pred|predicted|prediction|score|prob|p)[_ ]", re.IGNORECASE)
_LABEL_DELIMITERS = ("|", ";", ",")
_MAX_LABELS = 200
_MAX_LABEL_CHARACTERS = 60


@dataclass(frozen=True)
class Layout:
    """A guessed DataConfig (its `path` is not set) and why, one plain sentence for each choice."""

    config: DataConfig
    reasons: list[str]


def guess_layout(table: Table) -> Layout:
    """Which columns hold what. Without a column that looks like labels, none is named."""
    guess = _Guess(table)
    split = guess.split_column()
    identifier = guess.id_column()
    texts = guess.text_columns()
    labels = guess.labels()
    values = {"split_column": split, "id_column": identifier, "text_columns": texts} | labels
    return Layout(DataConfig.model_validate(values), guess.reasons)


class _Guess:
    """Takes columns away from those that are left, one role after the other."""

    def __init__(self, table: Table) -> None:
        self.cells = {c: table.frame[c].str.strip().tolist() for c in table.columns}
        self.filled = {c: [cell for cell in cells if cell] for c, cells in self.cells.items()}
        self.left = list(table.columns)
        self.reasons: list[str] = []

    def _take(self, columns: list[str], reason: str) -> None:
        self.left = [column for column in self.left if column not in columns]
        self.reasons.append(reason)

    def _unique(self, column: str) -> bool:
        cells = self.cells[column]
        return len(set(cells)) == len(cells) == len(self.filled[column])

    def _mean_length(self, column: str) -> float:
        cells = self.filled[column]
        return sum(len(cell) for cell in cells) / len(cells) if cells else 0.0

    def split_column(self) -> str | None:
        for column in self.left:
            values = {cell.casefold() for cell in self.filled[column]}
            if column.casefold() in _SPLIT_COLUMNS and values and values <= SPLIT_NAMES.keys():
                shown = ", ".join(sorted(values))
                self._take([column], f"{column!r} is the split: it holds {shown}.")
                return column
        return None

    def id_column(self) -> str | None:
        for column in self.left:
            words = set(re.split(r"[^a-z]+", column.casefold()))
            camel = column.endswith(("Id", "ID"))
            if not (words & _ID_NAMES or camel):
                continue
            if self._unique(column):
                self._take([column], f"{column!r} is the id: no value is empty or repeats.")
                return column
            self.reasons.append(f"{column!r} is not the id: values are empty or repeat.")
        first = self.left[0]
        if first == "column_1" and self._unique(first) and len(self.left) > 1:
            self._take([first], "The first column has no name and unique values, so it is the id.")
            return first
        self.reasons.append("No column looks like an id, so rows are known by their numbers.")
        return None

    def text_columns(self) -> list[str]:
        by_name = {column.casefold(): column for column in self.left}
        named = [by_name[name] for name in _TEXT_NAMES if name in by_name]
        named = [column for column in named if self._mean_length(column) > 0]
        main = named[0] if named else max(self.left, key=self._mean_length, default=None)
        if main is None:
            self.reasons.append("No column is left for the text: name it yourself.")
            return ["text"]
        why = "by its name" if named else "its cells are the longest"
        titles = [
            c for c in self.left if c != main and c.casefold() in _TITLE_NAMES and self.filled[c]
        ]
        self._take([main, *titles], f"{main!r} is the text: {why}.")
        for title in titles:
            self.reasons.append(f"{title!r} is read before it: its name says it is a heading.")
        return [*titles, main]

    def labels(self) -> dict[str, object]:
        self.left = [column for column in self.left if not _SCORE_PREFIX.match(column)]
        named = [c for c in self.left if c.casefold() in _LABEL_NAMES and self._label_like(c)]
        named.sort(key=lambda column: _LABEL_NAMES.index(column.casefold()))
        if named:
            return self._one_column(named[0], "by its name")
        indicators = [column for column in self.left if self._indicator(column)]
        if len(indicators) > 1:
            return self._indicator_columns(indicators)
        likely = [column for column in self.left if self._few_values(column)]
        if len(likely) == 1:
            return self._one_column(likely[0], "few values that repeat; please check")
        if likely:
            self.reasons.append(
                f"Several columns could be the label ({', '.join(likely)}): name the right one."
            )
        else:
            self.reasons.append("No column looks like a label: the file is taken as unlabelled.")
        return {}

    def _label_like(self, column: str) -> bool:
        values = set(self.filled[column])
        return len(values) > 0 and self._mean_length(column) <= _MAX_LABEL_CHARACTERS

    def _few_values(self, column: str) -> bool:
        cells = self.filled[column]
        count = len(set(cells))
        repeats = 2 <= count <= min(_MAX_LABELS, max(2, len(cells) // 3))
        return repeats and self._label_like(column) and not _all_decimals(cells)

    def _indicator(self, column: str) -> bool:
        values = {cell.casefold() for cell in self.filled[column]}
        return bool(values) and values <= INDICATORS.keys()

    def _indicator_columns(self, columns: list[str]) -> dict[str, object]:
        rows = [row for row in zip(*(self.cells[c] for c in columns), strict=True) if all(row)]
        ones = Counter(sum(INDICATORS[cell.casefold()] for cell in row) for row in rows)
        multi_label = set(ones) != {1}
        if multi_label:
            why = "some rows have several or none, so a text may have several labels"
        else:
            why = "every row has exactly one 1, so the labels exclude each other"
        shown = ", ".join(columns)
        self._take(columns, f"The labels are the {len(columns)} columns of 0 and 1 ({shown}).")
        self.reasons.append(f"The task is {_task(multi_label)}: {why}.")
        return {"label_columns": columns, "multi_label": multi_label}

    def _one_column(self, column: str, why: str) -> dict[str, object]:
        delimiter = _label_delimiter(self.filled[column])
        cells = self.filled[column]
        parts = {p.strip() for cell in cells for p in cell.split(delimiter)} if delimiter else cells
        self._take([column], f"{column!r} is the label: {why}; {len(set(parts))} labels.")
        if delimiter:
            self.reasons.append(
                f"The task is multi-label: cells of {column!r} hold several labels, "
                f"separated by {delimiter!r}."
            )
        else:
            self.reasons.append("The task is multi-class: every cell holds one label.")
        return {
            "label_column": column,
            "label_delimiter": delimiter,
            "multi_label": delimiter is not None,
        }


def _task(multi_label: bool) -> str:
    return "multi-label" if multi_label else "multi-class"


def _all_decimals(cells: list[str]) -> bool:
    return all(re.fullmatch(r"-?\d*[.,]\d+(e-?\d+)?", cell, re.IGNORECASE) for cell in cells)


def _label_delimiter(cells: list[str]) -> str | None:
    """The sign between labels: one whose parts are fewer than the cells' different values.

    "Sci, Tech" beside "World" is one label with a comma in it: its parts never occur otherwise.
    """
    values = set(cells)
    for delimiter in _LABEL_DELIMITERS:
        if not any(delimiter in value for value in values):
            continue
        parts = {part.strip() for value in values for part in value.split(delimiter)}
        if delimiter == "|" or len(parts - {""}) < len(values):
            return delimiter
    return None
