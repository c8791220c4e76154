"""JSON Lines, JSON arrays and Parquet as tables: records with named fields.

Knows how fields become cells. Does not know what the columns mean or where the bytes are from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from labelfusion.data.delimited import resolve_encoding
from labelfusion.data.source import Part, RawTable, Source, WholeTable
from labelfusion.data.table import cell_text, place
from labelfusion.errors import InputError

_MARK = "\ufeff"


def json_table(source: Source, encoding: str | None) -> RawTable:
    encoding = resolve_encoding(source, encoding)
    with source.text(encoding) as file:
        first = next((line for line in file if line.removeprefix(_MARK).strip()), "")
    if not first.removeprefix(_MARK).lstrip().startswith("["):
        return _JsonLines(source, encoding)
    with source.text(encoding) as file:
        records = _parse_json(file.read().removeprefix(_MARK), source.name, None)
    for number, record in enumerate(records, start=1):
        _check_record(record, source.name, number)
    header: list[str] = []
    columns = _record_columns(records, header)
    notes = {"encoding": encoding, "rows": "row numbers count the records from 1"}
    return WholeTable(source.name, notes, header, columns, np.arange(len(records)) + 1)


class _JsonLines:
    """An object a line; the header is every key that occurs."""

    def __init__(self, source: Source, encoding: str) -> None:
        self.name, self._source, self._encoding = source.name, source, encoding
        self.notes = {"encoding": encoding, "rows": "row numbers are line numbers"}
        self.header: list[str] = []

    def parts(self, size: int | None) -> Iterator[Part]:
        # Only a line feed ends a line: JSON strings may hold other line separators.
        with self._source.text(self._encoding, newline="\n") as file:
            lines = (
                (i, text)
                for i, line in enumerate(file, start=1)
                if (text := line.removeprefix(_MARK)).strip()
            )
            while some := list(islice(lines, size)):
                records = [self._record(line, i) for i, line in some]
                columns = _record_columns(records, self.header)
                yield Part(columns, np.array([i for i, _ in some]))

    def _record(self, line: str, number: int) -> Any:
        record = _parse_json(line, self.name, number)
        _check_record(record, self.name, number)
        return record


def _record_columns(records: Sequence[Any], header: list[str]) -> list[list[str]]:
    """Cells by column; keys that are new are added to `header`."""
    new = dict.fromkeys(key for record in records for key in record)
    header += [key for key in new if key not in set(header)]
    return [[cell_text(record.get(key)) for record in records] for key in header]


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


class ParquetTable:
    """Parquet, read a few row groups at a time."""

    def __init__(self, source: Source) -> None:
        import pyarrow.parquet as pq

        self.name, self.notes, self._source = source.name, {}, source
        with self._explained(), source.open() as file:
            parquet = pq.ParquetFile(file)
            self.header = list(parquet.schema_arrow.names)

    def parts(self, size: int | None) -> Iterator[Part]:
        import pyarrow.parquet as pq

        start = 2
        with self._explained(), self._source.open() as file:
            parquet = pq.ParquetFile(file)
            tables = parquet.iter_batches(size) if size else [parquet.read()]
            for table in tables:
                columns = [[cell_text(v) for v in c.to_pylist()] for c in table.columns]
                yield Part(columns, np.arange(table.num_rows) + start)
                start += table.num_rows

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                "The Parquet file is damaged",
                where=self.name,
                expected="a complete Parquet file",
                found=str(error).splitlines()[0],
                remedy="Export or download it again",
            ) from None
