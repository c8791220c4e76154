"""Answers for the life of the process, and no answers at all.

Knows nothing of other processes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence

from labelfusion.cache.answers import AnswerCache


class MemoryCache(AnswerCache):
    """Rows in a dict, oldest dropped first when `max_bytes` of JSON are exceeded."""

    backend = "memory"

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._rows: dict[str, str] = {}
        self._bytes = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
        for key in keys:
            row = self._rows.get(key)
            if row is not None:
                yield key, row

    def _write(self, key: str, row: str) -> None:
        with self._lock:
            self._drop(key)
            self._rows[key] = row
            self._bytes += len(row)
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._rows)))

    def _drop(self, key: str) -> None:
        self._bytes -= len(self._rows.pop(key, ""))

    def _keys(self) -> Iterator[str]:
        return iter(list(self._rows))

    def _remove(self, keys: Collection[str]) -> None:
        with self._lock:
            for key in keys:
                self._drop(key)

    def _size(self) -> tuple[int, int]:
        return len(self._rows), self._bytes

    def claim(self, keys: Iterable[str], *, seconds: float) -> set[str]:  # noqa: ARG002
        return set(keys)

    def unclaim(self, keys: Iterable[str]) -> None:
        """There is no other process to tell."""


class NoCache(MemoryCache):
    """Keeps nothing: every text is asked for every time."""

    backend = "none"

    def __init__(self) -> None:
        super().__init__(max_bytes=0)

    def _write(self, key: str, row: str) -> None:
        """Forget it."""
