"""LLM scores of a study: the cost told first, each text asked about once, complete scores kept.

Goes the way a run goes: the workspace's cache, its ledger, the config's budget. Does not know what
a study compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from labelfusion.classifier import scattered, score_llm
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.costing import judge
from labelfusion.costs import Estimate, PriceBook, estimate, format_usd
from labelfusion.costs.prices import FREE_PROVIDERS
from labelfusion.llm import ScoringContext, TrainingTexts, scoring_session
from labelfusion.llm.keys import digest
from labelfusion.llm.remote import plan_costs
from labelfusion.pipeline import rows_at
from labelfusion.runs import SignalStore
from labelfusion.studies.options import Place
from labelfusion.types import Dataset, Event, Rows, Signal


@dataclass(frozen=True)
class Job:
    """Rows of a dataset (at integer `positions`) that one source is asked about.

    `training` is where few-shot examples come from, if the entry has any.
    """

    entry: LLMConfig
    dataset: Dataset
    positions: np.ndarray
    training: TrainingTexts | None = None

    @property
    def rows(self) -> Rows:
        return rows_at(self.dataset, self.positions)

    @cached_property
    def key(self) -> str:
        """Changes with everything that the scores depend on, files included."""
        files = [path for path in (self.entry.path, self.entry.prompt.template) if path]
        content = [sha256_of(Path(path).read_bytes()) for path in files if path != "default"]
        examples = [] if self.training is None else list(self.training.ids)
        entry = self.entry.model_dump(mode="json")
        rows = [data_digest(self.dataset), self.positions.tolist()]
        return f"{self.entry.name}-{digest([entry, content, examples, *rows])[:16]}"


@dataclass(frozen=True)
class Asker:
    """Asks under one name in the ledger, `run`, so that a budget holds for the study as a whole."""

    config: RunConfig
    place: Place

    @property
    def run(self) -> str:
        """The same when a study is gone on with."""
        folder = self.place.folder
        return f"study-{folder.name}-{sha256_of(str(folder.resolve()).encode())[:8]}"

    def session(self, jobs: Sequence[Job]) -> AbstractContextManager[ScoringContext]:
        """Cache and meter for the entries of `jobs`."""
        asked = self.config.model_copy(update={"llm": [job.entry for job in jobs]})
        return scoring_session(asked, self.place.workspace, self.run)

    def tell_cost(self, jobs: Sequence[Job]) -> None:
        """Say what the jobs will cost and what the budget will do; nothing if nobody is paid."""
        billed = [job for job in jobs if job.entry.provider not in FREE_PROVIDERS]
        if not billed:
            return
        with self.session(billed) as context:
            found = estimated(billed, self.config, context)
            left = None if context.meter is None else context.meter.spend().left
        texts = sum(source.texts for source in found.sources)
        cached = sum(source.cached_texts for source in found.sources)
        budget = judge(found, left, self.config.costs.budget)
        sentence = (
            f"{texts:,} texts to ask about once for all cells ({cached:,} more in the cache): "
            f"{format_usd(found.expected.usd)} expected, {format_usd(found.at_most.usd)} at most. "
            f"{budget.sentence}"
        )
        self.place.on_event(Event("llm", "note", sentence))

    def scores(self, jobs: Sequence[Job], store: SignalStore) -> list[Signal]:
        """A signal a job, over all rows of its dataset; complete ones are kept in `store`.

        What is incomplete (a spent budget, refusals) is asked for again next time; the cache then
        has what was answered.
        """
        with self.session(jobs) as context:
            return [self._score(job, store, context) for job in jobs]

    def _score(self, job: Job, store: SignalStore, context: ScoringContext) -> Signal:
        if job.key in store:
            return store[job.key]
        lent = replace(context, training=job.training)
        space, watch = job.dataset.space, self.place.on_event
        scored = score_llm(job.entry, job.rows, space, self.config, watch, context=lent)
        signal = scattered([(job.positions, scored)], len(job.dataset))
        if scored.present.all():
            store[job.key] = signal
        return signal


def estimated(
    jobs: Sequence[Job], config: RunConfig, context: ScoringContext | None = None
) -> Estimate:
    """What jobs that are billed cost; what the context's cache holds is taken off."""
    context, book = context or ScoringContext(), PriceBook.of(config.costs)
    plans = [
        plan_costs(
            job.entry,
            job.rows,
            job.dataset.space,
            prices=book,
            context=replace(context, training=job.training),
        )
        for job in jobs
    ]
    left = None if context.meter is None else context.meter.spend().left
    return estimate(plans, left)


def data_digest(dataset: Dataset) -> str:
    """A digest of rows, labels, descriptions and the user's own split."""
    space, split = dataset.space, dataset.split
    about = [list(space.names), space.multi_label, dict(space.descriptions)]
    rows = [dataset.ids.tolist(), list(dataset.texts), dataset.targets.tolist()]
    return digest(
        [about, rows, dataset.labelled.tolist(), None if split is None else split.tolist()]
    )


def sha256_of(content: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(content).hexdigest()
