"""Files and uploads to a Table, whole or in parts: CSV, TSV, JSON Lines, Parquet and XLSX.

Trusts a file's content, not its name alone. Does not know what the columns mean. XLSX files and
JSON arrays are read whole in any case.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labelfusion.data.delimited import Delimited, unmarked_utf16
from labelfusion.data.records import ParquetTable, json_table
from labelfusion.data.source import Part, RawTable, Source
from labelfusion.data.table import Outline, Table, cut_table, table_from_columns
from labelfusion.data.workbook import xlsx_table
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
_SURVEY_ROWS = 10_000
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
    raw = _raw_table(source, name, encoding, delimiter, sheet)
    # A file without rows has no part.
    part = next(raw.parts(None), Part([[] for _ in raw.header], np.zeros(0, dtype=int)))
    return table_from_columns(raw.header, part.columns, part.numbers, raw.notes, raw.name)


class TableFile:
    """A file that is read in parts. It was read once before, so that its errors are known first.

    Attributes:
        name: what to call it in messages.
        columns: their names.
        rows: how many there are, blank ones not counted.
        notes: what was detected.
    """

    def __init__(self, raw: RawTable) -> None:
        self._raw, self.name = raw, raw.name
        outline = Outline(raw.name)
        for part in raw.parts(_SURVEY_ROWS):
            outline.add(part.columns)
        self._kept = outline.columns(raw.header)
        self.columns, self.rows = list(self._kept.values()), outline.rows
        self.notes = outline.notes(raw.notes)

    def tables(self, size: int) -> Iterator[Table]:
        """The rows in order, at most `size` at a time and the same ones every time; some tables
        have fewer, or none, where rows are blank."""
        for columns, numbers in self._raw.parts(size):
            filled = Outline(self.name).add(columns)
            yield cut_table(self._kept, columns, numbers, filled, self.notes, self.name)


def open_table(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> TableFile:
    """A file to be read in parts, checked to its end; arguments and errors as of `read_table`.

    `source` may be an address such as s3://bucket/file.parquet too.
    """
    return TableFile(_raw_table(source, name, encoding, delimiter, sheet))


def _raw_table(
    place: str | Path | bytes,
    name: str | None,
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
) -> RawTable:
    source = _source(place, name)
    wanted = _wanted_format(source.name)
    _check_content(source, wanted)
    if wanted == _DELIMITED:
        return Delimited(source, encoding, delimiter)
    if wanted == _JSON:
        return json_table(source, encoding)
    return ParquetTable(source) if wanted == _PARQUET else xlsx_table(source, sheet)


def _source(place: str | Path | bytes, name: str | None) -> Source:
    if isinstance(place, bytes) and not name:
        raise InputError(
            "The data has no name",
            expected="name='file.csv' beside the bytes, to tell the format",
            remedy="Pass the name of the uploaded file",
        )
    source = Source.of(place, name)
    try:
        source.open().close()
    except FileNotFoundError:
        raise _absent(str(place)) from None
    except OSError as error:
        raise InputError(
            "The file cannot be read",
            where=str(place),
            expected="a readable file",
            found=error.strerror or str(error),
            remedy="Name a file, not a folder, that you may read",
        ) from None
    return source


def _absent(place: str) -> InputError:
    path = Path(place).expanduser()
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return InputError(
        "The file does not exist",
        where=place,
        expected=f"a data file ({', '.join(SUFFIXES)})",
        found="no such file",
        remedy=did_you_mean(path.name, near, what="The folder holds")
        or "Check the path; relative ones start at the current folder",
    )


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


def _check_content(source: Source, wanted: str) -> None:
    """Raise InputError when the content is not what the name's ending says."""
    name = source.name
    if source.blank():
        raise InputError(
            "The file is empty",
            where=name,
            expected="a header and at least one row below it",
            found=f"{source.size()} bytes",
            remedy="Check that the right file was exported",
        )
    found = _content_kind(source)
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


def _content_kind(source: Source) -> str:
    """What the bytes are, by their content: "text", "Parquet", "an Excel workbook", …"""
    start = source.head(2000)
    if start.startswith(b"PK\x03\x04"):
        return _zip_kind(source)
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    head = start[:1024].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML)"
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))
    if not marked and not unmarked_utf16(start) and source.holds(b"\x00"):
        return "binary data"
    return _TEXT


def _zip_kind(source: Source) -> str:
    try:
        with source.open() as file, zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError):
        return "a damaged zip archive or workbook"
    return _XLSX if "xl/workbook.xml" in names else "a zip archive"
