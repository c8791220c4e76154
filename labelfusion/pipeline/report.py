"""What metrics.json says: every source by itself and the fusion on the test rows, and the choice.

Knows the parts of the report and whom to ask for each. Fits nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from labelfusion.config import RunConfig
from labelfusion.evaluation.intervals import SystemOutput
from labelfusion.evaluation.report import FUSION, before_and_after, build_report
from labelfusion.evaluation.source_value import error_overlap, source_values
from labelfusion.evaluation.words import NO_METRICS
from labelfusion.files import json_ready
from labelfusion.fusion.decisions import DecisionRule
from labelfusion.fusion.model import FusionModel
from labelfusion.tasks import signal_evidence, task_for
from labelfusion.types import Dataset, Prediction, Signal, Split


def make_report(
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


def headline(report: dict[str, Any]) -> str:
    metric = report["task"]["primary"]
    if not report["n"]["test"]:
        return NO_METRICS
    figures = (f"{name} {part['metrics'][metric]:.3f}" for name, part in report["systems"].items())
    return f"{metric}: {', '.join(figures)}"
