"""The ledger: one row per LLM request, in SQLite, never changed and never deleted.

Shared by every run and process of a workspace. Money that requests under way may still cost is
held in a second table until they are settled. Holds no text, no answer and no key. Knows no prices
and no limits: see `labelfusion.costs.budget`. Times are UTC, money is a Decimal in US dollars kept
as text, NULL where the price is unknown.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from labelfusion.costs.prices import Usage
from labelfusion.errors import LabelFusionError
from labelfusion.processes import is_alive, this_host, this_process

LEDGER_NAME = "ledger.sqlite3"
CACHED, UNRESOLVED = "cached", "unresolved"
_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time TEXT NOT NULL, run TEXT NOT NULL, source TEXT NOT NULL,
  provider TEXT NOT NULL, model TEXT NOT NULL, texts INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  usd TEXT, latency_s REAL NOT NULL, status TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS requests_no_update BEFORE UPDATE ON requests
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS requests_no_delete BEFORE DELETE ON requests
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TABLE IF NOT EXISTS reservations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time TEXT NOT NULL, run TEXT NOT NULL, source TEXT NOT NULL,
  provider TEXT NOT NULL, model TEXT NOT NULL, texts INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  usd TEXT, batch INTEGER NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL
) STRICT;
"""
COLUMNS = (
    *("time", "run", "source", "provider", "model", "texts"),
    *("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens"),
    *("usd", "latency_s", "status"),
)


@dataclass(frozen=True)
class Entry:
    """Who asked for what, when: the part of a ledger row that is known before the answer."""

    time: datetime
    run: str
    source: str
    provider: str
    model: str
    texts: int

    @property
    def month(self) -> str:
        return self.time.strftime("%Y-%m")

    def _values(self) -> tuple[object, ...]:
        time = self.time.isoformat(timespec="milliseconds")
        return time, self.run, self.source, self.provider, self.model, self.texts


@dataclass(frozen=True)
class Held:
    """A reservation as the ledger holds it: token counts and money are upper bounds."""

    id: int
    entry: Entry
    input_tokens: int
    output_tokens: int
    usd: Decimal | None
    batch: bool


@dataclass
class _RunningSum:
    """Settled money of a run or month, up to row `seen`: rows never change, so sums only grow."""

    seen: int = 0
    usd: Decimal = Decimal(0)
    unpriced: int = 0


@dataclass(frozen=True)
class Spend:
    """Settled and reserved US dollars, and how many settled requests have no known price."""

    settled: Decimal
    reserved: Decimal
    unpriced: int

    @property
    def total(self) -> Decimal:
        return self.settled + self.reserved


_CREATING = threading.Lock()


def _create(path: Path) -> None:
    """Make the file before SQLite does, so that it is never readable by others.

    A file that is there must not be opened: closing it would drop the locks of every connection
    of this process (POSIX), and another process would take the WAL away from under them.
    """
    with _CREATING, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


class Ledger:
    """The ledger file. Safe to share between threads; processes open their own.

    Raises LabelFusionError if the file is damaged, locked for long or of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._sums: dict[tuple[str, str], _RunningSum] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        _create(self.path)
        connection = sqlite3.connect(
            self.path, timeout=60, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        # Every commit is on disk when it returns: a reservation must outlive a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > _FORMAT:
            raise LabelFusionError(
                "The cost ledger was written by a newer version",
                where=str(self.path),
                remedy="Upgrade labelfusion",
            )
        connection.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORMAT};")
        return connection

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise LabelFusionError(
                "The cost ledger cannot be used, so nothing more is spent",
                where=str(self.path),
                found=str(error),
                remedy="Free disk space if it ran out; if the file is damaged, move it away: a new "
                "one is begun, which knows nothing of what was spent before",
            ) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that no other process can write beside; undone if the block raises."""
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    # Requests under way.

    def hold(
        self, entry: Entry, tokens: tuple[int, int], usd: Decimal | None, *, batch: bool
    ) -> Held:
        """Record a reservation of at most `tokens` (input, output) and `usd`."""
        values = (*entry._values(), *tokens, _text(usd), batch, this_host())
        names = "time, run, source, provider, model, texts, input_tokens, output_tokens, usd, batch"
        cursor = self._connection.execute(
            f"INSERT INTO reservations ({names}, host, pid, started) VALUES ({_marks(13)})",
            (*values, *this_process()),
        )
        return Held(cursor.lastrowid or 0, entry, *tokens, usd, batch)

    def held(self, reservation: int) -> Held | None:
        """The reservation of that number, or None if it was settled."""
        with self._lock, self._explained():
            row = self._connection.execute(_HELD + " WHERE id = ?", (reservation,)).fetchone()
        return row and _held(row)

    def settle(
        self, held: Held, usage: Usage, usd: Decimal | None, *, latency_s: float, status: str
    ) -> None:
        """Turn a reservation into a row of the ledger. Raises ValueError if it was one already."""
        with self.writing():
            self._settle(held, usage, usd, latency_s, status)

    def _settle(
        self, held: Held, usage: Usage, usd: Decimal | None, latency_s: float, status: str
    ) -> None:
        gone = self._connection.execute("DELETE FROM reservations WHERE id = ?", (held.id,))
        if gone.rowcount != 1:
            raise ValueError(f"reservation {held.id} was settled before")
        self.add(held.entry, usage, usd, latency_s=latency_s, status=status)

    def add(
        self, entry: Entry, usage: Usage, usd: Decimal | None, *, latency_s: float, status: str
    ) -> None:
        """Append a row."""
        tokens = (
            *(usage.input_tokens, usage.cached_input_tokens),
            *(usage.cache_write_tokens, usage.output_tokens),
        )
        row = (*entry._values(), *tokens, _text(usd), latency_s, status)
        with self._lock, self._explained():
            self._connection.execute(_INSERT, row)

    def resolve_abandoned(self) -> int:
        """Settle what processes that have died were asking for; returns how many rows.

        Nobody can tell whether those requests were billed, so they count as spent at their worst
        case, with status "unresolved". Batches outlive processes and are left, and so are the
        reservations of other machines: they go on counting as reserved.
        """
        with self.writing():
            rows = self._connection.execute(
                _HELD + " WHERE NOT batch AND host = ?", (this_host(),)
            ).fetchall()
            dead = [_held(row) for row in rows if not is_alive(*row[-2:])]
            for held in dead:
                worst = Usage(held.input_tokens, held.output_tokens)
                self._settle(held, worst, held.usd, 0.0, UNRESOLVED)
        return len(dead)

    # Reading.

    def spend(
        self, *, run: str | None = None, month: str | None = None, day: str | None = None
    ) -> Spend:
        """Money of a run (all months), or of all runs in a month ("2026-01") or on a day
        ("2026-01-31"), settled and reserved."""
        columns = {"run": run, "substr(time, 1, 7)": month, "substr(time, 1, 10)": day}
        column, value = next((name, v) for name, v in columns.items() if v is not None)
        with self._lock, self._explained():
            # Reservations first: one that is settled meanwhile is counted twice, never not at all.
            rows = self._connection.execute(
                f"SELECT usd FROM reservations WHERE {column} = ? AND usd IS NOT NULL", (value,)
            ).fetchall()
            total = self._running_sum(column, str(value))
            reserved = sum((Decimal(usd) for (usd,) in rows), Decimal(0))
            return Spend(total.usd, reserved, total.unpriced)

    def _running_sum(self, column: str, value: str) -> _RunningSum:
        total = self._sums.setdefault((column, value), _RunningSum())
        rows = self._connection.execute(
            f"SELECT id, usd FROM requests WHERE id > ? AND {column} = ?", (total.seen, value)
        )
        for number, usd in rows:
            total.seen = number
            total.unpriced += usd is None
            total.usd += Decimal(usd or 0)
        return total

    def rows(self, *, run: str | None = None) -> Iterator[dict[str, Any]]:
        """Settled rows in order, of one run or of all, as dicts of `COLUMNS` (usd a Decimal)."""
        where, values = ("", ()) if run is None else (" WHERE run = ?", (run,))
        with self._lock, self._explained():
            cursor = self._connection.execute(
                f"SELECT {', '.join(COLUMNS)} FROM requests{where} ORDER BY id", values
            )
            found = cursor.fetchall()
        for row in found:
            values = dict(zip(COLUMNS, row, strict=True))
            yield values | {"usd": _money(values["usd"])}


_HELD = (
    "SELECT id, time, run, source, provider, model, texts, input_tokens, output_tokens, usd, "
    "batch, pid, started FROM reservations"
)


def _held(row: tuple) -> Held:
    number, time, *who, input_tokens, output_tokens, usd, batch, _pid, _started = row
    entry = Entry(datetime.fromisoformat(time), *who)
    return Held(number, entry, input_tokens, output_tokens, _money(usd), bool(batch))


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else str(usd)


def _money(usd: str | None) -> Decimal | None:
    return None if usd is None else Decimal(usd)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


_INSERT = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({_marks(len(COLUMNS))})"
