"""What every answer cache does, whatever keeps the rows.

A cached answer is one JSON record: the key, the answer, who gave it, in which run and when. The
key is a hash made by the caller; texts, prompts and API keys are not part of a record. A row that
cannot be read is a miss and a warning, never an error: the worst it costs is asking again.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labelfusion.errors import InputError

_KEY = re.compile(r"[A-Za-z0-9_:.-]{1,200}")


class CacheWarning(UserWarning):
    """Something in the cache could not be used; the run goes on without it."""


def warn(message: str) -> None:
    warnings.warn(message, CacheWarning, stacklevel=3)


@dataclass(frozen=True)
class Record:
    """One cached answer as it is stored and exported. `created` is ISO 8601 in UTC."""

    key: str
    answer: dict
    provider: str
    model: str
    run: str
    created: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Raises ValueError for anything that is not a record."""
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(values, dict) or values.keys() != cls.__dataclass_fields__.keys():
            raise ValueError(f"not an object with {', '.join(cls.__dataclass_fields__)}")
        record = cls(**values)
        record._check()
        return record

    def _check(self) -> None:
        for name, value in asdict(self).items():
            kind = dict if name == "answer" else str
            if not isinstance(value, kind):
                raise ValueError(f"{name} is not {'an object' if kind is dict else 'text'}")
        if not _KEY.fullmatch(self.key):
            raise ValueError("key is not a hash")
        if datetime.fromisoformat(self.created).tzinfo is None:
            raise ValueError("created has no time zone")


@dataclass(frozen=True)
class CacheStats:
    """Entries and bytes in the whole cache; hits and misses of this process, in texts."""

    backend: str
    entries: int
    bytes: int
    hits: int
    misses: int


class AnswerCache(ABC):
    """LLM answers by key, shared by threads, and by processes where the backend persists."""

    backend: str

    def __init__(self) -> None:
        self._hits = self._misses = 0

    # What a backend supplies. Rows are JSON text of a Record.

    @abstractmethod
    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
        """(key, row) of the keys that are there."""

    @abstractmethod
    def _write(self, key: str, row: str) -> None: ...

    @abstractmethod
    def _keys(self) -> Iterator[str]: ...

    @abstractmethod
    def _remove(self, keys: Collection[str]) -> None: ...

    @abstractmethod
    def _size(self) -> tuple[int, int]:
        """(entries, bytes)."""

    @abstractmethod
    def claim(self, keys: Iterable[str], *, seconds: float) -> set[str]:
        """Keys now reserved for whoever uses this object; the rest are being asked by others.

        A claim ends by `unclaim`, after `seconds`, or with the process that made it. Two processes,
        or two threads that opened the cache each for itself, so pay each text once. Claim what
        `get_many` missed, then look up what was claimed once more: others may have answered it in
        between.
        """

    @abstractmethod
    def unclaim(self, keys: Iterable[str]) -> None:
        """Give claims back, once the answers are in or will not come."""

    def close(self) -> None:  # noqa: B027 - most backends hold nothing open
        """Release what is held open. The cache is not to be used afterwards."""

    # What all of them do.

    def get_many(self, keys: Sequence[str]) -> dict[str, dict]:
        """Answers of the keys that are cached; missing keys are absent from the dict."""
        found = {record.key: record.answer for record in self._records(keys)}
        self._hits += len(found)
        self._misses += len(set(keys)) - len(found)
        return found

    def put(
        self, key: str, answer: dict, *, provider: str = "", model: str = "", run: str = ""
    ) -> None:
        """Keep an answer. Only true answers belong here: no failure, refusal or guess.

        Raises ValueError if the key is not a hash or the answer cannot be written as JSON.
        """
        created = datetime.now(UTC).isoformat(timespec="seconds")
        record = Record(key, answer, provider, model, run, created)
        record._check()
        self._write(key, record.to_json())

    def stats(self) -> CacheStats:
        """How full the cache is, and how it did in this process."""
        return CacheStats(self.backend, *self._size(), self._hits, self._misses)

    def clear(
        self,
        *,
        run: str | None = None,
        model: str | None = None,
        older_than: timedelta | None = None,
    ) -> int:
        """Remove the answers that `find` finds. Returns how many were removed."""
        doomed = self.find(run=run, model=model, older_than=older_than)
        self.remove(doomed)
        return len(doomed)

    def find(
        self,
        *,
        run: str | None = None,
        model: str | None = None,
        older_than: timedelta | None = None,
    ) -> list[str]:
        """Keys of the answers that meet every condition given (all of them for none)."""
        before = None if older_than is None else datetime.now(UTC) - older_than
        return [
            record.key
            for record in self.records()
            if (run is None or record.run == run)
            and (model is None or record.model == model)
            and (before is None or datetime.fromisoformat(record.created) < before)
        ]

    def remove(self, keys: Collection[str]) -> None:
        """Forget these answers; keys that are not cached are passed over."""
        self._remove(keys)

    def records(self) -> Iterator[Record]:
        """Every readable record, in no particular order."""
        return self._records(list(self._keys()))

    def export_jsonl(self, path: Path) -> int:
        """Write every record as a line of JSON, readable by the user only. Returns how many."""
        records = list(self.records())
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        os.close(handle)
        temporary = Path(name)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(record.to_json() + "\n" for record in records)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return len(records)

    def import_jsonl(self, path: Path) -> int:
        """Add the records of an exported file; keys that are cached already stay as they are.

        Returns how many were added. Raises InputError, before anything is added, for a line that is
        not a record.
        """
        records = {record.key: record for record in _read_records(path)}
        known = {key for key, _ in self._read(list(records))}
        for key in records.keys() - known:
            self._write(key, records[key].to_json())
        return len(records.keys() - known)

    def _records(self, keys: Sequence[str]) -> Iterator[Record]:
        for key, row in self._read(keys):
            try:
                record = Record.from_json(row)
            except (ValueError, TypeError) as error:
                warn(f"A cached answer cannot be read and will be asked for again: {error}")
                continue
            if record.key == key:
                yield record
            else:
                warn("A cached answer is stored under another key and will be asked for again")


def _read_records(path: Path) -> Iterator[Record]:
    try:
        # Not splitlines: JSON text may hold other line separators, such as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("The file cannot be read", where=str(path), found=str(error)) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield Record.from_json(line)
        except (ValueError, TypeError) as error:
            raise InputError(
                "This line is not a cached answer",
                where=f"{path}, line {number}",
                expected="a line written by: labelfusion cache export",
                found=str(error),
                remedy="Repair or remove the line; nothing was imported",
            ) from None
