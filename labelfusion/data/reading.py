"""Files and uploads to a Table: CSV, TSV, JSON Lines, Parquet and XLSX.

Trusts a file's content, not its name alone. Does not know what the columns mean.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.data.delimited import read_delimited, resolve_encoding, unmarked_utf16
from labelfusion.data.table import Table, cell_text, place, table_from_columns
from labelfusion.errors import InputError, did_you_mean

_DELIMITED, _JSON, _PARQUET, _XLSX = "delimited text", "JSON Lines", "Parquet", "an Excel workbook"
_FORMATS = {
    ".csv": _DELIMITED,
    ".tsv": _DELIMITED,
    ".tab": _DELIMITED,
    ".txt": _DELIMITED,
    ".jsonl": _JSON,
    ".ndjson": _JSON,
    ".json": _JSON,
    ".parquet": _PARQUET,
    ".xlsx": _XLSX,
}
SUFFIXES: tuple[str, ...] = tuple(_FORMATS)
_TEXT = "text"
_MAGIC = (
    (b"PAR1", _PARQUET),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls) or an encrypted one"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"SQLite format 3", "an SQLite database"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
)


def read_table(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> Table:
    """Read a file, or the bytes of an upload called `name`, into text cells.

    Args:
        source: A path, or the content itself (then `name` must be given).
        name: What to call the data; its ending tells the format. The file's name if None.
        encoding: Of text files; detected if None.
        delimiter: Of delimited text; detected if None.
        sheet: Of a workbook; the first one if None.

    Raises:
        InputError: The file is absent, empty, not what its name says, or has a broken row; the
            message names file, row and column as far as they apply.
    """
    name, data = _content(source, name)
    wanted = _wanted_format(name)
    _check_content(data, wanted, name)
    if wanted == _DELIMITED:
        return read_delimited(data, name, encoding, delimiter)
    if wanted == _JSON:
        return _read_json(data, name, encoding)
    return _read_parquet(data, name) if wanted == _PARQUET else _read_xlsx(data, name, sheet)


def _content(source: str | Path | bytes, name: str | None) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        if not name:
            raise InputError(
                "The data has no name",
                expected="name='file.csv' beside the bytes, to tell the format",
                remedy="Pass the name of the uploaded file",
            )
        return Path(name).name, source
    path = Path(source).expanduser()
    try:
        return name or path.name, path.read_bytes()
    except FileNotFoundError:
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(
            "The file does not exist",
            where=str(path),
            expected=f"a data file ({', '.join(SUFFIXES)})",
            found="no such file",
            remedy=did_you_mean(path.name, near, what="The folder holds")
            or "Check the path; relative ones start at the current folder",
        ) from None
    except OSError as error:
        raise InputError(
            "The file cannot be read",
            where=str(path),
            expected="a readable file",
            found=error.strerror or str(error),
            remedy="Name a file, not a folder, that you may read",
        ) from None


def _wanted_format(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    raise InputError(
        "This kind of file is not supported",
        where=name,
        expected=f"a file ending in {', '.join(SUFFIXES)}",
        found=repr(suffix) if suffix else "a name without an ending",
        remedy="Save it as .xlsx or .csv" if suffix in (".xls", ".ods") else "Save it as .csv",
    )


def _check_content(data: bytes, wanted: str, name: str) -> None:
    """Raise InputError when the content is not what the name's ending says."""
    if not data.strip():
        raise InputError(
            "The file is empty",
            where=name,
            expected="a header and at least one row below it",
            found=f"{len(data)} bytes",
            remedy="Check that the right file was exported",
        )
    found = content_kind(data)
    if found == (_TEXT if wanted in (_DELIMITED, _JSON) else wanted):
        return
    endings = [suffix for suffix, kind in _FORMATS.items() if kind == found]
    raise InputError(
        "The content is not what the file's name says",
        where=name,
        expected=wanted,
        found=found,
        remedy=f"Rename it to end in {endings[0]}" if endings else "Export it again as .csv",
    )


def content_kind(data: bytes) -> str:
    """What the bytes are, by their content: "text", "Parquet", "an Excel workbook", …"""
    if data.startswith(b"PK\x03\x04"):
        return _zip_kind(data)
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    head = data[:1024].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML)"
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))
    if b"\x00" in data and not marked and not unmarked_utf16(data):
        return "binary data"
    return _TEXT


def _zip_kind(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError):
        return "a damaged zip archive or workbook"
    return _XLSX if "xl/workbook.xml" in names else "a zip archive"


def _read_json(data: bytes, name: str, encoding: str | None) -> Table:
    encoding = resolve_encoding(data, encoding, name)
    text = data.decode(encoding).removeprefix("\ufeff")
    if text.lstrip().startswith("["):
        records = _parse_json(text, name, None)
        numbers = list(range(1, len(records) + 1))
    else:
        lines = [(i, line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
        numbers = [i for i, _ in lines]
        records = [_parse_json(line, name, i) for i, line in lines]
    for number, record in zip(numbers, records, strict=True):
        _check_record(record, name, number)
    header = list(dict.fromkeys(key for record in records for key in record))
    columns = [[cell_text(record.get(key)) for record in records] for key in header]
    notes = {"encoding": encoding, "rows": "row numbers are line numbers"}
    if text.lstrip().startswith("["):
        notes["rows"] = "row numbers count the records from 1"
    return table_from_columns(header, columns, np.asarray(numbers), notes, name)


def _parse_json(text: str, name: str, line: int | None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            "This is not valid JSON",
            where=place(name, line if line is not None else error.lineno),
            expected='one object a line, such as {"text": "…", "label": "…"}',
            found=f"{error.msg} at character {error.colno}",
            remedy="Correct this line, or export the file again as JSON Lines",
        ) from None


def _check_record(record: Any, name: str, number: int) -> None:
    if not isinstance(record, dict):
        raise InputError(
            "A record is not a JSON object",
            where=place(name, number),
            expected='an object such as {"text": "…", "label": "…"}',
            found=type(record).__name__,
            remedy="Give every record its column names",
        )


def _read_parquet(data: bytes, name: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(io.BytesIO(data))
        columns = [[cell_text(value) for value in column.to_pylist()] for column in arrow.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(
            "The Parquet file is damaged",
            where=name,
            expected="a complete Parquet file",
            found=str(error).splitlines()[0],
            remedy="Export or download it again",
        ) from None
    numbers = np.arange(arrow.num_rows) + 2
    return table_from_columns(arrow.column_names, columns, numbers, {}, name)


def _read_xlsx(data: bytes, name: str, sheet: str | None) -> Table:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    # A sheet is parsed only while its rows are read, so damage shows late as well as early.
    damage = (InvalidFileException, KeyError, ValueError, SyntaxError, TypeError)
    packing = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
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
    return _xlsx_table(rows, notes, f"{name} [{title}]" if others else name)


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


def _xlsx_table(rows: list[list[str]], notes: dict[str, str], name: str) -> Table:
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
    return table_from_columns(padded[0], columns, numbers, notes, name)
