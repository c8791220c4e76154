"""The whole story of a run: check, split, ML signal, LLM signals, fusion, evaluation.

Knows the order of the steps and what each hands to the next. Knows no disk layout and no page: it
tells `on_event` what happens, and takes from `store` what an interrupted run already has.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.classifier import (
    JOINT_SOURCE,
    ML_SOURCE,
    FusedClassifier,
    joint_signal,
    ml_signal,
    scattered,
    score_llm,
)
from labelfusion.config import RunConfig
from labelfusion.data import Finding, find_problems, load_dataset, make_split
from labelfusion.encoders import (
    NEVER_HELD_OUT,
    Encoder,
    JointEncoder,
    LLMEvidence,
    cross_fit,
    cross_fit_folds,
    cross_fit_jointly,
    make_encoder,
)
from labelfusion.errors import InputError
from labelfusion.evaluation.intervals import SystemOutput
from labelfusion.evaluation.report import FUSION, before_and_after, build_report
from labelfusion.evaluation.source_value import error_overlap, source_values
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
    STAGES,
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
    on_event(_split_done(split, findings, config))
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
    """The final encoder, the folds of the training rows, and every source's signal.

    An encoder that reads LLM scores is trained after the LLM sources have been asked.
    """
    targets = dataset.targets[split.train]
    folds = np.full(len(targets), NEVER_HELD_OUT)
    if len(targets) > 1:
        folds = cross_fit_folds(config.ml, targets, dataset.space, config.seed)
    made = _Made(dataset, split, config, on_event, store)
    encoder = None
    if config.ml.joint:
        made.llm(context)
        encoder = made.joint(folds, cache_dir)
    else:
        if config.ml.encoder != "none":
            encoder = made.ml(folds, cache_dir)
        made.llm(context)
    return encoder, folds, {name: store[name] for name in config.source_names}


@dataclass(frozen=True)
class _Made:
    """Signals, made where `store` does not have them."""

    dataset: Dataset
    split: Split
    config: RunConfig
    on_event: OnEvent
    store: SignalStore

    def llm(self, context: ScoringContext | None) -> None:
        used, training = scored_rows(self.split), training_texts(self.dataset, self.split)
        lent = replace(context or ScoringContext(), training=training)
        ask = partial(score_llm, rows=rows_at(self.dataset, used), space=self.dataset.space)
        for entry in self.config.llm:
            if entry.name not in self.store:
                scored = ask(entry, config=self.config, on_event=self.on_event, context=lent)
                self.store[entry.name] = scattered([(used, scored)], len(self.dataset))

    def ml(self, folds: np.ndarray, cache_dir: Path | None) -> Encoder:
        """The encoder trained on all training rows."""
        config, space, told = self.config, self.dataset.space, self.on_event

        def make() -> Encoder:
            return make_encoder(config.ml, space, seed=config.seed, cache_dir=cache_dir)

        encoder, n = make(), len(self.split.train)
        known = (rows_at(self.dataset, self.split.train).texts, self._targets)
        if ML_SOURCE in self.store:
            encoder.fit(*known, told)
            return encoder
        told(Event("ml", "start", "Training the encoder", 0, n, "texts"))
        out_of_fold = cross_fit(make, *known, folds, told)
        encoder.fit(*known, told)
        self.store[ML_SOURCE] = self._with_other_rows(out_of_fold, encoder)
        told(Event("ml", "done", out_of_fold.origin, n, n, "texts"))
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
        out_of_fold = () if made else cross_fit_jointly(make, *known, folds, told)
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


def scored_rows(split: Split) -> np.ndarray:
    """Positions of the rows that every LLM source scores, in the order they are asked about."""
    return np.concatenate([split.train, split.test, split.predict])


def training_texts(dataset: Dataset, split: Split) -> TrainingTexts:
    """The rows that few-shot examples may be drawn from."""
    rows = rows_at(dataset, split.train)
    return TrainingTexts(rows.ids, rows.texts, dataset.targets[split.train])


def rows_at(dataset: Dataset, positions: np.ndarray) -> Rows:
    """The rows at integer positions, in that order."""
    return Rows(ids=dataset.ids[positions].tolist(), texts=[dataset.texts[i] for i in positions])


def _split_done(split: Split, findings: list[Finding], config: RunConfig) -> Event:
    counts = {"train": len(split.train), "test": len(split.test), "findings": len(findings)}
    return Event(
        "split",
        "done",
        f"{len(split.train)} training rows, {len(split.test)} test rows",
        data=counts | {"stages": _stages(config)},
    )


def _stages(config: RunConfig) -> list[str]:
    """The stages in the order of this run: a joint encoder is trained on what the LLMs said."""
    order = [stage for stage in STAGES if stage != "ml"]
    order.insert(order.index("llm") + config.ml.joint, "ml")
    return order


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
    alone = dict(systems)
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
    report["source_values"] = _source_values(fusion, dataset.targets[split.train], config)
    report["overlap"] = error_overlap(
        targets,
        {name: output.decisions for name, output in alone.items()},
        {name: signal.present for name, signal in signals.items()},
    )
    report["calibration"] = {
        name: _calibration(fusion, signal, targets, config) for name, signal in signals.items()
    }
    return report


def _source_values(
    fusion: FusionModel, targets: np.ndarray, config: RunConfig
) -> list[dict[str, Any]]:
    """Leave one source out, on the training rows out of fold."""

    def told(absent: tuple[str, ...]) -> SystemOutput:
        prediction = fusion.out_of_fold_without(absent)
        assert prediction is not None
        return SystemOutput(prediction.probabilities, prediction.decisions)

    return source_values(
        targets,
        told(()),
        {name: told((name,)) for name in fusion.sources},
        {name: name in fusion.used for name in fusion.sources},
        fusion.space,
        metric=fusion.task.primary_metric,
        config=config.evaluation,
        seed=config.seed,
    )


def _alone(fusion: FusionModel, signal: Signal) -> SystemOutput:
    prediction = fusion.predict_alone(signal)
    thresholds = _thresholds(fusion, fusion.alone_rule(signal.source))
    return SystemOutput(prediction.probabilities, prediction.decisions, signal.coverage, thresholds)


def _thresholds(fusion: FusionModel, rule: DecisionRule) -> np.ndarray | None:
    return rule.probabilities if fusion.space.multi_label else None


def _calibration(
    fusion: FusionModel, signal: Signal, targets: np.ndarray, config: RunConfig
) -> dict[str, Any]:
    """Before (the scores as they came) and after the chosen calibrator, on present test rows."""
    rows, name = signal.present, signal.source
    task, choice = task_for(fusion.space), fusion.choices[(signal.source,)]
    before = task.probabilities(signal_evidence(task, signal)[rows])
    after = fusion.predict({name: signal}).probabilities[rows]
    table = [
        {"name": s.name, "nll": s.log_loss, "standard_error": s.standard_error, "used": s.used}
        for s in choice.candidates
    ]
    about = {"chosen": fusion.calibrator(name), "reason": choice.reason, "candidates": table}
    measured = before_and_after(targets[rows], before, after, fusion.space, config.evaluation)
    return json_ready(about) | measured


def _headline(report: dict[str, Any]) -> str:
    metric = report["task"]["primary"]
    if not report["n"]["test"]:
        return NO_METRICS
    figures = (f"{name} {part['metrics'][metric]:.3f}" for name, part in report["systems"].items())
    return f"{metric}: {', '.join(figures)}"
