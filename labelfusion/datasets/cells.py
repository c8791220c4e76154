"""The cells of a data set's table with rows left out or labels changed: what a new version holds.

Knows tables. Does not know where data sets lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from labelfusion.config import DataConfig
from labelfusion.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from labelfusion.data import Table


def without_rows(table: Table, rows: Iterable[int]) -> pd.DataFrame:
    """The cells of `table` without the rows numbered `rows` (as in Table.row_numbers)."""
    left_out = np.isin(table.row_numbers, list(rows))
    return table.frame.loc[~left_out, :].reset_index(drop=True)


def with_labels(
    table: Table, config: DataConfig, labels: Mapping[int, Iterable[str]]
) -> pd.DataFrame:
    """The cells of `table` with other labels on some rows.

    Args:
        table: the rows.
        config: how its labels are written.
        labels: by row number (as in Table.row_numbers), all labels that the row is to have.

    Raises:
        InputError: there is no such row, a label is unknown, or their number does not fit.
    """
    from labelfusion.data.labels import label_cells, read_labels

    space, _, _ = read_labels(table, config)
    frame = table.frame.copy()
    positions = {int(row): i for i, row in enumerate(table.row_numbers)}
    for row, names in labels.items():
        if row not in positions:
            raise InputError("There is no such row", where=table.name, found=f"row {row}")
        for column, cell in label_cells(list(names), space, config).items():
            frame.iat[positions[row], frame.columns.get_loc(column)] = cell
    return frame
