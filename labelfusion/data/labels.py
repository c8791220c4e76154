"""Label cells to targets and back, by layout: a label column, a delimited one, 0/1 columns.

Decides here, once, whether texts may have several labels. Does not know texts, ids or splits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from labelfusion.config import DataConfig
from labelfusion.data.table import Table, list_rows
from labelfusion.errors import InputError, did_you_mean
from labelfusion.types import LabelSpace

INDICATORS: Mapping[str, int] = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), 1),
    **dict.fromkeys(("0", "0.0", "false", "no"), 0),
}
# A row's labels; None where the row is not labelled (an empty tuple is "labelled with none").
LabelSet = tuple[str, ...] | None
Where = Callable[[int], str]
Labels = tuple[LabelSpace, np.ndarray, np.ndarray]


def read_labels(table: Table, config: DataConfig) -> Labels:
    """The label space, (n, k) int8 targets and (n,) bool labelled of a table.

    Raises InputError that names file, row, column and value.
    """
    if config.label_columns:
        return indicator_labels(table, config)
    if config.label_column:
        cells = table.cells(config.label_column, "label column")
        sets = [split_cell(cell, config.label_delimiter) for cell in cells]
        column = config.label_column
        return set_labels(sets, config, lambda i: table.place(i, column), table.name)
    if config.labels:
        return set_labels([None] * len(table), config, table.place, table.name)
    raise InputError(
        "No label column is named",
        where=table.name,
        expected="data.label_column or data.label_columns (or data.labels for unlabelled texts)",
        found=f"the columns {', '.join(table.columns)}",
        remedy="Set data.label_column to the column with the labels",
    )


def split_cell(cell: str, delimiter: str | None) -> LabelSet:
    """The labels in one cell, stripped; None if it is empty. A delimiter alone means no label."""
    if not cell.strip():
        return None
    parts = [cell] if delimiter is None else cell.split(delimiter)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def set_labels(sets: Sequence[LabelSet], config: DataConfig, where: Where, name: str) -> Labels:
    """Targets from each row's labels; label names are sorted. `where` names row i in errors.

    Labels that `config.labels` describes and no row has follow, in its order: an LLM may give them.
    """
    found = sorted({label for labels in sets if labels for label in labels})
    _check_spelling(config.labels, found, name)
    names = (*found, *(label for label in config.labels if label not in found))
    if not names:
        raise InputError(
            "No row has a label",
            where=name,
            expected="labels in the label column, or their names in data.labels",
            found=f"{len(sets)} rows without a label",
            remedy="Label some rows, or list the labels in data.labels",
        )
    position = {label: j for j, label in enumerate(names)}
    targets = np.zeros((len(sets), len(names)), dtype=np.int8)
    for i, labels in enumerate(sets):
        for label in labels or ():
            targets[i, position[label]] = 1
    labelled = np.array([labels is not None for labels in sets], dtype=bool)
    return _finish(names, targets, labelled, config, where, name)


def indicator_labels(table: Table, config: DataConfig) -> Labels:
    """Targets from 0/1 columns; label names are the columns', in the order given."""
    columns = config.label_columns or []
    cells = [table.cells(column, "label column") for column in columns]
    # -1 is empty, -2 is none of the values that are understood.
    values = np.array(
        [[_indicator(cell) for cell in column] for column in cells], dtype=np.int8
    ).T.reshape(len(table), len(columns))
    _check_indicators(values, cells, columns, table)
    labelled = np.asarray((values >= 0).all(axis=1))
    targets = np.where(labelled[:, None], values, 0).astype(np.int8)
    names = tuple(column.strip() for column in columns)
    return _finish(names, targets, labelled, config, table.place, table.name)


def _indicator(cell: str) -> int:
    text = cell.strip().casefold()
    return INDICATORS.get(text, -2) if text else -1


def _check_indicators(
    values: np.ndarray, cells: list[list[str]], columns: list[str], table: Table
) -> None:
    if (values == -2).any():
        i, j = (int(v) for v in np.argwhere(values == -2)[0])
        raise InputError(
            "A label cell is not 0 or 1",
            where=table.place(i, columns[j]),
            expected="0/1, true/false or yes/no",
            found=repr(cells[j][i]),
            remedy="Correct the cell, or leave the column out of data.label_columns; a column that "
            "holds the labels' names is data.label_column",
        )
    empty = np.asarray(values == -1)
    partial = empty.any(axis=1) & ~empty.all(axis=1)
    if partial.any():
        rows = np.flatnonzero(partial)
        raise InputError(
            "A row has some of its labels filled in, and others empty",
            where=table.place(int(rows[0]), columns[int(np.argmax(empty[rows[0]]))]),
            expected="0 or 1 in every label column, or nothing in all (an unlabelled row)",
            found=f"an empty cell ({list_rows(table.row_numbers[rows])})",
            remedy="Fill the empty label cells with 0 or 1, or empty the others",
        )


def _finish(
    names: tuple[str, ...],
    targets: np.ndarray,
    labelled: np.ndarray,
    config: DataConfig,
    where: Where,
    name: str,
) -> Labels:
    counts = targets.sum(axis=1)
    multi_label = config.multi_label
    if multi_label is None:
        multi_label = bool((counts[labelled] != 1).any())
    if not multi_label:
        _check_one_label(names, targets, labelled & (counts != 1), where)
    _check_descriptions(config.labels, names, name)
    return LabelSpace(names, multi_label, dict(config.labels)), targets, labelled


def _check_one_label(
    names: tuple[str, ...], targets: np.ndarray, wrong: np.ndarray, where: Where
) -> None:
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    held = [names[j] for j in np.flatnonzero(targets[row])]
    raise InputError(
        "A row does not have exactly one label",
        where=where(row),
        expected="one label a row, because multi_label is false",
        found=", ".join(held) if held else "no label",
        remedy="Correct the row, or set data.multi_label to true",
    )


def _check_spelling(descriptions: Mapping[str, str], found: Sequence[str], where: str) -> None:
    """A described label that no row has, next to a found one without description, is a slip."""
    undescribed = [label for label in found if label not in descriptions]
    slips = {label: get_close_matches(label, undescribed, n=1) for label in descriptions}
    slip = next((label for label in descriptions if label not in found and slips[label]), None)
    if slip is not None:
        raise _no_such_label(slip, found, where)


def _no_such_label(label: str, names: Sequence[str], where: str) -> InputError:
    return InputError(
        f"There is a description for {label!r}, which is no label of the data",
        where=where,
        expected=f"descriptions of {', '.join(names)}",
        found=repr(label),
        remedy=did_you_mean(label, names, what="Correct data.labels; known are"),
    )


def _check_descriptions(
    descriptions: Mapping[str, str], names: tuple[str, ...], where: str
) -> None:
    for label in descriptions:
        if label not in names:
            raise _no_such_label(label, names, where)


def label_cells(names: Sequence[str], space: LabelSpace, config: DataConfig) -> dict[str, str]:
    """The cells, by column, that `read_labels` reads as the labels `names` of a row.

    Raises InputError: a label is not in `space`, or not exactly one where a text has one.
    """
    for name in names:
        space.index(name)
    if not space.multi_label and len(names) != 1:
        raise InputError(
            "A text has exactly one label here",
            expected=f"one of {', '.join(space.names)}",
            found=", ".join(names) or "no label",
        )
    if config.label_columns:
        return {column: str(int(column.strip() in names)) for column in config.label_columns}
    column = config.label_column or ""
    if config.label_delimiter is None:
        return {column: "".join(names)}
    # A delimiter alone is "labelled with none"; an empty cell would be "not labelled".
    return {column: config.label_delimiter.join(names) or config.label_delimiter}
