"""Excel workbooks as tables. A workbook is read whole: its sheets cannot be read in parts."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from labelfusion.data.source import RawTable, Source, WholeTable
from labelfusion.data.table import cell_text
from labelfusion.errors import InputError, did_you_mean

# Packed, a sheet takes a hundredth of its size and less; unpacked, it has to fit into memory.
MAX_UNPACKED_BYTES = 2_000_000_000


def xlsx_table(source: Source, sheet: str | None) -> RawTable:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    # A sheet is parsed only while its rows are read, so damage shows late as well as early.
    damage = (InvalidFileException, KeyError, ValueError, SyntaxError, TypeError)
    packing = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
    name = source.name
    try:
        with source.open() as file:
            packed = io.BytesIO(file.read())
        _check_size(packed, name)
        book = openpyxl.load_workbook(packed, read_only=True, data_only=True)
        title = _sheet_name([str(each.title) for each in book.worksheets], sheet, name)
        rows = _xlsx_rows(book[title])
    except InputError:
        raise
    except (*damage, *packing) as error:
        raise InputError(
            "The workbook is damaged",
            where=name,
            expected="a complete .xlsx file",
            found=" ".join(str(error).split()) or type(error).__name__,
            remedy="Open it in a spreadsheet program and save it again",
        ) from None
    notes = {"sheet": title}
    others = [str(each.title) for each in book.worksheets if each.title != title]
    if others:
        notes["other sheets"] = ", ".join(others)
    return _from_rows(rows, notes, f"{name} [{title}]" if others else name)


def _check_size(packed: io.BytesIO, name: str) -> None:
    """Raise InputError for a workbook that would fill the memory, before it is unpacked.

    No part can unpack to more than the size it states: zipfile stops there.
    """
    with zipfile.ZipFile(packed) as parts:
        unpacked = sum(part.file_size for part in parts.infolist())
    if unpacked > MAX_UNPACKED_BYTES:
        raise InputError(
            "The workbook is too large to be unpacked",
            where=name,
            expected=f"at most {_megabytes(MAX_UNPACKED_BYTES)} unpacked",
            found=f"{_megabytes(unpacked)} in a file of {_megabytes(packed.getbuffer().nbytes)}",
            remedy="Save the sheet with the data as .csv, which is read in parts",
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e6:.2g} MB"


def _xlsx_rows(sheet: Any) -> list[list[str]]:
    # The stored size is wrong in files of some exporters, and would hide rows.
    sheet.reset_dimensions()
    return [[_xlsx_cell(cell) for cell in row] for row in sheet.iter_rows()]


def _sheet_name(sheets: Sequence[str], sheet: str | None, name: str) -> str:
    if sheet is None and sheets:
        return sheets[0]
    if sheet is not None and sheet in sheets:
        return sheet
    raise InputError(
        f"There is no sheet {sheet!r}" if sheet else "There is no sheet with cells",
        where=name,
        expected=f"one of the sheets {', '.join(sheets)}" if sheets else "a sheet with cells",
        found=repr(sheet) if sheet else "charts only",
        remedy=did_you_mean(sheet or "", sheets, what="Set data.sheet to one of")
        or "Put the data in a sheet with cells",
    )


def _xlsx_cell(cell: Any) -> str:
    text = cell_text(cell.value)
    # A number shown with leading zeros (format 000) is an id: keep what the user sees.
    if isinstance(cell.value, int) and re.fullmatch("0{2,}", cell.number_format or ""):
        return text.zfill(len(cell.number_format))
    return text


def _from_rows(rows: list[list[str]], notes: dict[str, str], name: str) -> RawTable:
    first = next((i for i, row in enumerate(rows) if any(cell.strip() for cell in row)), None)
    if first is None:
        raise InputError(
            "The sheet is empty",
            where=name,
            expected="a header and at least one row below it",
            found="no cells",
            remedy="Set data.sheet to the sheet with the data",
        )
    width = max(len(row) for row in rows)
    padded = [row + [""] * (width - len(row)) for row in rows[first:]]
    columns = [[row[i] for row in padded[1:]] for i in range(width)]
    numbers = np.arange(len(padded) - 1) + first + 2
    return WholeTable(name, notes, padded[0], columns, numbers)
