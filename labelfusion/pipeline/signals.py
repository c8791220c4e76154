"""Every source's signal of a run: made, or taken from where an interrupted run has put it.

An encoder is trained while LLMs behind a network are asked, since that is mostly waiting. Knows
which source needs which. Does not know what the fusion makes of them.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from labelfusion.classifier import (
    JOINT_SOURCE,
    ML_SOURCE,
    joint_signal,
    ml_signal,
    scattered,
    score_llm,
)
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.encoders import (
    NEVER_HELD_OUT,
    Encoder,
    JointEncoder,
    LLMEvidence,
    cross_fit,
    cross_fit_folds,
    cross_fit_jointly,
    make_encoder,
    uses_holdout,
)
from labelfusion.llm import Cancellation, ScoringContext, over_network
from labelfusion.pipeline.meanwhile import meanwhile
from labelfusion.pipeline.rows import rows_at, scored_rows, training_texts
from labelfusion.spreading import Spread, one_by_one
from labelfusion.types import STAGES, Dataset, Event, OnEvent, Signal, Split

SignalStore = MutableMapping[str, Signal]


def stages(config: RunConfig) -> dict[str, list[str]]:
    """`stages` in the order of this run, and those that go on `beside` each other.

    A joint encoder is trained on what the LLMs said.
    """
    order = [stage for stage in STAGES if stage != "ml"]
    order.insert(order.index("llm") + config.ml.joint, "ml")
    return {"stages": order, "beside": ["ml", "llm"] if _asked_meanwhile(config) else []}


def _asked_meanwhile(config: RunConfig) -> list[LLMConfig]:
    """The LLM sources that are asked while the encoder is trained."""
    if config.ml.encoder == "none" or config.ml.joint:
        return []
    return [entry for entry in config.llm if over_network(entry)]


def make_signals(
    dataset: Dataset,
    split: Split,
    config: RunConfig,
    on_event: OnEvent,
    store: SignalStore,
    cache_dir: Path | None,
    context: ScoringContext | None = None,
    spread: Spread = one_by_one,
) -> tuple[Encoder | None, np.ndarray, dict[str, Signal]]:
    """The final encoder, the folds of the training rows, and every source's signal.

    Each signal is in `store` as soon as it is made. `on_event` is told by one thread at a time.
    `spread` has the folds of the cross-fit worked on.
    """
    targets = dataset.targets[split.train]
    folds = np.full(len(targets), NEVER_HELD_OUT)
    made = _Made(dataset, split, config, on_event, store, context or ScoringContext(), spread)
    if len(targets) > 1:
        scored = made.recorded() if uses_holdout(config.ml, len(targets)) else None
        folds = cross_fit_folds(config.ml, targets, dataset.space, config.seed, scored)
    encoder = None
    if config.ml.joint:
        made.llm(config.llm)
        encoder = made.joint(folds, cache_dir)
    else:
        if config.ml.encoder != "none":
            encoder = made.ml_meanwhile(folds, cache_dir)
        made.llm(config.llm)
    return encoder, folds, {name: store[name] for name in config.source_names}


@dataclass(frozen=True)
class _Made:
    """Signals, made where `store` does not have them."""

    dataset: Dataset
    split: Split
    config: RunConfig
    on_event: OnEvent
    store: SignalStore
    context: ScoringContext
    spread: Spread

    def recorded(self) -> np.ndarray | None:
        """(len(split.train),) whether a training row has recorded scores.

        None where an LLM will be asked: then every row is to be scored.
        """
        entries = self.config.llm
        if not entries or any(entry.provider != "recorded" for entry in entries):
            return None
        rows = rows_at(self.dataset, self.split.train)
        find = partial(score_llm, rows=rows, space=self.dataset.space, config=self.config)
        return np.any([find(entry, must_match=False).present for entry in entries], axis=0)

    def llm(self, entries: Sequence[LLMConfig]) -> None:
        used, training = scored_rows(self.split), training_texts(self.dataset, self.split)
        lent = replace(self.context, training=training)
        ask = partial(score_llm, rows=rows_at(self.dataset, used), space=self.dataset.space)
        for entry in entries:
            if entry.name not in self.store:
                scored = ask(entry, config=self.config, on_event=self.on_event, context=lent)
                self.store[entry.name] = scattered([(used, scored)], len(self.dataset))

    def ml_meanwhile(self, folds: np.ndarray, cache_dir: Path | None) -> Encoder:
        """`ml`, and the LLMs that can be waited for at the same time."""
        entries = [e for e in _asked_meanwhile(self.config) if e.name not in self.store]
        if not entries:
            return self.ml(folds, cache_dir)
        cancellation = Cancellation()
        lent = replace(self.context, cancellation=cancellation)

        def ask(told: OnEvent) -> None:
            replace(self, on_event=told, context=lent).llm(entries)

        with meanwhile(ask, cancellation.cancel, self.on_event) as told:
            return replace(self, on_event=told).ml(folds, cache_dir)

    def ml(self, folds: np.ndarray, cache_dir: Path | None) -> Encoder:
        """The encoder trained on all training rows."""
        config, space, told = self.config, self.dataset.space, self.on_event

        def make() -> Encoder:
            return make_encoder(config.ml, space, seed=config.seed, cache_dir=cache_dir)

        encoder, n = make(), len(self.split.train)
        known = (rows_at(self.dataset, self.split.train).texts, self._targets)
        told(Event("ml", "start", "Training the encoder", 0, n, "texts"))
        out_of_fold = None
        if ML_SOURCE not in self.store:
            out_of_fold = cross_fit(make, *known, folds, told, self.spread)
        encoder.fit(*known, told)
        if out_of_fold is not None:
            self.store[ML_SOURCE] = self._with_other_rows(out_of_fold, encoder)
        told(Event("ml", "done", encoder.origin, n, n, "texts"))
        return encoder

    def joint(self, folds: np.ndarray, cache_dir: Path | None) -> JointEncoder:
        """The same, trained on the LLM signals too: one training gives two sources."""
        config, told, n = self.config, self.on_event, len(self.split.train)
        space = self.dataset.space

        def make() -> JointEncoder:
            return JointEncoder(config.ml, space, seed=config.seed, cache_dir=cache_dir)

        told(Event("ml", "start", "Training encoder and FusionMLP together", 0, n, "texts"))
        train, encoder = self.split.train, make()
        evidence = LLMEvidence.of(self._llm_at(train), config.llm_names, n, space)
        known = (rows_at(self.dataset, train).texts, self._targets, evidence)
        made = {ML_SOURCE, JOINT_SOURCE} <= set(self.store)
        out_of_fold = ()
        if not made:
            out_of_fold = cross_fit_jointly(make, *known, folds, told, self.spread)
        encoder.fit_joint(*known, told)
        for signal in out_of_fold:
            self.store[signal.source] = self._with_other_rows(signal, encoder)
        told(Event("ml", "done", encoder.joint_origin, n, n, "texts"))
        return encoder

    @property
    def _targets(self) -> np.ndarray:
        return self.dataset.targets[self.split.train]

    def _llm_at(self, rows: np.ndarray) -> dict[str, Signal]:
        return {name: self.store[name].take(rows) for name in self.config.llm_names}

    def _with_other_rows(self, signal: Signal, encoder: Encoder) -> Signal:
        """The out-of-fold signal of the training rows with that of all others, by `encoder`."""
        others = np.concatenate([self.split.test, self.split.predict])
        rows, told = rows_at(self.dataset, others), self.on_event
        if signal.source == JOINT_SOURCE and isinstance(encoder, JointEncoder):
            on_others = joint_signal(encoder, rows, self._llm_at(others), told)
        else:
            on_others = ml_signal(encoder, rows, told)
        return scattered([(self.split.train, signal), (others, on_others)], len(self.dataset))
