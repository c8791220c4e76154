"""Everything the test split says about a run, as the JSON of metrics.json.

Knows the systems' outputs on the test rows. Does not know how they were made: the pipeline adds
`choice`, `calibration` and the counts of the other splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labelfusion.config import EvaluationConfig
from labelfusion.errors import InputError
from labelfusion.evaluation.comparison import compare_systems
from labelfusion.evaluation.intervals import (
    SystemOutput,
    bootstrap_intervals,
    bootstrap_metrics,
)
from labelfusion.evaluation.metrics import (
    confusion,
    evaluate,
    exact_match,
    per_label,
    probability_metrics,
)
from labelfusion.evaluation.reliability import reliability
from labelfusion.files import json_ready
from labelfusion.tasks import task_for
from labelfusion.types import LabelSpace

FUSION = "fusion"
METRICS_FORMAT = 1


def build_report(
    targets: np.ndarray,
    systems: Mapping[str, SystemOutput],
    space: LabelSpace,
    *,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Any]:
    """The parts format, task, n.test, systems and comparisons of metrics.json, JSON-ready.

    Args:
        targets: (n, k) int8 indicators of the test rows, all labelled.
        systems: by name; the one named "fusion" is compared with every other.
        config: bootstrap draws and confidence of the intervals.
        seed: of the bootstrap; the same seed gives the same report.

    A figure that does not exist (no test rows) is None; NaN is never written.
    Raises InputError if a system's arrays do not fit the targets or are not finite.
    """
    for name, output in systems.items():
        _check(name, output, targets)
    draws = bootstrap_metrics(targets, systems, space, draws=config.bootstrap_draws, seed=seed)
    parts = {
        name: _system_part(targets, output, space, draws[name], config.confidence)
        for name, output in systems.items()
    }
    task = task_for(space)
    report = {
        "format": METRICS_FORMAT,
        "task": {
            "multi_label": space.multi_label,
            "labels": list(space.names),
            "primary": task.primary_metric,
        },
        "n": {"test": len(targets)},
        "systems": parts,
        "comparisons": _comparisons(
            targets, systems, parts, draws, task.primary_metric, config.confidence
        ),
    }
    return json_ready(report)


def before_and_after(
    targets: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    space: LabelSpace,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """What calibrating one source changes: `before`, `after` and `reliability` of each.

    Args:
        targets: (n, k) of the rows that the source answered.
        before, after: (n, k) its probabilities as they came, and calibrated.
    """
    stages = {"before": before, "after": after}
    metrics = {when: probability_metrics(targets, p, space) for when, p in stages.items()}
    diagrams = {
        when: reliability(targets, p, space, config.confidence) for when, p in stages.items()
    }
    return json_ready(metrics | {"reliability": diagrams})


def _system_part(
    targets: np.ndarray,
    output: SystemOutput,
    space: LabelSpace,
    draws: Mapping[str, np.ndarray],
    confidence: float,
) -> dict[str, Any]:
    return {
        "metrics": evaluate(targets, output.probabilities, output.decisions, space),
        "intervals": bootstrap_intervals(draws, confidence),
        "per_label": per_label(targets, output.decisions, space, output.thresholds),
        "confusion": confusion(targets, output.decisions, space),
        "reliability": reliability(targets, output.probabilities, space, confidence),
        "coverage": float(output.coverage),
    }


def _comparisons(
    targets: np.ndarray,
    systems: Mapping[str, SystemOutput],
    parts: Mapping[str, dict[str, Any]],
    draws: Mapping[str, Mapping[str, np.ndarray]],
    metric: str,
    confidence: float,
) -> dict[str, Any]:
    if FUSION not in systems:
        return {}
    right = {name: exact_match(targets, output.decisions) for name, output in systems.items()}
    return {
        name: compare_systems(
            name,
            metric=metric,
            difference=parts[FUSION]["metrics"][metric] - parts[name]["metrics"][metric],
            difference_draws=draws[FUSION][metric] - draws[name][metric],
            fusion_right=right[FUSION],
            source_right=right[name],
            confidence=confidence,
        )
        for name in systems
        if name != FUSION
    }


def _check(name: str, output: SystemOutput, targets: np.ndarray) -> None:
    for what in ("probabilities", "decisions"):
        shape = getattr(output, what).shape
        if shape != targets.shape:
            raise InputError(
                f"The {what} of system {name!r} do not fit the targets",
                expected=f"shape {targets.shape}",
                found=f"shape {shape}",
            )
    bad = ~np.isfinite(output.probabilities).all(axis=1)
    if bad.any():
        raise InputError(
            f"System {name!r} has probabilities that are not finite",
            where=f"test row position {int(np.flatnonzero(bad)[0])}",
            found=f"{int(bad.sum())} such rows",
            remedy="Give missing rows the class prior and tell the coverage",
        )
