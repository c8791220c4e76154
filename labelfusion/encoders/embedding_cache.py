"""Bytes kept by key, on disk for all processes or in memory for one.

Knows keys and bytes. Does not know texts or models: callers hash what a value depends on into its
key. Raw bytes with a checksum, never pickle; what is damaged is a miss, and is said once.
"""

from __future__ import annotations

import sqlite3
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")

FILE_NAME = "embeddings.sqlite"
# SQLite takes at least 999 variables in one statement, in every version.
KEYS_A_QUERY = 900
WAIT_SECONDS = 30.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, checksum INTEGER)"


class ByteCache(Protocol):
    """What both caches do."""

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values that are there; keys without one are left out."""
        ...

    def put_many(self, values: Mapping[str, bytes]) -> None:
        """Store all of `values`, or none of them if the process dies meanwhile."""
        ...


def open_cache(cache_dir: Path | None) -> ByteCache:
    """The disk cache in `cache_dir`, which is made if need be; in memory for None."""
    return MemoryCache() if cache_dir is None else DiskCache(Path(cache_dir) / FILE_NAME)


class MemoryCache:
    """A dict that lives as long as its owner."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        return {key: self._values[key] for key in keys if key in self._values}

    def put_many(self, values: Mapping[str, bytes]) -> None:
        self._values.update(values)


class DiskCache:
    """One SQLite file, safe for several processes and threads: each call has its own connection.

    A cache must not stop work that can go on without it: a damaged file is put aside and begun
    anew, and a file that cannot be used (read-only, full disk) is done without, with a warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        return self._guarded(lambda db: dict(_sound(_select(db, keys))), {})

    def put_many(self, values: Mapping[str, bytes]) -> None:
        rows = [(key, value, zlib.crc32(value)) for key, value in values.items()]

        def insert(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)

        self._guarded(insert, None)

    def _guarded(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        try:
            with closing(self._connect()) as db:
                return action(db)
        except (sqlite3.OperationalError, OSError) as error:
            _warn(f"{self.path}: the embedding cache cannot be used ({error}); going on without")
        except sqlite3.DatabaseError as error:
            self._put_aside(error)
        return otherwise

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=WAIT_SECONDS)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(_SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _put_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(self.path.name + ".damaged")
        _warn(f"{self.path}: the embedding cache is damaged ({error}); it is begun anew")
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as reason:
            _warn(f"{self.path}: could not be put aside ({reason})")


def _select(db: sqlite3.Connection, keys: Sequence[str]) -> Iterable[tuple[str, object, object]]:
    for start in range(0, len(keys), KEYS_A_QUERY):
        chunk = keys[start : start + KEYS_A_QUERY]
        marks = ",".join("?" * len(chunk))
        query = f"SELECT key, value, checksum FROM entries WHERE key IN ({marks})"
        yield from db.execute(query, chunk)


def _sound(rows: Iterable[tuple[str, object, object]]) -> Iterable[tuple[str, bytes]]:
    damaged = 0
    for key, value, checksum in rows:
        if isinstance(value, bytes) and zlib.crc32(value) == checksum:
            yield key, value
        else:
            damaged += 1
    if damaged:
        _warn(f"{damaged} damaged entries in the embedding cache are computed again")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
