"""Texts of a file that may be larger than memory: checked to its end, then read in chunks.

Knows what makes rows usable for prediction (a text column, ids that differ). Does not know models.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.util import hash_array

from labelfusion.config import DataConfig
from labelfusion.data.dataset import row_ids, rows_from_table
from labelfusion.data.reading import TableFile, open_table
from labelfusion.data.table import Table
from labelfusion.types import Rows

_CHECKED_ROWS = 10_000
_BUCKETS = 64


class RowsFile:
    """A file's rows in chunks. Nothing of it is wrong: that was seen when it was opened.

    Attributes:
        table: the file's name, columns and number of rows.
    """

    def __init__(self, table: TableFile, config: DataConfig) -> None:
        self.table, self._config = table, config

    def __len__(self) -> int:
        return self.table.rows

    def chunks(self, size: int) -> Iterator[tuple[Table, Rows]]:
        """At most `size` rows at a time, in order, none of the chunks empty."""
        for table in self.table.tables(size):
            if len(table):
                yield table, rows_from_table(table, self._config)


def open_rows(
    source: str | Path | bytes, config: DataConfig, *, name: str | None = None
) -> RowsFile:
    """Texts to be predicted, as `read_rows` reads them, for reading in chunks.

    The file is read to its end first, so that what is wrong with it is said before anything is
    paid for. Raises InputError as read_rows does, with the row numbers of the whole file.
    """
    table = open_table(source, name=name)
    first = next(table.tables(1))
    for column in config.text_columns:
        first.cells(column, "text column")
    if config.id_column in table.columns:
        _check_ids(table, config.id_column)
    return RowsFile(table, config)


def _check_ids(table: TableFile, column: str) -> None:
    """Raise InputError for ids that are empty or repeat, in memory that does not grow with them."""
    with tempfile.TemporaryDirectory(prefix="labelfusion-") as folder:
        blank = _spread_hashes(table, column, Path(folder))
        repeated = np.concatenate([_repeated(path) for path in sorted(Path(folder).iterdir())])
    if blank or len(repeated):
        # The rows in question alone say all that the error for the whole file would.
        row_ids(_suspects(table, column, set(repeated.tolist())), column)


def _spread_hashes(table: TableFile, column: str, folder: Path) -> bool:
    """Write the ids' hashes into files by their first bits; returns whether an id is empty."""
    blank = False
    for part in table.tables(_CHECKED_ROWS):
        cells = part.cells(column)
        blank = blank or not all(cell.strip() for cell in cells)
        hashes = _hashes(cells)
        bucket = hashes % _BUCKETS
        for i in np.unique(bucket):
            with (folder / str(i)).open("ab") as file:
                file.write(hashes[bucket == i].tobytes())
    return blank


def _hashes(cells: Sequence[str]) -> np.ndarray:
    """(n,) uint64."""
    values = np.asarray(cells, dtype=object)
    return hash_array(values, categorize=False)  # pyright: ignore[reportCallIssue] - made lazily


def _repeated(path: Path) -> np.ndarray:
    values, counts = np.unique(np.fromfile(path, dtype=np.uint64), return_counts=True)
    return values[counts > 1]


def _suspects(table: TableFile, column: str, repeated: set[int]) -> Table:
    """The rows whose id is empty or has one of these hashes."""
    frames, numbers = [], []
    for part in table.tables(_CHECKED_ROWS):
        cells = part.cells(column)
        pairs = zip(cells, _hashes(cells).tolist(), strict=True)
        suspect = np.array([not cell.strip() or value in repeated for cell, value in pairs])
        frames.append(part.frame.loc[suspect, [column]])
        numbers.append(part.row_numbers[suspect])
    frame = pd.concat(frames, ignore_index=True)
    return Table(frame, np.concatenate(numbers), {}, table.name)
