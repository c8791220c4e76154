"""Which batches are under way: one small JSON file each, so that they outlive the process.

A record is written before its batch is handed in and removed once every reply of it is in the
cache and paid for. It holds ids and cache keys, no text and no API key. A record is held by one
process at a time. Knows no provider.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from labelfusion.errors import LabelFusionError
from labelfusion.files import write_json

_FORMAT = 1


@dataclass
class BatchRecord:
    """One batch.

    Attributes:
        token: its name here and its mark at the provider.
        batch_id: its name at the provider; None until that is known.
        service: provider, address and model: who else may read the record.
        reservation: number of the money reserved for it; None where nothing is counted.
        created: when it was handed in, ISO 8601.
        requests: name of a request -> id in it -> cache key of the text.
    """

    token: str
    batch_id: str | None
    service: list[str]
    reservation: int | None
    created: str
    requests: dict[str, dict[str, str]]

    @property
    def since(self) -> datetime:
        return datetime.fromisoformat(self.created)

    @property
    def keys(self) -> set[str]:
        return {key for by_id in self.requests.values() for key in by_id.values()}


class BatchRecords:
    """The records in `folder`, or, without one, none that outlive the process."""

    def __init__(self, folder: Path | None, service: Collection[str]) -> None:
        self._folder, self._service = folder, list(service)
        self._locks: dict[str, FileLock] = {}

    def new(self, requests: Sequence[dict[str, str]], reservation: int | None) -> BatchRecord:
        """A record of requests (id -> cache key), held by this process and on disk."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        token = secrets.token_hex(8)
        named = {f"{token}-{i}": by_id for i, by_id in enumerate(requests)}
        record = BatchRecord(token, None, self._service, reservation, created, named)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._hold(record.token)
        self.save(record)
        return record

    def save(self, record: BatchRecord) -> None:
        """Write what is known now."""
        if self._folder is not None:
            write_json(self._path(record.token), {"format": _FORMAT, **asdict(record)})

    def forget(self, record: BatchRecord) -> None:
        """Everything of this batch is safe."""
        if self._folder is not None:
            self._path(record.token).unlink(missing_ok=True)
            self._let_go(record.token)

    def take(self, keys: Collection[str]) -> Iterator[BatchRecord]:
        """Hold the records of this service that have some of `keys` and that no process holds.

        Raises LabelFusionError: a record cannot be read.
        """
        wanted = set(keys)
        for path in sorted(self._folder.glob("*.json")) if self._folder is not None else ():
            if not self._hold(path.stem):
                continue
            record = _read(path)
            if record and record.service == self._service and record.keys & wanted:
                yield record
            else:
                self._let_go(path.stem)

    def where(self, record: BatchRecord) -> str:
        """The record's file, for messages."""
        return str(self._path(record.token)) if self._folder is not None else "no file"

    def release(self) -> None:
        """Hold nothing any more. What is not finished stays on disk."""
        for token in list(self._locks):
            self._let_go(token)

    def _path(self, token: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{token}.json"

    def _hold(self, token: str) -> bool:
        """Whether this process holds the record now. The lock ends with the process."""
        path = self._path(token).with_suffix(".lock")
        lock = FileLock(path, timeout=0, is_singleton=False, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return False
        self._locks[token] = lock
        return True

    def _let_go(self, token: str) -> None:
        lock = self._locks.pop(token)
        if not self._path(token).exists():
            # Only the lock of a record that is gone: another process may wait for the others.
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _read(path: Path) -> BatchRecord | None:
    """The record, or None if it was finished in the meantime."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return BatchRecord(**{field.name: values[field.name] for field in fields(BatchRecord)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabelFusionError(
            "The record of a batch that was handed in cannot be read",
            where=str(path),
            found=str(error),
            remedy="Remove the file: its texts are then asked about again",
        ) from None
