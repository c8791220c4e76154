"""What the cells of a study share: data, LLM scores of every row, cross-fits of every subset.

Each LLM is asked once about each text, each subset's encoder is cross-fitted once; both are kept in
the study's folder. Knows the pipeline's own steps. Does not know what a study compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from labelfusion import __version__
from labelfusion.classifier import ML_SOURCE
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.data import load_dataset, make_split
from labelfusion.encoders import Encoder, Prepares, make_encoder
from labelfusion.errors import ConfigError, InputError
from labelfusion.llm import TrainingTexts, asks
from labelfusion.llm.keys import digest
from labelfusion.pipeline import (
    check_sources,
    make_signals,
    rows_at,
    scored_rows,
    training_texts,
)
from labelfusion.runs import SignalStore
from labelfusion.studies.asking import Asker, Job, data_digest, sha256_of
from labelfusion.studies.options import Place
from labelfusion.studies.samples import nested_order
from labelfusion.types import Dataset, Event, LabelSpace, Signal, Split

# Blocks kept in memory: cells of one (size, seed) follow each other.
BLOCKS_KEPT, PARTS_KEPT = 2, 64


@dataclass(frozen=True)
class Block:
    """One subset with one seed: what every system of it is fitted and measured on.

    Attributes:
        split: positions into the dataset; `train` is the subset, `test` the same for all sizes.
        train, test: signals by source over split.train (the encoder's out of fold) and split.test.
    """

    size: int
    seed: int
    space: LabelSpace
    split: Split
    train: Mapping[str, Signal]
    test: Mapping[str, Signal]
    train_targets: np.ndarray
    test_targets: np.ndarray


class Material:
    """The data of a study and everything that is made of it once. See `prepare`."""

    def __init__(self, config: RunConfig, dataset: Dataset, place: Place) -> None:
        self.config, self.dataset, self.place = config, dataset, place
        self.space = dataset.space
        self.asker = Asker(config, place)
        self.store = SignalStore(place.folder / "signals", dataset.ids, dataset.space.names)
        self.block = lru_cache(maxsize=BLOCKS_KEPT)(self._block)
        self.part = lru_cache(maxsize=PARTS_KEPT)(self._part)

    @property
    def sources(self) -> list[str]:
        return self.config.source_names

    @cached_property
    def jobs(self) -> list[Job]:
        """Every LLM source and all rows that any seed uses."""
        used = np.sort(scored_rows(self._first_split))
        return [Job(entry, self.dataset, used, self.example_texts) for entry in self.config.llm]

    @cached_property
    def llm_signals(self) -> dict[str, Signal]:
        """Scores of every LLM source, each text asked about once."""
        scored = self.asker.scores(self.jobs, self.store)
        return dict(zip([entry.name for entry in self.config.llm], scored, strict=True))

    @cached_property
    def _first_split(self) -> Split:
        return make_split(self.dataset, self.config.data, self.config.seed)

    @cached_property
    def _encoder_digest(self) -> str:
        """Of all that a subset's cross-fit depends on beside its size and seed."""
        data = [self.config.data.test_size, self.config.data.deduplicate]
        parts = [*data, self.reserved.tolist(), self.config.ml.model_dump(mode="json")]
        return digest([__version__, data_digest(self.dataset), *parts])

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that every cell depends on beside its own values."""
        signals = {
            name: [signal.kind, sha256_of(signal.scores.tobytes())]
            for name, signal in self.llm_signals.items()
        }
        return digest([self._encoder_digest, signals, self.config.fusion.model_dump(mode="json")])

    @cached_property
    def reserved(self) -> np.ndarray:
        """Rows that few-shot examples come from: in no test part, in every subset; else empty.

        One set of examples for all seeds and sizes, so that each text is asked about once.
        """
        counts = [e.prompt.examples.count + 1 for e in self.config.llm if _has_examples(e)]
        if not counts:
            return np.zeros(0, dtype=int)
        train = np.sort(self._first_split.train)
        order = nested_order(self.dataset.targets[train], self.config.seed)
        return train[order[: max(counts)]]

    @property
    def example_texts(self) -> TrainingTexts | None:
        """The reserved rows as an LLM's prompt may show them."""
        nothing = Split(self.reserved, np.zeros(0, dtype=int))
        return training_texts(self.dataset, nothing) if len(self.reserved) else None

    def _part(self, seed: int) -> Split:
        """The test rows of a seed, and its training rows in nested order, reserved ones first."""
        split = make_split(self.dataset, self.config.data, seed)
        train = np.sort(np.setdiff1d(split.train, self.reserved))
        order = nested_order(self.dataset.targets[train], seed)
        test = np.setdiff1d(split.test, self.reserved)
        return Split(np.concatenate([self.reserved, train[order]]), test)

    def _block(self, size: int, seed: int) -> Block:
        part = self.part(seed)
        split = Split(part.train[:size], part.test)
        signals = dict(self.llm_signals)
        if self.config.ml.encoder != "none":
            ml = self._made(ML_SOURCE, size, seed, lambda: self._cross_fitted(split, seed))
            signals = {ML_SOURCE: ml} | signals
        return Block(
            size,
            seed,
            self.space,
            split,
            {name: signal.take(split.train) for name, signal in signals.items()},
            {name: signal.take(split.test) for name, signal in signals.items()},
            self.dataset.targets[split.train],
            self.dataset.targets[split.test],
        )

    def embed(self) -> None:
        """Have the vectors of all rows in the cache, for whoever fits an encoder on some."""
        embed_once(self.config, self.dataset, scored_rows(self._first_split), self.place)

    def final_encoder(self, block: Block) -> Encoder:
        """The encoder fitted on all of a block's training rows."""
        store = {ML_SOURCE: Signal.missing(ML_SOURCE, len(self.dataset), len(self.space))}
        encoder, _, _ = self._encoded(block.split, block.seed, store)
        assert encoder is not None
        return encoder

    def made(self, name: str, block: Block, make: Callable[[], Signal]) -> Signal:
        """A further signal of a block, over all rows: from the folder, or made and kept there."""
        name = f"{name}-{self.fingerprint[:8]}"
        return self._made(name, block.size, block.seed, make)

    def _made(self, name: str, size: int, seed: int, make: Callable[[], Signal]) -> Signal:
        key = f"{name}-{size}-{seed}-{self._encoder_digest[:16]}"
        if key not in self.store:
            self.store[key] = make()
        return self.store[key]

    def _cross_fitted(self, split: Split, seed: int) -> Signal:
        return self._encoded(split, seed, {})[2][ML_SOURCE]

    def _encoded(
        self, split: Split, seed: int, store: dict[str, Signal]
    ) -> tuple[Encoder | None, np.ndarray, dict[str, Signal]]:
        alone = self.config.model_copy(update={"llm": [], "seed": seed})
        cache = self.place.workspace.cache
        return make_signals(self.dataset, split, alone, self.quietly, store, cache)

    def quietly(self, event: Event) -> None:
        """Pass on how far something is, not that it began and ended: cells are told of instead."""
        if event.status in ("progress", "note"):
            self.place.on_event(event)


def embed_once(config: RunConfig, dataset: Dataset, rows: np.ndarray, place: Place) -> None:
    """Put the pretrained transformer's vectors of `rows` into the workspace's cache."""
    if config.ml.encoder == "none":
        return
    ml = config.ml.model_copy(update={"fine_tune": False, "joint": False})
    cache = place.workspace.cache
    encoder = make_encoder(ml, dataset.space, seed=config.seed, cache_dir=cache)
    if isinstance(encoder, Prepares):
        encoder.prepare(rows_at(dataset, rows).texts, place.on_event)


def _has_examples(entry: LLMConfig) -> bool:
    return asks(entry) and entry.prompt.examples.strategy != "none"


def prepare(config: RunConfig, place: Place) -> Material:
    """Read and check the data and every source; nothing is trained or paid.

    Raises LabelFusionError for input that cannot be used.
    """
    for entry in config.llm:
        if _has_examples(entry) and entry.prompt.examples.strategy == "knn":
            raise ConfigError(
                "A study asks each text once, with the same examples for all seeds and sizes",
                where=f"llm {entry.name} prompt.examples.strategy",
                expected="none, static or stratified",
                found="knn",
                remedy="Compare few-shot strategies with: labelfusion study prompt",
            )
    dataset = load_dataset(config.data)
    check_sources(dataset, make_split(dataset, config.data, config.seed), config)
    return Material(config, dataset, place)


def need_sources(material: Material, least: int, why: str) -> None:
    """Raise InputError unless the config has so many sources."""
    if len(material.sources) < least:
        raise InputError(
            why,
            where="config ml, llm",
            expected=f"at least {least} sources",
            found=", ".join(material.sources),
            remedy="Add an llm entry, or set ml.encoder",
        )
