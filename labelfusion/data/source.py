"""Where bytes come from: a path, an address such as s3://bucket/key, or an upload in memory.

Bytes are read in passes, in blocks, never as a whole. Does not know what they mean.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import numpy as np

from labelfusion.errors import InputError

_BLOCK = 1 << 20


class Part(NamedTuple):
    """Some rows of a table as they stand: a list of cells a column, and the rows' numbers."""

    columns: list[list[str]]
    numbers: np.ndarray


class RawTable(Protocol):
    """A table before blank rows are dropped and its header is checked.

    `header` may grow while parts are read; it is complete once they have all been read.
    """

    name: str
    notes: dict[str, str]
    header: list[str]

    def parts(self, size: int | None) -> Iterator[Part]:
        """The rows, about `size` at a time (None: all at once), the same parts every time."""
        ...


class WholeTable:
    """A table that is in memory already."""

    def __init__(
        self,
        name: str,
        notes: dict[str, str],
        header: list[str],
        columns: list[list[str]],
        numbers: np.ndarray,
    ) -> None:
        self.name, self.notes, self.header = name, notes, header
        self._columns, self._numbers = columns, numbers

    def parts(self, size: int | None) -> Iterator[Part]:
        step = size or max(len(self._numbers), 1)
        for start in range(0, max(len(self._numbers), 1), step):
            cut = slice(start, start + step)
            yield Part([column[cut] for column in self._columns], self._numbers[cut])


class Source:
    """Bytes that can be read again and again. `name` is what to call them."""

    def __init__(self, name: str, opened: Callable[[], BinaryIO]) -> None:
        self.name, self._open = name, opened

    @classmethod
    def of(cls, place: str | Path | bytes, name: str | None = None) -> Source:
        """Of a path, an address, or the content itself (then `name` must be given)."""
        if isinstance(place, bytes):
            return cls(Path(name or "").name, lambda: io.BytesIO(place))
        if is_address(place):
            return cls(name or str(place).rpartition("/")[2], lambda: _open_address(str(place)))
        path = Path(place).expanduser()
        return cls(name or path.name, lambda: path.open("rb"))

    def open(self) -> BinaryIO:
        """A new file object, at its start. Raises OSError."""
        return self._open()

    def text(self, encoding: str, *, newline: str | None = None) -> io.TextIOWrapper:
        """The decoded text from its start; line breaks as `open` treats them."""
        return io.TextIOWrapper(self.open(), encoding=encoding, newline=newline)

    def blocks(self) -> Iterator[bytes]:
        with self.open() as file:
            while block := file.read(_BLOCK):
                yield block

    def size(self) -> int:
        with self.open() as file:
            return file.seek(0, io.SEEK_END)

    def head(self, length: int) -> bytes:
        return self.window(0, length)

    def window(self, start: int, end: int) -> bytes:
        with self.open() as file:
            file.seek(start)
            return file.read(end - start)

    def holds(self, any_of: bytes) -> bool:
        """Whether one of these bytes occurs."""
        return any(byte in block for block in self.blocks() for byte in any_of)

    def blank(self) -> bool:
        return not any(block.strip() for block in self.blocks())

    def line_at(self, offset: int) -> int:
        """The number, from 1, of the line that the byte at `offset` is in."""
        line, left = 1, offset
        for block in self.blocks():
            line += block.count(b"\n", 0, max(left, 0))
            left -= len(block)
            if left <= 0:
                break
        return line


def is_address(place: str | Path | bytes) -> bool:
    """Whether it is an address such as s3://bucket/key, and no path."""
    return isinstance(place, str) and "://" in place


def file_system(address: str) -> tuple[Any, str]:
    """pyarrow's file system of an address, and the path in it. Raises InputError."""
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(address)
    except (pa.ArrowException, ValueError) as error:
        raise InputError(
            "The address cannot be opened",
            where=address,
            expected="an address such as s3://bucket/file.parquet, gs://… or file:///…",
            found=str(error).splitlines()[0],
            remedy="Correct the address; credentials come from the environment",
        ) from None


def _open_address(address: str) -> BinaryIO:
    system, path = file_system(address)
    return cast(BinaryIO, io.BufferedReader(system.open_input_file(path), _BLOCK))


def first_undecodable(source: Source, encoding: str) -> int | None:
    """Offset of the first byte that is not text in `encoding`; None if all of it is."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    for block, last in _with_last(source.blocks()):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(block, last)
        except UnicodeDecodeError as error:
            return read - pending + error.start
        read += len(block)
    return None


def _with_last(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    for block in blocks:
        yield block, False
    yield b"", True
