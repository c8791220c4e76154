"""Tables, files and arrays to a Dataset: texts, ids, labels and the user's own split.

Knows the layout a DataConfig names. Does not judge the data (findings) nor divide it (splits).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.config import DataConfig
from labelfusion.data.labels import (
    Labels,
    LabelSet,
    indicator_labels,
    read_labels,
    set_labels,
)
from labelfusion.data.reading import read_table
from labelfusion.data.table import Table, cell_text, list_rows, table_from_frame
from labelfusion.errors import InputError
from labelfusion.types import Dataset, Rows

SPLIT_NAMES: dict[str, str] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "holdout", "hold-out"), "test"),
}


def load_dataset(config: DataConfig) -> Dataset:
    """The Dataset in the file `config.path`. Raises InputError (see read_table, Dataset rules)."""
    if not config.path:
        raise InputError(
            "No data file is named",
            expected="data.path",
            found="nothing",
            remedy="Set data.path, or pass the data itself",
        )
    table = read_table(
        config.path,
        encoding=config.encoding,
        delimiter=config.delimiter,
        sheet=config.sheet,
    )
    return dataset_from_table(table, config)


def dataset_from_table(table: Table, config: DataConfig) -> Dataset:
    """The Dataset in a table, by the columns that `config` names.

    A row whose text is empty is kept as unlabelled, so that nothing is trained or tested on it.

    Raises:
        InputError: A column is missing, an id is empty or repeats, a label or split cell cannot
            be read; with file, row, column, value and remedy.
    """
    texts = _texts(table, config.text_columns)
    space, targets, labelled = read_labels(table, config)
    labelled &= np.array([bool(text) for text in texts], dtype=bool)
    targets[~labelled] = 0
    return Dataset(
        ids=row_ids(table, config.id_column),
        texts=texts,
        targets=targets,
        labelled=labelled,
        space=space,
        split=_split(table, config.split_column) if config.split_column else None,
        row_numbers=table.row_numbers,
        metadata=table.frame.drop(columns=_used_columns(config)),
        name=table.name,
    )


def dataset_from_arrays(
    texts: Iterable[Any],
    y: Any,
    *,
    config: DataConfig | None = None,
    name: str = "texts",
) -> Dataset:
    """A Dataset from texts and their labels.

    Args:
        texts: n texts.
        y: n labels; or n lists of labels; or (n, k) 0/1 indicators, whose names are the columns'
            of a DataFrame, else `config.label_columns`, else `config.labels`, else "0".."k-1";
            or None. None, NaN or "" is an unlabelled row.
        config: `labels` and `multi_label` are read; the columns it names are not.
        name: What to call the data in messages; items are numbered from 1.

    Raises:
        InputError: The lengths differ or a label cannot be read.
    """
    config = config or DataConfig()
    cells = [cell_text(text).strip() for text in texts]
    numbers = np.arange(1, len(cells) + 1, dtype=np.int64)
    count = len(cells) if y is None else len(y)
    if not cells or len(cells) != count:
        raise InputError(
            "Texts and labels do not pair up" if cells else "There are no texts",
            where=name,
            expected="as many labels as texts, at least one",
            found=f"{len(cells)} texts and {count} labels",
            remedy="Pass one label, or None, for each text",
        )
    space, targets, labelled = _labels_from_array(y, numbers, config, name)
    labelled &= np.array([bool(cell) for cell in cells], dtype=bool)
    targets[~labelled] = 0
    return Dataset(
        ids=_numbered_ids(numbers),
        texts=tuple(cells),
        targets=targets,
        labelled=labelled,
        space=space,
        split=None,
        row_numbers=numbers,
        metadata=pd.DataFrame(index=range(len(cells))),
        name=name,
    )


def read_rows(
    source: str | Path | bytes,
    config: DataConfig,
    *,
    name: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> tuple[Table, Rows]:
    """Texts to be predicted, with the table they are from.

    Reads the text columns of `config`, and its id column where the file has one; label columns are
    not needed. How the file is written is detected anew: `config` describes the training file.
    Raises InputError as read_table and dataset_from_table do.
    """
    table = read_table(source, name=name, encoding=encoding, delimiter=delimiter, sheet=sheet)
    return table, rows_from_table(table, config)


def rows_from_table(table: Table, config: DataConfig) -> Rows:
    """The texts of a table, with ids from its id column where it has one. Raises InputError."""
    id_column = config.id_column if config.id_column in table.columns else None
    texts = _texts(table, config.text_columns)
    return Rows(ids=row_ids(table, id_column).tolist(), texts=texts)


def _texts(table: Table, columns: Sequence[str]) -> tuple[str, ...]:
    parts = [table.cells(column, "text column") for column in columns]
    return tuple(
        "\n".join(cell.strip() for cell in row if cell.strip()) for row in zip(*parts, strict=True)
    )


def _numbered_ids(row_numbers: np.ndarray) -> np.ndarray:
    return np.array([f"row-{row}" for row in row_numbers], dtype=np.str_)


def row_ids(table: Table, column: str | None) -> np.ndarray:
    """(n,) str: an id column's cells, or ids by row number. Raises InputError for empty or repeated
    ids."""
    if column is None:
        return _numbered_ids(table.row_numbers)
    cells = table.cells(column, "id column")
    empty = [i for i, cell in enumerate(cells) if not cell.strip()]
    if empty:
        raise InputError(
            "An id is empty",
            where=table.place(empty[0], column),
            expected="an id in every row",
            found=f"nothing ({list_rows(table.row_numbers[empty])})",
            remedy="Fill the ids, or leave data.id_column out to number the rows",
        )
    series = pd.Series(cells)
    repeated = np.flatnonzero(series.duplicated(keep=False))
    if len(repeated):
        value = cells[int(repeated[0])]
        rows = table.row_numbers[(series == value).to_numpy()]
        raise InputError(
            "An id is used twice",
            where=table.place(int(repeated[0]), column),
            expected="a different id in every row",
            found=f"{value!r} in {list_rows(rows)}; {len(repeated)} rows share an id in all",
            remedy="Correct the ids, or leave data.id_column out to number the rows",
        )
    return np.array(cells, dtype=np.str_)


def _split(table: Table, column: str) -> np.ndarray:
    """ "train", "test" or "" a row; validation rows are the test set where no row is "test".

    Where there is a test set, validation rows are training rows: the labels fitted out of fold
    need no validation set, and every label counts.
    """
    cells = [cell.strip().casefold() for cell in table.cells(column, "split column")]
    values = np.array([SPLIT_NAMES.get(cell, "?") if cell else "" for cell in cells])
    if (values == "?").any():
        row = int(np.flatnonzero(values == "?")[0])
        raise InputError(
            "A split cell is not understood",
            where=table.place(row, column),
            expected="train, validation or test (or nothing, for a row in neither)",
            found=repr(table.cells(column)[row]),
            remedy="Correct the cell, or leave data.split_column out to have the data divided",
        )
    stand_in = "train" if (values == "test").any() else "test"
    return np.where(values == "validation", stand_in, values)


def _used_columns(config: DataConfig) -> list[str]:
    single = [config.id_column, config.label_column, config.split_column]
    many = [*config.text_columns, *(config.label_columns or [])]
    return list(dict.fromkeys([*many, *(column for column in single if column)]))


def _labels_from_array(y: Any, numbers: np.ndarray, config: DataConfig, name: str) -> Labels:
    def where(i: int) -> str:
        return f"{name}, item {i + 1}"

    if y is None:
        return set_labels([None] * len(numbers), config, where, name)
    if isinstance(y, pd.DataFrame) or _are_indicators(y):
        return _labels_from_indicators(y, config, name)
    return set_labels([_label_set(value) for value in y], config, where, name)


def _are_indicators(y: Any) -> bool:
    """Whether y is a matrix of 0 and 1, and not a list of each text's labels."""
    if isinstance(y, np.ndarray):
        return y.ndim == 2
    rows = [row for row in y if isinstance(row, list | tuple)]
    same_length = len(rows) == len(y) and len({len(row) for row in rows}) == 1
    numbers = all(isinstance(item, int) and item in (0, 1) for row in rows for item in row)
    return same_length and len(rows[0]) > 1 and numbers


def _label_set(value: Any) -> LabelSet:
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return tuple(dict.fromkeys(cell_text(item).strip() for item in value))
    text = cell_text(value).strip()
    return (text,) if text else None


def _labels_from_indicators(y: Any, config: DataConfig, name: str) -> Labels:
    frame = y if isinstance(y, pd.DataFrame) else pd.DataFrame(y)
    names = [str(column) for column in frame.columns]
    if not isinstance(y, pd.DataFrame):
        names = list(config.label_columns or config.labels or names)
    if len(names) != frame.shape[1]:
        raise InputError(
            "The number of labels does not fit",
            where=name,
            expected=f"{len(names)} columns: {', '.join(names)}",
            found=f"{frame.shape[1]} columns of indicators",
            remedy="Name as many labels as there are columns",
        )
    table = table_from_frame(frame.set_axis(names, axis=1), name)
    numbered = Table(table.frame, table.row_numbers - 1, table.notes, name)
    return indicator_labels(numbered, config.model_copy(update={"label_columns": names}))
