"""What a job over a file is made of: a description that can be sent elsewhere, and its workers.

Knows chunks and what becomes of them. Does not know where they are from or go to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from labelfusion.config import RunConfig
from labelfusion.data import RowsFile, Table
from labelfusion.llm import ScoringContext
from labelfusion.shift import Tally
from labelfusion.types import OnEvent, Rows
from labelfusion.workspace import Workspace


@dataclass(frozen=True)
class Made:
    """A chunk's part of the result.

    Attributes:
        frame: its rows, in order.
        present: by source, on how many rows it says something.
        tally: the rows beside the training texts, where that is known.
        about: by source, what its numbers are and where they come from.
    """

    frame: pd.DataFrame
    present: Mapping[str, int]
    tally: Tally | None = None
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the rows themselves."""
        told = self.tally.to_dict() if self.tally else None
        return {
            "rows": len(self.frame),
            "present": dict(self.present),
            "tally": told,
            "about": {name: dict(words) for name, words in self.about.items()},
        }


class Worker(Protocol):
    """Makes parts of a result. `prepare` asks nobody, and may run beside `finish` in a thread."""

    def prepare(self, table: Table, rows: Rows, on_event: OnEvent) -> Any:
        """What `finish` needs of a chunk."""
        ...

    def finish(self, prepared: Any, on_event: OnEvent) -> Made:
        """The chunk's part. Raises LabelFusionError as `labelfusion.llm.score_rows` does."""
        ...


class Job(Protocol):
    """What is to be done with every chunk of a file. Holds no key and can be pickled.

    Attributes:
        config: its LLM sources are asked, under its budget, with its cache.
        ledger: what the money is booked under.
    """

    @property
    def config(self) -> RunConfig: ...

    @property
    def ledger(self) -> str: ...

    def identity(self) -> dict[str, Any]:
        """JSON-ready: everything beside the input that the result depends on, by its name."""
        ...

    def check(self, rows: RowsFile, workspace: Workspace) -> None:
        """Raise LabelFusionError for what would go wrong, before anything is done or paid."""
        ...

    def sized(self, rows: int) -> Job:
        """The same job, which knows how many rows there are in all."""
        ...

    def booked(self, ledger: str) -> Job:
        """The same job under another name in the ledger."""
        ...

    def folder(self) -> Path | None:
        """The folder that workers need a copy of, if any."""
        ...

    def placed(self, folder: Path) -> Job:
        """The same job with that folder elsewhere."""
        ...

    def for_workers(self, count: int) -> Job:
        """The same job as each of `count` workers does it, which share its concurrency."""
        ...

    def worker(self, workspace: Workspace, context: ScoringContext) -> Worker:
        """A worker that holds what it needs for many chunks."""
        ...
