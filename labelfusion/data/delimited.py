"""Delimited text: finds encoding and delimiter, and reads the cells with their row numbers.

Knows CSV, TSV and their kin. Does not know other formats, columns' meaning or where bytes are from.
"""

from __future__ import annotations

import codecs
import csv
import io
from typing import Literal

import numpy as np

from labelfusion.data.table import Table, list_rows, place, table_from_columns
from labelfusion.errors import InputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_BOMS = (
    # UTF-32's mark begins with UTF-16's, so it comes first.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY = ["cp1252", "cp1250", "cp1251", "mac_roman", "cp932", "gb18030", "big5", "euc_kr"]
_SAMPLE_BYTES = 1 << 16
# Half of the sampled rows must agree with the header: a few broken rows are reported as broken,
# not taken as a sign of another delimiter.
_MIN_AGREEMENT = 0.5


def detect_encoding(data: bytes, name: str) -> str:
    """Encoding in which all of `data` can be read. Raises InputError if none is found.

    A byte order mark decides; else UTF-8 if it fits; else UTF-16 by its zero bytes; else the most
    plausible single- or double-byte encoding around the first byte that is not UTF-8.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _checked(data, encoding, name)
    unmarked = unmarked_utf16(data)
    if unmarked:
        return _checked(data, unmarked, name)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _checked(data, _legacy_encoding(data, error.start), name)
    return "utf-8"


def unmarked_utf16(data: bytes) -> str | None:
    """ "utf-16-le" or "-be" where every other byte is mostly zero, as in Western UTF-16."""
    sample = data[:2000]
    if len(sample) < 4:
        return None
    even, odd = (sample[i::2].count(0) / len(sample[i::2]) for i in (0, 1))
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.1 else None


def _legacy_encoding(data: bytes, start: int) -> str:
    from charset_normalizer import from_bytes

    sample = data[max(0, start - _SAMPLE_BYTES // 2) : start + _SAMPLE_BYTES // 2]
    # Text that repeats itself fails the library's usual limit, so a laxer one comes second.
    tries = (from_bytes(sample, cp_isolation=_LEGACY, threshold=limit) for limit in (0.2, 0.4))
    matches = next((list(found) for found in tries if len(found)), [])
    least = min((match.chaos for match in matches), default=0.0)
    # The Western code page is the usual one, so it wins where no other reads better.
    western = [m for m in matches if m.chaos <= least and "cp1252" in m.could_be_from_charset]
    best_name = "cp1252" if western or not matches else matches[0].encoding
    if best_name == "cp1252" and any(byte in data for byte in b"\x81\x8d\x8f\x90\x9d"):
        return "latin-1"
    return best_name


def _checked(data: bytes, encoding: str, name: str) -> str:
    try:
        data.decode(encoding)
    except LookupError:
        raise InputError(
            "The encoding is not known",
            where=name,
            expected="a name such as utf-8, cp1252 or utf-16",
            found=repr(encoding),
            remedy="Correct data.encoding, or leave it out to have it detected",
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"The text is not {encoding}",
            where=f"{name}, line {line}",
            expected=f"text in {encoding}",
            found=f"byte 0x{data[error.start]:02x} at offset {error.start}",
            remedy="Set data.encoding to the file's encoding, or save the file as UTF-8",
        ) from None
    return encoding


def resolve_encoding(data: bytes, encoding: str | None, name: str) -> str:
    """The given encoding if it fits, else the detected one. Raises InputError."""
    if encoding is None:
        return detect_encoding(data, name)
    # A mark at the start of UTF-8 is no part of the first column's name.
    is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    return _checked(data, "utf-8-sig" if is_utf8 else encoding, name)


def detect_delimiter(sample: str) -> str:
    """The delimiter under which most rows have as many cells as the header; comma if none does."""
    lines = io.StringIO(sample, newline="")
    best, best_score = ",", (False, 0.0, 0)
    for delimiter in DELIMITERS:
        lines.seek(0)
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        # The last row of a sample is usually cut.
        widths = widths[:-1] if len(widths) > 2 else widths
        if not widths:
            continue
        share = widths.count(widths[0]) / len(widths)
        score = (widths[0] > 1 and share >= _MIN_AGREEMENT, share, widths[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best


def read_delimited(data: bytes, name: str, encoding: str | None, delimiter: str | None) -> Table:
    """Cells of delimited text. Raises InputError for ragged rows and broken quotes, with the row.

    In tab-separated files without quoted headers, quotes that do not close are taken as text.
    """
    _allow_long_cells()
    notes = {"encoding": resolve_encoding(data, encoding, name)}
    if delimiter is None:
        sample = data[: 4 * _SAMPLE_BYTES].decode(notes["encoding"], errors="ignore")
        delimiter = detect_delimiter(sample)
    delimiter = _delimiter_sign(delimiter, name)
    notes["delimiter"] = DELIMITERS.get(delimiter, delimiter)
    try:
        records = _records(data, notes["encoding"], delimiter, csv.QUOTE_MINIMAL, name)
    except InputError:
        if delimiter != "\t" or data.lstrip(codecs.BOM_UTF8).startswith(b'"'):
            raise
        records = _records(data, notes["encoding"], delimiter, csv.QUOTE_NONE, name)
        notes["quotes"] = "taken as part of the text, because they do not pair up"
    return _table(records, delimiter, notes, name)


def _delimiter_sign(delimiter: str, name: str) -> str:
    """The character meant by ";", "semicolon" or (as shells pass a tab) a backslash and t."""
    by_word = {word: sign for sign, word in DELIMITERS.items()} | {"\\t": "\t"}
    sign = by_word.get(delimiter, delimiter)
    if len(sign) == 1 and sign not in '\r\n"':
        return sign
    raise InputError(
        "The delimiter is not one character",
        where=name,
        expected="one character, such as a comma, semicolon, tab (\\t) or pipe",
        found=repr(delimiter),
        remedy="Correct data.delimiter, or leave it out to have it detected",
    )


def _allow_long_cells() -> None:
    # The csv module's limit (131,072 characters) is one for the whole process; it guards nothing
    # here, where the file is in memory already.
    csv.field_size_limit(2**31 - 1)


def _records(
    data: bytes, encoding: str, delimiter: str, quoting: Literal[0, 3], name: str
) -> list[list[str]]:
    lines = io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="")
    records: list[list[str]] = []
    try:
        records.extend(csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True))
    except csv.Error as error:
        unclosed = "unexpected end" in str(error)
        raise InputError(
            "A quoted cell is not closed" if unclosed else "A quote stands inside a quoted cell",
            where=place(name, len(records) + 1),
            expected='cells in double quotes, a quote inside them doubled ("")',
            found="no closing quote up to the end of the file" if unclosed else str(error),
            remedy="Correct the quotes in this row, or export the file again as CSV",
        ) from None
    return records


def _table(records: list[list[str]], delimiter: str, notes: dict[str, str], name: str) -> Table:
    first = next((i for i, record in enumerate(records) if any(c.strip() for c in record)), None)
    if first is None:
        raise InputError(
            "The file is empty",
            where=name,
            expected="a header and at least one row below it",
            found="no cells",
            remedy="Check that the right file was exported",
        )
    header, body = records[first], records[first + 1 :]
    numbers = np.arange(len(body)) + first + 2
    rows = [_fitted(record, len(header)) for record in body]
    _check_widths(rows, numbers, len(header), delimiter, name)
    columns = [[row[i] for row in rows] for i in range(len(header))]
    return table_from_columns(header, columns, numbers, notes, name)


def _fitted(record: list[str], width: int) -> list[str]:
    """A blank record as empty cells, and a record without surplus cells that are empty."""
    if len(record) == width:
        return record
    if not any(cell.strip() for cell in record):
        return [""] * width
    return record if any(record[width:]) else record[:width]


def _check_widths(
    rows: list[list[str]], numbers: np.ndarray, width: int, delimiter: str, name: str
) -> None:
    bad = [i for i, row in enumerate(rows) if len(row) != width]
    if not bad:
        return
    label = DELIMITERS.get(delimiter, repr(delimiter))
    raise InputError(
        "A row has another number of cells than the header"
        if len(bad) == 1
        else f"{len(bad)} rows have another number of cells than the header",
        where=place(name, int(numbers[bad[0]])),
        expected=f"{width} cells separated by {label}",
        found=f"{len(rows[bad[0]])} cells"
        + (f" (see {list_rows(numbers[bad])})" if len(bad) > 1 else ""),
        remedy=f"Put cells that contain a {label} or a line break in double quotes",
    )
