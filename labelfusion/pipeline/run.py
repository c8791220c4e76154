"""The order of a run's steps, and what each hands to the next.

Knows no disk layout and no page, and leaves each step to the part that does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.classifier import FusedClassifier
from labelfusion.config import RunConfig
from labelfusion.data import Finding, find_problems, make_split
from labelfusion.encoders import Encoder
from labelfusion.explain import global_contributions
from labelfusion.files import json_ready
from labelfusion.fusion.model import FusionModel
from labelfusion.fusion.routing import fit_routing, tested
from labelfusion.llm import ScoringContext
from labelfusion.pipeline.report import headline, make_report
from labelfusion.pipeline.rows import rows_at
from labelfusion.pipeline.signals import SignalStore, make_signals, stages
from labelfusion.shift import Reference, make_reference
from labelfusion.spreading import Spread, one_by_one
from labelfusion.types import (
    Dataset,
    Event,
    OnEvent,
    Prediction,
    Signal,
    Split,
    ignore_event,
)


@dataclass(frozen=True)
class FittedRun:
    """Everything a run produced.

    Attributes:
        folds: (len(split.train),) fold of each training row in the encoder's cross-fit, or
            NEVER_HELD_OUT.
        signals: per source over all rows of the dataset; the encoder's is out of fold on training
            rows; rows in neither part of the split are missing.
        test_prediction: of rows split.test, by the final model, with contributions.
        train_prediction: of rows split.train, out of fold throughout.
        new_prediction: of rows split.predict, by the final model, with contributions.
        report: the content of metrics.json.
    """

    config: RunConfig
    dataset: Dataset
    split: Split
    folds: np.ndarray
    classifier: FusedClassifier
    signals: dict[str, Signal]
    test_prediction: Prediction
    train_prediction: Prediction
    new_prediction: Prediction
    report: dict[str, Any]
    findings: list[Finding]


def fit(
    dataset: Dataset,
    config: RunConfig,
    *,
    on_event: OnEvent = ignore_event,
    store: SignalStore | None = None,
    cache_dir: Path | None = None,
    context: ScoringContext | None = None,
    spread: Spread = one_by_one,
) -> FittedRun:
    """Train on the training split and read the test split once.

    Args:
        dataset: from `check` or `labelfusion.data`.
        store: signals by source over all rows of the dataset; those there are not made again, and
            those made are put there.
        cache_dir: where embeddings are kept; None keeps them in this process.
        context: cache, meter and run that LLM scoring may use (see `llm.scoring_session`).
        spread: has the folds of the encoder's cross-fit worked on, here one by one or elsewhere.

    Raises LabelFusionError for input that cannot be used. The result depends on the seed alone.
    """
    on_event(Event("split", "start", "Dividing the labelled rows"))
    split = make_split(dataset, config.data, config.seed)
    findings = find_problems(dataset, split)
    on_event(_split_done(split, findings, config))
    store = {} if store is None else store
    encoder, folds, signals = make_signals(
        dataset, split, config, on_event, store, cache_dir, context, spread
    )
    fusion = fit_fusion(dataset, split.train, signals, config, on_event)
    routing = fit_routing(fusion, dataset.targets[split.train], config)
    on_event(Event("evaluate", "start", "Reading the test split", total=len(split.test)))
    test_signals, new_signals = _taken(signals, split.test), _taken(signals, split.predict)
    prediction = fusion.predict(test_signals, contributions=True)
    new = fusion.predict(new_signals, contributions=True)
    report = make_report(dataset, split, fusion, test_signals, prediction, config)
    report["contributions"] = json_ready(
        global_contributions(prediction if len(split.test) else new)
    )
    targets = dataset.targets[split.test]
    if len(targets):
        routing = tested(routing, fusion, targets, test_signals, prediction, config)
    report["routing"] = json_ready(routing.to_dict())
    on_event(Event("evaluate", "done", headline(report), len(split.test), len(split.test)))
    assert fusion.out_of_fold is not None
    unseen = [
        (_taken(signals, split.train), fusion.out_of_fold),
        (test_signals, prediction),
    ]
    reference = reference_of(dataset, split.train, encoder, fusion, unseen, config.seed)
    classifier = FusedClassifier(dataset.space, encoder, fusion, routing.policy, reference)
    return FittedRun(
        config,
        dataset,
        split,
        folds,
        classifier,
        signals,
        prediction,
        fusion.out_of_fold,
        new,
        report,
        findings,
    )


def _taken(signals: Mapping[str, Signal], rows: np.ndarray) -> dict[str, Signal]:
    return {name: signal.take(rows) for name, signal in signals.items()}


def reference_of(
    dataset: Dataset,
    train: np.ndarray,
    encoder: Encoder | None,
    fusion: FusionModel,
    unseen: Sequence[tuple[Mapping[str, Signal], Prediction]],
    seed: int,
) -> Reference | None:
    """What later texts are compared with (`labelfusion.shift.make_reference`)."""
    rows, labels = rows_at(dataset, train), dataset.space.joined(dataset.targets[train])
    return make_reference(encoder, rows.texts, rows.ids, labels, fusion, unseen, seed=seed)


def fit_fusion(
    dataset: Dataset,
    train: np.ndarray,
    signals: dict[str, Signal],
    config: RunConfig,
    on_event: OnEvent,
) -> FusionModel:
    """The guarded fusion of the training rows' signals."""
    on_event(Event("fusion", "start", "Comparing combiners by repeated cross-validation"))
    fusion = FusionModel.fit(
        {name: signal.take(train) for name, signal in signals.items()},
        dataset.targets[train],
        space=dataset.space,
        config=config.fusion,
        seed=config.seed,
    )
    choice = fusion.choice
    on_event(Event("fusion", "done", f"Chosen: {choice.chosen}. {choice.reason}."))
    return fusion


def _split_done(split: Split, findings: list[Finding], config: RunConfig) -> Event:
    counts = {"train": len(split.train), "test": len(split.test), "findings": len(findings)}
    return Event(
        "split",
        "done",
        f"{len(split.train)} training rows, {len(split.test)} test rows",
        data=counts | stages(config),
    )
