"""The whole story of a run: check, split, ML signal, LLM signals, fusion, evaluation.

Knows the order of the steps and what each hands to the next. Knows no disk layout and no page: it
tells `on_event` what happens, and takes from `store` what an interrupted run already has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.classifier import ML_SOURCE, FusedClassifier, ml_signal, scattered, score_llm
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.data import Finding, find_problems, load_dataset, make_split
from labelfusion.encoders import (
    NEVER_HELD_OUT,
    Encoder,
    cross_fit,
    cross_fit_folds,
    make_encoder,
)
from labelfusion.errors import InputError
from labelfusion.evaluation.intervals import SystemOutput
from labelfusion.evaluation.metrics import probability_metrics
from labelfusion.evaluation.report import FUSION, build_report
from labelfusion.evaluation.words import NO_METRICS
from labelfusion.explain import global_contributions
from labelfusion.files import json_ready
from labelfusion.fusion.decisions import DecisionRule
from labelfusion.fusion.model import FusionModel
from labelfusion.fusion.routing import fit_routing, tested
from labelfusion.llm import ScoringContext, TrainingTexts, asks, check_entry
from labelfusion.shift import Reference, make_reference
from labelfusion.tasks import signal_evidence, task_for
from labelfusion.types import (
    Dataset,
    Event,
    OnEvent,
    Prediction,
    Rows,
    Signal,
    Split,
    ignore_event,
)

SignalStore = MutableMapping[str, Signal]


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


def check(config: RunConfig) -> Dataset:
    """Read and check all of the input before anything is trained or paid.

    The data and its split, recorded scores, keys and the encoder's weights.
    Raises LabelFusionError.
    """
    dataset = load_dataset(config.data)
    split = make_split(dataset, config.data, config.seed)
    check_sources(dataset, split, config)
    return dataset


def check_sources(dataset: Dataset, split: Split, config: RunConfig) -> None:
    """Raises LabelFusionError unless every source can be had for the rows of the split."""
    if config.ml.encoder != "none":
        _check_trainable(dataset, split)
    training = training_texts(dataset, split)
    for entry in config.llm:
        check_entry(entry, dataset.space, config.costs, training)
        if not asks(entry):
            score_llm(entry, rows_at(dataset, scored_rows(split)), dataset.space, config)
    if config.ml.encoder != "none":
        make_encoder(config.ml, dataset.space, seed=config.seed, cache_dir=None)


def _check_trainable(dataset: Dataset, split: Split) -> None:
    """An encoder learns from rows of at least two labels; an LLM needs none."""
    labels = int(dataset.targets[split.train].any(axis=0).sum())
    if len(split.train) >= 2 and (labels >= 2 or dataset.space.multi_label):
        return
    raise InputError(
        "There are too few labelled rows to train an encoder",
        where=dataset.name,
        expected="at least 2 labelled training rows, of 2 labels",
        found=f"{len(split.train)} training rows, of {labels} labels",
        remedy="Label some rows, or set ml.encoder: none and let an LLM label without any",
    )


def fit(
    dataset: Dataset,
    config: RunConfig,
    *,
    on_event: OnEvent = ignore_event,
    store: SignalStore | None = None,
    cache_dir: Path | None = None,
    context: ScoringContext | None = None,
) -> FittedRun:
    """Train on the training split and read the test split once.

    Args:
        dataset: from `check` or `labelfusion.data`.
        store: signals by source over all rows of the dataset; those there are not made again, and
            those made are put there.
        cache_dir: where embeddings are kept; None keeps them in this process.
        context: cache, meter and run that LLM scoring may use (see `llm.scoring_session`).

    Raises LabelFusionError for input that cannot be used. The result depends on the seed alone.
    """
    on_event(Event("split", "start", "Dividing the labelled rows"))
    split = make_split(dataset, config.data, config.seed)
    findings = find_problems(dataset, split)
    on_event(_split_done(split, findings))
    store = {} if store is None else store
    encoder, folds, signals = make_signals(
        dataset, split, config, on_event, store, cache_dir, context
    )
    fusion = fit_fusion(dataset, split.train, signals, config, on_event)
    routing = fit_routing(fusion, dataset.targets[split.train], config)
    on_event(Event("evaluate", "start", "Reading the test split", total=len(split.test)))
    test_signals, new_signals = _taken(signals, split.test), _taken(signals, split.predict)
    prediction = fusion.predict(test_signals, contributions=True)
    new = fusion.predict(new_signals, contributions=True)
    report = _report(dataset, split, fusion, test_signals, prediction, config)
    report["contributions"] = json_ready(
        global_contributions(prediction if len(split.test) else new)
    )
    targets = dataset.targets[split.test]
    if len(targets):
        routing = tested(routing, fusion, targets, test_signals, prediction, config)
    report["routing"] = json_ready(routing.to_dict())
    on_event(Event("evaluate", "done", _headline(report), len(split.test), len(split.test)))
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


def make_signals(
    dataset: Dataset,
    split: Split,
    config: RunConfig,
    on_event: OnEvent,
    store: SignalStore,
    cache_dir: Path | None,
    context: ScoringContext | None = None,
) -> tuple[Encoder | None, np.ndarray, dict[str, Signal]]:
    """The final encoder, the folds of the training rows, and every source's signal."""
    targets = dataset.targets[split.train]
    folds = np.full(len(targets), NEVER_HELD_OUT)
    if len(targets) > 1:
        folds = cross_fit_folds(config.ml, targets, dataset.space, config.seed)
    signals: dict[str, Signal] = {}
    encoder = None
    if config.ml.encoder != "none":

        def make() -> Encoder:
            return make_encoder(config.ml, dataset.space, seed=config.seed, cache_dir=cache_dir)

        encoder = make()
        if ML_SOURCE not in store:
            store[ML_SOURCE] = _ml_signal(make, encoder, dataset, split, folds, on_event)
        else:
            _fit_encoder(encoder, dataset, split, on_event)
        signals[ML_SOURCE] = store[ML_SOURCE]
    lent = replace(context or ScoringContext(), training=training_texts(dataset, split))
    for entry in config.llm:
        if entry.name not in store:
            store[entry.name] = _llm_signal(entry, dataset, split, config, on_event, lent)
        signals[entry.name] = store[entry.name]
    return encoder, folds, signals


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


def _ml_signal(
    make: Callable[[], Encoder],
    encoder: Encoder,
    dataset: Dataset,
    split: Split,
    folds: np.ndarray,
    on_event: OnEvent,
) -> Signal:
    """Out of fold on the training rows; on the test rows by `encoder`, which is fitted here."""
    n = len(split.train)
    on_event(Event("ml", "start", "Training the encoder", 0, n, "texts"))
    train = rows_at(dataset, split.train)
    out_of_fold = cross_fit(make, train.texts, dataset.targets[split.train], folds, on_event)
    _fit_encoder(encoder, dataset, split, on_event)
    others = np.concatenate([split.test, split.predict])
    on_others = ml_signal(encoder, rows_at(dataset, others), on_event)
    on_event(Event("ml", "done", out_of_fold.origin, n, n, "texts"))
    return scattered([(split.train, out_of_fold), (others, on_others)], len(dataset))


def _fit_encoder(encoder: Encoder, dataset: Dataset, split: Split, on_event: OnEvent) -> None:
    encoder.fit(rows_at(dataset, split.train).texts, dataset.targets[split.train], on_event)


def scored_rows(split: Split) -> np.ndarray:
    """Positions of the rows that every LLM source scores, in the order they are asked about."""
    return np.concatenate([split.train, split.test, split.predict])


def training_texts(dataset: Dataset, split: Split) -> TrainingTexts:
    """The rows that few-shot examples may be drawn from."""
    rows = rows_at(dataset, split.train)
    return TrainingTexts(rows.ids, rows.texts, dataset.targets[split.train])


def _llm_signal(
    entry: LLMConfig,
    dataset: Dataset,
    split: Split,
    config: RunConfig,
    on_event: OnEvent,
    context: ScoringContext,
) -> Signal:
    used = scored_rows(split)
    rows = rows_at(dataset, used)
    scored = score_llm(entry, rows, dataset.space, config, on_event, context=context)
    return scattered([(used, scored)], len(dataset))


def rows_at(dataset: Dataset, positions: np.ndarray) -> Rows:
    """The rows at integer positions, in that order."""
    return Rows(ids=dataset.ids[positions].tolist(), texts=[dataset.texts[i] for i in positions])


def _split_done(split: Split, findings: list[Finding]) -> Event:
    return Event(
        "split",
        "done",
        f"{len(split.train)} training rows, {len(split.test)} test rows",
        data={"train": len(split.train), "test": len(split.test), "findings": len(findings)},
    )


def _report(
    dataset: Dataset,
    split: Split,
    fusion: FusionModel,
    signals: dict[str, Signal],
    prediction: Prediction,
    config: RunConfig,
) -> dict[str, Any]:
    """metrics.json: every source by itself and the fusion on the test rows, and the choice."""
    targets = dataset.targets[split.test]
    systems = {name: _alone(fusion, signal) for name, signal in signals.items()}
    answered = float(prediction.present.any(axis=1).mean()) if len(targets) else 1.0
    systems[FUSION] = SystemOutput(
        prediction.probabilities,
        prediction.decisions,
        answered,
        _thresholds(fusion, fusion.rule),
    )
    report = build_report(
        targets, systems, dataset.space, config=config.evaluation, seed=config.seed
    )
    labelled = int(dataset.labelled.sum())
    report["n"] |= {
        "train": len(split.train),
        "unlabelled": len(dataset) - labelled,
        "predicted": len(split.predict),
        "dropped": labelled - len(split.train) - len(split.test),
    }
    report["choice"] = json_ready(fusion.choice.to_dict())
    report["calibration"] = {
        name: _calibration(fusion, signal, targets) for name, signal in signals.items()
    }
    return report


def _alone(fusion: FusionModel, signal: Signal) -> SystemOutput:
    prediction = fusion.predict_alone(signal)
    thresholds = _thresholds(fusion, fusion.alone_rule(signal.source))
    return SystemOutput(prediction.probabilities, prediction.decisions, signal.coverage, thresholds)


def _thresholds(fusion: FusionModel, rule: DecisionRule) -> np.ndarray | None:
    return rule.probabilities if fusion.space.multi_label else None


def _calibration(fusion: FusionModel, signal: Signal, targets: np.ndarray) -> dict[str, Any]:
    """Before (the scores as they came) and after the chosen calibrator, on present test rows."""
    rows, name = signal.present, signal.source
    task = task_for(fusion.space)
    scores = fusion.choices[(name,)].candidates
    before = task.probabilities(signal_evidence(task, signal)[rows])
    after = fusion.predict({name: signal}).probabilities[rows]
    metrics = {
        when: probability_metrics(targets[rows], p, fusion.space)
        for when, p in (("before", before), ("after", after))
    }
    table = [{"name": score.name, "nll": score.log_loss} for score in scores]
    return json_ready({"chosen": fusion.calibrator(name), "candidates": table, **metrics})


def _headline(report: dict[str, Any]) -> str:
    metric = report["task"]["primary"]
    if not report["n"]["test"]:
        return NO_METRICS
    figures = (f"{name} {part['metrics'][metric]:.3f}" for name, part in report["systems"].items())
    return f"{metric}: {', '.join(figures)}"
