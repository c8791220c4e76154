"""Answers on disk, shared by processes, through diskcache.

diskcache pickles by default, and even its JSONDisk unpickles a row that was set to pickle mode in
the SQLite file, which runs whatever code the row holds. `TextDisk` therefore stores and reads text
and nothing else. A damaged database is put aside and a new one begun: a miss and a warning.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diskcache import Cache, Disk, Timeout
from diskcache.core import DBNAME, MODE_RAW

from labelfusion.cache.answers import AnswerCache, warn
from labelfusion.processes import is_alive, this_process

_FAILURES = (sqlite3.DatabaseError, Timeout)


class RefusedRow(Exception):
    """A row that is not plain text: not written by this cache, so not read."""


class TextDisk(Disk):
    """Text keys to text values, inside the database; everything else is refused.

    No row refers to a file, so neither reading nor removing one can touch a path that a row names.
    """

    def __init__(self, directory: str, **_settings: object) -> None:
        super().__init__(directory)

    def put(self, key):
        if type(key) is not str:
            raise TypeError(f"a cache key is text, not {type(key).__name__}")
        return key, True

    def get(self, key, raw):
        return key if raw and type(key) is str else None

    def store(self, value, read, key=None):  # noqa: ARG002
        if type(value) is not str or read:
            raise TypeError(f"a cache value is text, not {type(value).__name__}")
        return 0, MODE_RAW, None, value

    def fetch(self, mode, filename, value, read):
        if mode != MODE_RAW or filename is not None or type(value) is not str or read:
            raise RefusedRow("a row is not plain text; it was not written by this cache")
        return value

    def remove(self, file_path):
        """There are no files beside the database."""


class DiskCache(AnswerCache):
    """Rows in an SQLite file in `folder` (mode 0700), the oldest dropped above `max_bytes`."""

    backend = "disk"

    def __init__(self, folder: Path, max_bytes: int) -> None:
        super().__init__()
        self._folder, self._max_bytes = folder, max_bytes
        self._token = uuid.uuid4().hex
        self._rows = self._open(folder)
        self._claims = self._open(folder / "claims")

    def close(self) -> None:
        self._rows.close()
        self._claims.close()

    def _open(self, folder: Path) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        try:
            return self._connect(folder)
        except sqlite3.DatabaseError:
            _put_aside_if_damaged(folder / DBNAME)
            return self._connect(folder)

    def _connect(self, folder: Path) -> Any:
        return Cache(
            str(folder),
            disk=TextDisk,
            size_limit=self._max_bytes,
            # Reading must not write: least recently *stored* needs no update on a hit.
            eviction_policy="least-recently-stored",
            statistics=0,
        )

    def _recover(self) -> None:
        """A new connection, to a new database if the old one is damaged."""
        self._rows.close()
        _put_aside_if_damaged(self._folder / DBNAME)
        self._rows = self._connect(self._folder)

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
        recovered = False
        for key in keys:
            try:
                row = self._rows.get(key)
            except RefusedRow as error:
                warn(f"A cached answer was refused and will be asked for again: {error}")
                continue
            except _FAILURES as error:
                warn(f"A cached answer cannot be read and will be asked for again: {error}")
                # Once a call: checking a large database takes seconds.
                if not recovered:
                    self._recover()
                recovered = True
                continue
            if row is not None:
                yield key, row

    def _write(self, key: str, row: str) -> None:
        try:
            self._rows.set(key, row)
        except _FAILURES:
            self._recover()
            try:
                self._rows.set(key, row)
            except _FAILURES as error:
                warn(f"An answer could not be cached: {error}")

    def _keys(self) -> Iterator[str]:
        try:
            for key in self._rows:
                if key is None:
                    warn("A cached row has a key that is not text; it is left alone")
                else:
                    yield key
        except _FAILURES as error:
            warn(f"The cache could not be read to its end: {error}")
            self._recover()

    def _remove(self, keys: Collection[str]) -> None:
        with self._rows.transact():
            for key in keys:
                self._rows.delete(key)

    def _size(self) -> tuple[int, int]:
        try:
            return len(self._rows), self._rows.volume()
        except _FAILURES:
            self._recover()
            return len(self._rows), self._rows.volume()

    def claim(self, keys: Iterable[str], *, seconds: float) -> set[str]:
        wanted, mine = list(keys), self._owner()
        try:
            with self._claims.transact():
                return {key for key in wanted if self._claim(key, mine, seconds)}
        except _FAILURES as error:
            warn(f"Texts could not be claimed, another process may ask for them too: {error}")
            return set(wanted)

    def _claim(self, key: str, mine: str, seconds: float) -> bool:
        if self._claims.add(key, mine, expire=seconds):
            return True
        holder = self._holder(key)
        if holder is not None and holder != mine and is_alive(*json.loads(holder)[:2]):
            return False
        return self._claims.set(key, mine, expire=seconds)

    def _owner(self) -> str:
        return json.dumps([*this_process(), self._token])

    def _holder(self, key: str) -> str | None:
        try:
            return self._claims.get(key)
        except RefusedRow:
            return None

    def unclaim(self, keys: Iterable[str]) -> None:
        mine = self._owner()
        try:
            with self._claims.transact():
                for key in keys:
                    if self._holder(key) == mine:
                        self._claims.delete(key)
        except _FAILURES as error:
            warn(f"Claims stay until they expire: {error}")


def _put_aside_if_damaged(database: Path) -> None:
    if _is_sound(database):
        return
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", "-wal", "-shm"):
        file = database.with_name(database.name + suffix)
        if file.exists():
            file.rename(file.with_name(f"{database.name}.damaged-{stamp}{suffix}"))
    warn(
        f"The cache {database} is damaged. It was kept as {database.name}.damaged-{stamp} and a "
        "new one begun: answers in the old one will be asked for again"
    )


def _is_sound(database: Path) -> bool:
    connection = sqlite3.connect(database)
    try:
        return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    except sqlite3.OperationalError:
        # Locked, full or not permitted: no evidence of damage, and no reason to start anew.
        return True
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
