"""One job from its input to its output: chunk by chunk, in order, in memory that does not grow.

Reads, has an engine make the parts, keeps them, joins them. What is finished is kept whatever
happens: the same command goes on from there. Does not know what is made of a chunk.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from labelfusion.data import RowsFile, open_rows
from labelfusion.data.source import Source, is_address
from labelfusion.errors import InputError
from labelfusion.llm import scoring_session
from labelfusion.scale.outputs import Target
from labelfusion.scale.parts import Parts
from labelfusion.scale.work import Job, Made
from labelfusion.shift import Tally
from labelfusion.types import Event, OnEvent, ignore_event
from labelfusion.workspace import Workspace

CHUNK_ROWS = 10_000
Item = TypeVar("Item")
# (job, rows, how many chunks to leave out, manner) -> the parts of the others, in order.
Engine = Callable[[Job, RowsFile, int, "Manner"], Iterator[Made]]


def local_engine(job: Job, rows: RowsFile, skip: int, manner: Manner) -> Iterator[Made]:
    """The parts of all chunks but the first `skip`, made in this process.

    The next chunk is encoded while LLMs answer about this one.
    """
    tell = manner.on_event if len(rows) <= manner.chunk_rows else _only_llm(manner.on_event)
    with scoring_session(job.config, manner.workspace, job.ledger) as context:
        worker = job.worker(manner.workspace, context)
        chunks = islice(rows.chunks(manner.chunk_rows), skip, None)
        for prepared in ahead(worker.prepare(table, part, tell) for table, part in chunks):
            yield worker.finish(prepared, tell)


@dataclass(frozen=True)
class Manner:
    """How a job is done, which its result does not depend on.

    Attributes:
        workspace: where embeddings, answers and the ledger are kept.
        engine: makes the parts.
        chunk_rows: rows of a part.
        fresh: begin anew, whatever an earlier time left.
        force: replace an output that exists.
        excel_safe: put a quote before cells of CSV and TSV that a spreadsheet would run.
    """

    workspace: Workspace = field(default_factory=Workspace.at)
    engine: Engine = local_engine
    chunk_rows: int = CHUNK_ROWS
    fresh: bool = False
    force: bool = False
    excel_safe: bool = False
    on_event: OnEvent = ignore_event


@dataclass(frozen=True)
class Outcome:
    """A finished job. `resumed` of its rows were there before; `seconds` are those of the rest."""

    rows: int
    resumed: int
    seconds: float
    present: dict[str, int]
    tally: Tally | None
    about: dict[str, dict[str, str]]
    ledger: str


def run_job(job: Job, source: str | Path, out: str | Path, manner: Manner) -> Outcome:
    """Do a job over the rows of `source`, or go on with it, and write `out`.

    Raises LabelFusionError for input that cannot be used, before anything is paid for; and as the
    job's workers do. Parts that are finished by then are kept.
    """
    target = Target.of(out, manner.workspace)
    target.check(force=manner.force)
    rows = open_rows(source, job.config.data)
    job.check(rows, manner.workspace)
    job = job.sized(len(rows))
    parts = Parts(target.parts, target.suffix, excel_safe=manner.excel_safe)
    given = _given(source)
    identity = job.identity() | {
        "input": given,
        "chunk size": manner.chunk_rows,
        "excel_safe": manner.excel_safe,
    }
    with parts.opened(identity, job.ledger, fresh=manner.fresh):
        counts, seconds = _make(job.booked(parts.ledger), rows, parts, manner)
        if _given(source) != given:
            raise InputError(
                "The input has changed while it was read",
                where=str(source),
                remedy="Give --fresh to begin anew",
            )
        target.publish(lambda to: parts.join(len(counts.all), to))
        parts.remove()
    return counts.outcome(seconds, parts.ledger)


def _make(job: Job, rows: RowsFile, parts: Parts, manner: Manner) -> tuple[_Counts, float]:
    """Have the missing parts made; returns the counts of all, and the seconds it took."""
    counts = _Counts(parts.done())
    progress = _Progress(manner.on_event, counts.rows, len(rows))
    if counts.all:
        progress.note(f"{counts.rows:,} rows are there already")
    if counts.rows < len(rows):
        for made in manner.engine(job, rows, len(counts.all), manner):
            parts.add(len(counts.all), made)
            counts.all.append(made.to_dict())
            progress.tell(counts.rows)
    return counts, progress.seconds


class _Counts:
    """What the parts say, added up."""

    def __init__(self, done: list[dict[str, Any]]) -> None:
        self.all, self._resumed = done, sum(part["rows"] for part in done)

    @property
    def rows(self) -> int:
        return sum(part["rows"] for part in self.all)

    def outcome(self, seconds: float, ledger: str) -> Outcome:
        names = self.all[0]["present"]
        present = {name: sum(part["present"][name] for part in self.all) for name in names}
        tallies = [Tally.from_dict(part["tally"]) for part in self.all if part["tally"]]
        tally = None
        for found in tallies:
            tally = found if tally is None else tally + found
        about = self.all[0]["about"]
        return Outcome(self.rows, self._resumed, seconds, present, tally, about, ledger)


class _Progress:
    """Rows done, rows a second and the time left, since this process began."""

    def __init__(self, on_event: OnEvent, before: int, total: int) -> None:
        self._on_event, self._before, self._total = on_event, before, total
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def note(self, message: str) -> None:
        self._on_event(Event("fusion", "note", message))

    def tell(self, done: int) -> None:
        rate = (done - self._before) / max(self.seconds, 1e-9)
        left = (self._total - done) / rate
        message = f"{rate:,.0f} rows/s, {duration(left)} left"
        self._on_event(Event("fusion", "progress", message, done, self._total, "rows"))


def duration(seconds: float) -> str:
    """ "45 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _only_llm(on_event: OnEvent) -> OnEvent:
    """Of many chunks, only what is told while an LLM answers: the rest is told of all rows."""

    def tell(event: Event) -> None:
        if event.status == "note" or (event.stage, event.status) == ("llm", "progress"):
            on_event(event)

    return tell


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each one made in a thread while the one before it is used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield cast(Item, item)


_HEAD_BYTES = 1 << 16


def _given(source: str | Path) -> dict[str, Any]:
    """What tells this input from another one: size, time of change, and the hash of its ends."""
    found = Source.of(source)
    size = found.size()
    ends = found.head(_HEAD_BYTES) + found.window(max(0, size - _HEAD_BYTES), size)
    changed = 0 if is_address(source) else Path(source).expanduser().stat().st_mtime_ns
    return {"size": size, "changed": changed, "ends": hashlib.sha256(ends).hexdigest()}
