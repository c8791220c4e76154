"""A file of any size labelled with a finished run's model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from labelfusion.classifier import FusedClassifier
from labelfusion.config import CacheConfig, CostConfig, LLMConfig, RunConfig
from labelfusion.data import RowsFile, Table
from labelfusion.files import sha256
from labelfusion.llm import ScoringContext, TrainingTexts
from labelfusion.predict_file import (
    Known,
    Labeller,
    Wishes,
    check_columns,
    check_scores,
    result_columns,
    result_table,
    run_examples,
)
from labelfusion.runs import Run
from labelfusion.scale.stream import Manner, Outcome, run_job
from labelfusion.scale.work import Made
from labelfusion.shift import Drift, drift_of
from labelfusion.types import OnEvent, Rows
from labelfusion.workspace import Workspace

# As many texts as the distances of a whole file are kept of, at random: a sample of this size
# shows any difference that matters.
DRIFT_TEXTS = 20_000
# Settings of a source that change how fast it is asked, and not what it says.
_PACE = {"concurrency", "timeout_s", "max_attempts", "batch", "texts_per_request", "api_key_env"}


@dataclass(frozen=True)
class Predicted:
    """A file that was labelled; `drift` is None for a run that kept no training texts."""

    outcome: Outcome
    drift: Drift | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = self.outcome
        drift = self.drift.to_dict() if self.drift else None
        return {
            "rows": found.rows,
            "resumed_rows": found.resumed,
            "seconds": round(found.seconds, 3),
            "present": found.present,
            "drift": drift,
        }


def predict(
    run: Run,
    source: str | Path,
    out: str | Path,
    wishes: Wishes | None = None,
    manner: Manner | None = None,
    *,
    ledger: str | None = None,
    costs: CostConfig | None = None,
    cache: CacheConfig | None = None,
) -> Predicted:
    """Label the rows of `source` and write them to `out`, or go on with that.

    Args:
        source, out: paths, or addresses such as s3://bucket/key.
        ledger: what the money is booked under, and the budget counted by; the run's id if absent.
        costs, cache: budget and prices, and the answer cache, in place of the run's own.

    Raises LabelFusionError; what is finished by then is kept, and the same call goes on from there.
    """
    wishes, manner = wishes or Wishes(contributions=False), manner or Manner()
    other = {"costs": costs or run.config.costs, "cache": cache or run.config.cache}
    config = run.config.model_copy(update=other)
    job = PredictJob(config, ledger or run.id, run.folder.model, wishes, run_examples(run))
    outcome = run_job(job, source, out, manner)
    classifier = job.classifier(manner.workspace)
    reference, drift = classifier.reference, None
    if outcome.tally is not None and reference is not None:
        drift = drift_of(reference, outcome.tally, classifier.space.names)
    return Predicted(outcome, drift)


@dataclass(frozen=True)
class PredictJob:
    """See `labelfusion.scale.work.Job`."""

    config: RunConfig
    ledger: str
    model: Path
    wishes: Wishes
    training: TrainingTexts | None

    def identity(self) -> dict[str, Any]:
        scores = self.wishes.scores
        return {
            "model": _digest(self.model),
            "routing": self.wishes.routing,
            "contributions": self.wishes.contributions,
            "scores": None if scores is None else sha256(scores),
        } | asked(self.config)

    def classifier(self, workspace: Workspace) -> FusedClassifier:
        """The model; one process loads it once."""
        return _loaded(self.model, _digest(self.model), workspace.cache)

    def check(self, rows: RowsFile, workspace: Workspace) -> None:
        classifier = self.classifier(workspace)
        columns = result_columns(classifier, contributions=self.wishes.contributions)
        check_columns(rows.table.columns, columns, rows.table.name)
        chunks = (part for _, part in rows.chunks(10_000))
        check_scores(self.config, self.wishes.scores, classifier.space, chunks)

    def sized(self, rows: int) -> PredictJob:
        share = min(1.0, DRIFT_TEXTS / rows)
        return replace(self, wishes=replace(self.wishes, drift_share=share))

    def booked(self, ledger: str) -> PredictJob:
        return replace(self, ledger=ledger)

    def folder(self) -> Path:
        return self.model

    def placed(self, folder: Path) -> PredictJob:
        return replace(self, model=folder)

    def for_workers(self, count: int) -> PredictJob:
        return replace(self, config=shared_among(self.config, count))

    def worker(self, workspace: Workspace, context: ScoringContext) -> LabellingWorker:
        classifier = self.classifier(workspace)
        lent = replace(context, training=self.training)
        return LabellingWorker(Labeller(classifier, self.config, self.wishes, lent))


class LabellingWorker:
    """See `labelfusion.scale.work.Worker`."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller

    def prepare(self, table: Table, rows: Rows, on_event: OnEvent) -> Known:
        return self._labeller.encode(table, rows, on_event)

    def finish(self, prepared: Known, on_event: OnEvent) -> Made:
        labelled = self._labeller.ask(prepared, on_event)
        prediction = labelled.prediction
        counts = prediction.present.sum(axis=0).tolist()
        present = dict(zip(prediction.sources, counts, strict=True))
        return Made(result_table(labelled), present, labelled.tally)


def asked(config: RunConfig) -> dict[str, Any]:
    """What of a config the scores of its LLM sources depend on, for a job's identity."""
    entries = [entry.model_dump(mode="json", exclude=_PACE) for entry in config.llm]
    columns = {"text_columns": config.data.text_columns, "id_column": config.data.id_column}
    return {"LLM sources": entries, "columns": columns}


def shared_among(config: RunConfig, count: int) -> RunConfig:
    """The config for each of `count` workers: together they send as many requests at once."""

    def share(entry: LLMConfig) -> LLMConfig:
        return entry.model_copy(update={"concurrency": max(1, entry.concurrency // count)})

    return config.model_copy(update={"llm": [share(entry) for entry in config.llm]})


@lru_cache(maxsize=1)
def _loaded(folder: Path, digest: str, cache_dir: Path) -> FusedClassifier:
    del digest  # another model in the same folder is another one
    return FusedClassifier.load(folder, cache_dir=cache_dir)


def _digest(folder: Path) -> str:
    """A hash of all files of a folder, names included."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()} {sha256(path)}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
