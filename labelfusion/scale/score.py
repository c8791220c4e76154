"""LLM scores for the rows of a file of any size, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from labelfusion.config import RunConfig
from labelfusion.costs import CostLine, cost_of_run
from labelfusion.data import RowsFile, Table, load_dataset, make_split
from labelfusion.llm import ScoringContext, TrainingTexts, check_entry
from labelfusion.pipeline import training_texts
from labelfusion.scale.predict import asked, shared_among
from labelfusion.scale.stream import Manner, Outcome, run_job
from labelfusion.scale.work import Made
from labelfusion.score_file import asked_entries, check_score_columns, score_table
from labelfusion.types import LabelSpace, OnEvent, Rows
from labelfusion.workspace import Workspace


@dataclass(frozen=True)
class Scored:
    """A file that was scored; `cost` is what was asked and paid, as `outcome.ledger`."""

    outcome: Outcome
    cost: CostLine


def score(
    config: RunConfig, source: str | Path, out: str | Path, manner: Manner | None = None
) -> Scored:
    """Ask the config's LLMs about the rows of `source`; the labels are those of `config.data`.

    Every answer is in the cache the moment it arrives, and every chunk that is finished is kept:
    the same call goes on from there. A budget per run holds for this one file.

    Raises LabelFusionError as `labelfusion.llm.score_rows` does, and InputError for a file that
    cannot be read; before anything is sent where that can be known.
    """
    manner = manner or Manner()
    asked_entries(config)
    dataset = load_dataset(config.data)
    training = training_texts(dataset, make_split(dataset, config.data, config.seed))
    ledger = f"score-{datetime.now():%Y%m%d-%H%M%S-%f}-{Path(source).stem}"
    job = ScoreJob(config, ledger, dataset.space, training)
    outcome = run_job(job, source, out, manner)
    return Scored(outcome, cost_of_run(manner.workspace.root, outcome.ledger))


@dataclass(frozen=True)
class ScoreJob:
    """See `labelfusion.scale.work.Job`."""

    config: RunConfig
    ledger: str
    space: LabelSpace
    training: TrainingTexts

    def identity(self) -> dict[str, Any]:
        labels = {name: self.space.descriptions.get(name, "") for name in self.space.names}
        return {"labels": labels, "multi_label": self.space.multi_label} | asked(self.config)

    def check(self, rows: RowsFile, workspace: Workspace) -> None:  # noqa: ARG002
        for entry in asked_entries(self.config):
            check_entry(entry, self.space, self.config.costs, self.training)
        check_score_columns(rows.table.columns, self.config, self.space, rows.table.name)

    def sized(self, rows: int) -> ScoreJob:  # noqa: ARG002
        return self

    def booked(self, ledger: str) -> ScoreJob:
        return replace(self, ledger=ledger)

    def folder(self) -> None:
        return None

    def placed(self, folder: Path) -> ScoreJob:  # noqa: ARG002
        return self

    def for_workers(self, count: int) -> ScoreJob:
        return replace(self, config=shared_among(self.config, count))

    def worker(self, workspace: Workspace, context: ScoringContext) -> ScoringWorker:  # noqa: ARG002
        return ScoringWorker(self, replace(context, training=self.training))


class ScoringWorker:
    """See `labelfusion.scale.work.Worker`."""

    def __init__(self, job: ScoreJob, context: ScoringContext) -> None:
        self._job, self._context = job, context

    def prepare(self, table: Table, rows: Rows, on_event: OnEvent) -> tuple[Table, Rows]:  # noqa: ARG002
        return table, rows

    def finish(self, prepared: tuple[Table, Rows], on_event: OnEvent) -> Made:
        job = self._job
        frame, signals = score_table(*prepared, job.config, job.space, self._context, on_event)
        present = {name: int(signal.present.sum()) for name, signal in signals.items()}
        about = {n: {"kind": s.kind, "origin": s.origin} for n, s in signals.items()}
        return Made(frame, present, about=about)
