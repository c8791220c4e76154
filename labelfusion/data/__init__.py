"""Data in: files and arrays to Datasets, what is wrong with them, and how they are divided.

Knows files, tables, labels and splits. Does not know sources, models or runs.
"""

from __future__ import annotations

from labelfusion.data.dataset import (
    dataset_from_arrays,
    dataset_from_table,
    load_dataset,
    read_rows,
    rows_from_table,
)
from labelfusion.data.duplicates import normalised
from labelfusion.data.findings import Finding, find_problems
from labelfusion.data.layout import Layout, guess_layout
from labelfusion.data.reading import SUFFIXES, TableFile, open_table, read_table
from labelfusion.data.rows_file import RowsFile, open_rows
from labelfusion.data.splits import MIN_LABELLED, make_split
from labelfusion.data.stratification import make_folds
from labelfusion.data.table import Table, cell_text, table_from_frame

__all__ = [
    "MIN_LABELLED",
    "SUFFIXES",
    "Finding",
    "Layout",
    "RowsFile",
    "Table",
    "TableFile",
    "cell_text",
    "dataset_from_arrays",
    "dataset_from_table",
    "find_problems",
    "guess_layout",
    "load_dataset",
    "make_folds",
    "make_split",
    "normalised",
    "open_rows",
    "open_table",
    "read_rows",
    "read_table",
    "rows_from_table",
    "table_from_frame",
]
