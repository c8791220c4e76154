"""The Table every file and DataFrame becomes: text cells with the row numbers people see.

Knows how a value of any type is written as a cell. Does not know files, labels or layouts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.errors import InputError, did_you_mean

# Joins the items of a list-valued cell (JSON, Parquet, DataFrame), so that it can be split again.
LIST_DELIMITER = "|"
# Up to here a float holds every integer exactly, so dropping the ".0" loses nothing.
_EXACT_INTEGERS = 2.0**53


@dataclass(frozen=True)
class Table:
    """A file's cells as text.

    Attributes:
        frame: one `str` column each, "" when empty, default index.
        row_numbers: (n,) int64, the row as a spreadsheet shows it (the header is row 1); for
            JSON Lines the line of the file.
        notes: what was detected or done while reading, e.g. {"encoding": "cp1252"}.
        name: what to call the data in messages.
    """

    frame: pd.DataFrame
    row_numbers: np.ndarray
    notes: Mapping[str, str] = field(default_factory=dict)
    name: str = "data"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> list[str]:
        """Column names in the order of the file."""
        return list(self.frame.columns)

    def place(self, position: int | None = None, column: str | None = None) -> str:
        """Where something is, as the user would look for it. `position` counts rows from 0."""
        row = None if position is None else int(self.row_numbers[position])
        return place(self.name, row, column)

    def cells(self, column: str, role: str = "column") -> list[str]:
        """The cells of a column. Raises InputError, naming the columns there are, if it is not."""
        if column not in self.frame.columns:
            raise InputError(
                f"There is no {role} {column!r}",
                where=self.name,
                expected=f"a column {column!r}",
                found=f"the columns {', '.join(self.columns)}",
                remedy=did_you_mean(column, self.columns, what="Name one of"),
            )
        return self.frame[column].tolist()


def place(name: str, row: int | None = None, column: str | None = None) -> str:
    """ "tickets.csv, row 17, column 'label'", with what is known."""
    parts = [name]
    if row is not None:
        parts.append(f"row {row}")
    if column is not None:
        parts.append(f"column {column!r}")
    return ", ".join(parts)


def list_rows(rows: Sequence[int] | np.ndarray, shown: int = 5) -> str:
    """ "rows 2, 5, 9 and 14 more", for messages."""
    numbers = [str(int(row)) for row in rows[:shown]]
    more = f" and {len(rows) - shown} more" if len(rows) > shown else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(numbers)}{more}"


def cell_text(value: Any) -> str:
    """A value of any type as a cell: "" for missing, "7" for 7 and 7.0, "true" for True.

    Lists become their items joined with ``|``; dates are ISO 8601; mappings are JSON.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return LIST_DELIMITER.join(cell_text(item) for item in items)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _float_text(value: float) -> str:
    if value != value:
        return ""
    if value.is_integer() and abs(value) < _EXACT_INTEGERS:
        return str(int(value))
    return repr(value)


def text_frame(columns: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A DataFrame of `str` columns."""
    return pd.DataFrame({name: _text_series(cells) for name, cells in columns.items()})


def _text_series(cells: Sequence[str]) -> pd.Series:
    try:
        return pd.Series(cells, dtype="str")
    except UnicodeEncodeError:
        # JSON can spell half of a character (a lone surrogate), which no text can hold.
        whole = [c.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for c in cells]
        return pd.Series(whole, dtype="str")


def check_header(header: Sequence[str], name: str, row: int | None = 1) -> list[str]:
    """Column names, stripped, the unnamed ones named. Raises InputError for a repeated name."""
    names = [cell.strip() or f"column_{i}" for i, cell in enumerate(header, start=1)]
    repeated = sorted({cell for cell in names if names.count(cell) > 1})
    if repeated:
        raise InputError(
            "Column names repeat",
            where=place(name, row),
            expected="a different name for each column",
            found=", ".join(repr(cell) for cell in repeated),
            remedy="Rename or remove the repeated columns",
        )
    return names


class Outline:
    """What must be known of all rows before some of them become a Table: which are blank, and
    which unnamed columns are empty. `rows` counts those that are not blank."""

    def __init__(self, name: str) -> None:
        self.name, self.rows, self.blank = name, 0, 0
        self._used: list[bool] = []

    def add(self, columns: Sequence[Sequence[str]]) -> np.ndarray:
        """Take note of some rows, a list of cells a column; returns which are not blank."""
        self._used += [False] * (len(columns) - len(self._used))
        for i, column in enumerate(columns):
            self._used[i] = self._used[i] or any(cell.strip() for cell in column)
        rows = zip(*columns, strict=True)
        filled = np.array([any(cell.strip() for cell in row) for row in rows], dtype=bool)
        self.rows += int(filled.sum())
        self.blank += int((~filled).sum())
        return filled

    def columns(self, header: Sequence[str]) -> dict[int, str]:
        """Position and name of each column that is kept.

        Raises InputError for repeated names, and when every row is blank.
        """
        names = check_header(header, self.name)
        used = self._used + [False] * (len(header) - len(self._used))
        if not self.rows:
            raise InputError(
                "There are no rows",
                where=self.name,
                expected="a header and at least one row below it",
                found="a header only" if names else "nothing",
                remedy="Check that the right file or sheet was exported",
            )
        return {i: names[i] for i, cell in enumerate(header) if cell.strip() or used[i]}

    def notes(self, notes: Mapping[str, str]) -> dict[str, str]:
        """`notes` with what was dropped."""
        skipped = {"blank rows": f"{self.blank} blank rows were skipped"} if self.blank else {}
        return dict(notes) | skipped


def table_from_columns(
    header: Sequence[str],
    columns: Sequence[Sequence[str]],
    row_numbers: np.ndarray,
    notes: Mapping[str, str],
    name: str,
) -> Table:
    """A Table without its blank rows and without unnamed columns that are empty.

    Raises InputError for repeated column names and when no row is left.
    """
    outline = Outline(name)
    filled = outline.add(columns)
    kept = outline.columns(header)
    return cut_table(kept, columns, row_numbers, filled, outline.notes(notes), name)


def cut_table(
    kept: Mapping[int, str],
    columns: Sequence[Sequence[str]],
    row_numbers: np.ndarray,
    filled: np.ndarray,
    notes: Mapping[str, str],
    name: str,
) -> Table:
    """The columns `kept` (by position) of the rows that are `filled`."""
    nothing = [""] * len(row_numbers)
    cells = {kept[i]: columns[i] if i < len(columns) else nothing for i in kept}
    frame = text_frame(cells).loc[filled].reset_index(drop=True)
    return Table(frame, row_numbers[filled].astype(np.int64), notes, name)


def table_from_frame(frame: pd.DataFrame, name: str = "DataFrame") -> Table:
    """A DataFrame of any dtypes as a Table; rows are numbered as if it were written to a CSV.

    Raises InputError for repeated column names and for a frame without rows.
    """
    header = [str(column) for column in frame.columns]
    columns = [
        [cell_text(value) for value in frame.iloc[:, i].astype(object).tolist()]
        for i in range(frame.shape[1])
    ]
    return table_from_columns(header, columns, np.arange(len(frame)) + 2, {}, name)
