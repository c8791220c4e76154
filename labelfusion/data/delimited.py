"""Delimited text: finds encoding and delimiter, and reads the cells with their row numbers.

Knows CSV, TSV and their kin. Does not know other formats, columns' meaning or where bytes are from.
Reads a file in passes and in parts, so that its size is no limit.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

from labelfusion.data.source import Part, Source, first_undecodable
from labelfusion.data.table import list_rows, place
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


def detect_encoding(source: Source) -> str:
    """Encoding in which all of `source` can be read. Raises InputError if none is found.

    A byte order mark decides; else UTF-8 if it fits; else UTF-16 by its zero bytes; else the most
    plausible single- or double-byte encoding around the first byte that is not UTF-8.
    """
    head = source.head(_SAMPLE_BYTES)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return _checked(source, encoding)
    unmarked = unmarked_utf16(head)
    if unmarked:
        return _checked(source, unmarked)
    start = first_undecodable(source, "utf-8")
    return "utf-8" if start is None else _checked(source, _legacy_encoding(source, start))


def unmarked_utf16(data: bytes) -> str | None:
    """ "utf-16-le" or "-be" where every other byte is mostly zero, as in Western UTF-16."""
    sample = data[:2000]
    if len(sample) < 4:
        return None
    even, odd = (sample[i::2].count(0) / len(sample[i::2]) for i in (0, 1))
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.1 else None


def _legacy_encoding(source: Source, start: int) -> str:
    from charset_normalizer import from_bytes

    sample = source.window(max(0, start - _SAMPLE_BYTES // 2), start + _SAMPLE_BYTES // 2)
    # Text that repeats itself fails the library's usual limit, so a laxer one comes second.
    tries = (from_bytes(sample, cp_isolation=_LEGACY, threshold=limit) for limit in (0.2, 0.4))
    matches = next((list(found) for found in tries if len(found)), [])
    least = min((match.chaos for match in matches), default=0.0)
    # The Western code page is the usual one, so it wins where no other reads better.
    western = [m for m in matches if m.chaos <= least and "cp1252" in m.could_be_from_charset]
    best_name = "cp1252" if western or not matches else matches[0].encoding
    if best_name == "cp1252" and source.holds(b"\x81\x8d\x8f\x90\x9d"):
        return "latin-1"
    return best_name


def _checked(source: Source, encoding: str) -> str:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise InputError(
            "The encoding is not known",
            where=source.name,
            expected="a name such as utf-8, cp1252 or utf-16",
            found=repr(encoding),
            remedy="Correct data.encoding, or leave it out to have it detected",
        ) from None
    start = first_undecodable(source, encoding)
    if start is not None:
        raise InputError(
            f"The text is not {encoding}",
            where=f"{source.name}, line {source.line_at(start)}",
            expected=f"text in {encoding}",
            found=f"byte 0x{source.window(start, start + 1)[0]:02x} at offset {start}",
            remedy="Set data.encoding to the file's encoding, or save the file as UTF-8",
        )
    return encoding


def resolve_encoding(source: Source, encoding: str | None) -> str:
    """The given encoding if it fits, else the detected one. Raises InputError."""
    if encoding is None:
        return detect_encoding(source)
    # A mark at the start of UTF-8 is no part of the first column's name.
    is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    return _checked(source, "utf-8-sig" if is_utf8 else encoding)


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


class Delimited:
    """Delimited text in parts (`labelfusion.data.source.RawTable`).

    In tab-separated files without quoted headers, quotes that do not close are taken as text.
    Raises InputError for broken quotes and, once all parts have been read, for ragged rows.
    """

    def __init__(self, source: Source, encoding: str | None, delimiter: str | None) -> None:
        _allow_long_cells()
        self.name, self._source = source.name, source
        self._encoding = resolve_encoding(source, encoding)
        self.notes = {"encoding": self._encoding}
        if delimiter is None:
            sample = source.head(4 * _SAMPLE_BYTES).decode(self._encoding, errors="ignore")
            delimiter = detect_delimiter(sample)
        self._delimiter = _delimiter_sign(delimiter, self.name)
        self.notes["delimiter"] = DELIMITERS.get(self._delimiter, self._delimiter)
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
        if self._delimiter == "\t" and not self._quotes_pair_up():
            self._quoting = csv.QUOTE_NONE
            self.notes["quotes"] = "taken as part of the text, because they do not pair up"
        self._above, self.header = self._find_header()

    def parts(self, size: int | None) -> Iterator[Part]:
        """The cells below the header, `size` records at a time."""
        records, width = self._records(), len(self.header)
        start = self._above + 2
        bad: list[tuple[int, int]] = []
        next(islice(records, self._above, self._above + 1), None)
        while body := list(islice(records, size)):
            rows = [_fitted(record, width) for record in body]
            bad += [(start + i, len(row)) for i, row in enumerate(rows) if len(row) != width]
            if not bad:
                columns = [list(column) for column in zip(*rows, strict=True)]
                yield Part(columns, np.arange(len(rows)) + start)
            start += len(rows)
        if bad:
            raise self._ragged(bad)

    def _quotes_pair_up(self) -> bool:
        if self._source.head(64).lstrip(codecs.BOM_UTF8).startswith(b'"'):
            return True
        try:
            for _ in self._records():
                pass
        except InputError:
            return False
        return True

    def _find_header(self) -> tuple[int, list[str]]:
        """How many records are above the header, and the header."""
        for above, record in enumerate(self._records()):
            if any(cell.strip() for cell in record):
                return above, record
        raise InputError(
            "The file is empty",
            where=self.name,
            expected="a header and at least one row below it",
            found="no cells",
            remedy="Check that the right file was exported",
        )

    def _records(self) -> Iterator[list[str]]:
        read = 0
        with self._source.text(self._encoding, newline="") as lines:
            reader = csv.reader(
                lines, delimiter=self._delimiter, quoting=self._quoting, strict=True
            )
            try:
                for record in reader:
                    read += 1
                    yield record
            except csv.Error as error:
                raise self._broken(error, read + 1) from None

    def _broken(self, error: csv.Error, row: int) -> InputError:
        unclosed = "unexpected end" in str(error)
        return InputError(
            "A quoted cell is not closed" if unclosed else "A quote stands inside a quoted cell",
            where=place(self.name, row),
            expected='cells in double quotes, a quote inside them doubled ("")',
            found="no closing quote up to the end of the file" if unclosed else str(error),
            remedy="Correct the quotes in this row, or export the file again as CSV",
        )

    def _ragged(self, bad: list[tuple[int, int]]) -> InputError:
        label = DELIMITERS.get(self._delimiter, repr(self._delimiter))
        numbers = [number for number, _ in bad]
        return InputError(
            "A row has another number of cells than the header"
            if len(bad) == 1
            else f"{len(bad)} rows have another number of cells than the header",
            where=place(self.name, numbers[0]),
            expected=f"{len(self.header)} cells separated by {label}",
            found=f"{bad[0][1]} cells" + (f" (see {list_rows(numbers)})" if len(bad) > 1 else ""),
            remedy=f"Put cells that contain a {label} or a line break in double quotes",
        )


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
    # The csv module's limit (131,072 characters) is one for the whole process; texts are longer.
    csv.field_size_limit(2**31 - 1)


def _fitted(record: list[str], width: int) -> list[str]:
    """A blank record as empty cells, and a record without surplus cells that are empty."""
    if len(record) == width:
        return record
    if not any(cell.strip() for cell in record):
        return [""] * width
    return record if any(record[width:]) else record[:width]
