"""What each source is worth beside the others, and which one could be dropped.

The value of a source is what the fusion loses without it (leave one source out), on rows that no
combiner saw, with a paired bootstrap interval. Redundancy is how often two sources err together.
Knows predictions of the same rows. Does not know how they were made, or what a source costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labelfusion.config import EvaluationConfig
from labelfusion.evaluation.comparison import METRIC_WORDS
from labelfusion.evaluation.intervals import SystemOutput, bootstrap_metrics, percentile_interval
from labelfusion.evaluation.metrics import evaluate, exact_match
from labelfusion.files import json_ready
from labelfusion.types import LabelSpace

# A source whose value is below this, even at the upper end of the interval, can go: 3 texts in
# 1,000, the loss that routing accepts by default.
WORTHLESS = 0.003
ALL = "all sources"
# Phi below which errors are called nearly independent: less than Cohen's (1988) small effect.
INDEPENDENT = 0.1


@dataclass(frozen=True)
class SourceValue:
    """One source's value. Metric and interval on the 0..1 scale, log-loss in nats a text.

    `used` says whether the combiner for all sources reads it; `verdict` is "adds", "unclear" or
    "drop".
    """

    source: str
    used: bool
    metric: str
    value: float
    interval: tuple[float, float]
    log_loss_saved: float
    log_loss_interval: tuple[float, float]
    verdict: str
    sentence: str


def source_values(
    targets: np.ndarray,
    together: SystemOutput,
    without: Mapping[str, SystemOutput],
    used: Mapping[str, bool],
    space: LabelSpace,
    *,
    metric: str,
    config: EvaluationConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """The value of each source in `without`, best first, JSON-ready; [] without rows.

    Args:
        targets: (n, k) indicators.
        together, without: out-of-fold answers with all sources, and with each one left out.
        used: whether the combiner of all sources reads a source.
        metric: the task's primary metric.
    """
    if not len(targets) or len(without) < 2:
        return []
    systems = {ALL: together, **without}
    draws = bootstrap_metrics(targets, systems, space, draws=config.bootstrap_draws, seed=seed)
    figures = {
        name: evaluate(targets, output.probabilities, output.decisions, space)
        for name, output in systems.items()
    }
    found = []
    for name in without:
        value = figures[ALL][metric] - figures[name][metric]
        interval = percentile_interval(draws[ALL][metric] - draws[name][metric], config.confidence)
        verdict = _verdict(interval, used[name])
        found.append(
            SourceValue(
                name,
                used[name],
                metric,
                value,
                interval,
                figures[name]["nll"] - figures[ALL]["nll"],
                percentile_interval(draws[name]["nll"] - draws[ALL]["nll"], config.confidence),
                verdict,
                _sentence(name, verdict, metric, value, interval, len(targets)),
            )
        )
    found.sort(key=lambda entry: -entry.value)
    return [json_ready(asdict(entry)) for entry in found]


def _verdict(interval: tuple[float, float], used: bool) -> str:
    if not used or interval[1] < WORTHLESS:
        return "drop"
    return "adds" if interval[0] > 0 else "unclear"


def _sentence(
    name: str, verdict: str, metric: str, value: float, interval: tuple[float, float], n: int
) -> str:
    words = METRIC_WORDS[metric]
    low, high = sorted(-100 * end for end in interval)
    figure = (
        f"Without {name}, the {words} of the fusion changes by {-100 * value:+.1f} points "
        f"({low:+.1f} to {high:+.1f}) on {n:,} training texts"
    )
    ends = {
        "drop": f"{figure}: you can drop it and lose next to nothing.",
        "adds": f"{figure}: it adds something the others lack.",
        "unclear": f"{figure}: these texts are too few to tell whether it adds anything.",
    }
    return ends[verdict]


def error_overlap(
    targets: np.ndarray, decisions: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Pairs of sources: how often they agree, and how their errors go together.

    Args:
        decisions: (n, k) bool by source. present: (n,) bool by source.

    `error_correlation` is the phi coefficient of being wrong (1: they err on the same texts, 0:
    independently; None where one never errs), over the rows that both answered.
    """
    names = list(decisions)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [
        json_ready(_overlap(targets, decisions, a, b, present[a] & present[b])) for a, b in pairs
    ]


def _overlap(
    targets: np.ndarray, decisions: Mapping[str, np.ndarray], a: str, b: str, rows: np.ndarray
) -> dict[str, Any]:
    if not rows.any():
        return {"sources": [a, b], "rows": 0, "agreement": None, "error_correlation": None}
    wrong = [~exact_match(targets[rows], decisions[name][rows]) for name in (a, b)]
    same = (decisions[a][rows] == decisions[b][rows]).all(axis=1)
    constant = any(w.all() or not w.any() for w in wrong)
    return {
        "sources": [a, b],
        "rows": int(rows.sum()),
        "agreement": float(same.mean()),
        "error_correlation": None if constant else float(np.corrcoef(wrong[0], wrong[1])[0, 1]),
    }


def overlap_sentence(entry: Mapping[str, Any]) -> str:
    """One entry of `error_overlap` in words."""
    a, b = entry["sources"]
    if entry["agreement"] is None:
        return f"No test text was answered by both {a} and {b}."
    agree = f"{a} and {b} agree on {entry['agreement']:.1%} of {entry['rows']:,} test texts"
    correlation = entry["error_correlation"]
    if correlation is None:
        return f"{agree}; one of them is never wrong, or never right."
    said = f"{agree}, and their errors correlate by {correlation:+.2f}"
    if correlation > INDEPENDENT:
        return f"{said}: they are wrong on the same texts more often than by chance."
    if correlation < -INDEPENDENT:
        return f"{said}: where one is wrong, the other is more often right."
    return f"{said}: they err nearly independently, which is what a fusion needs."
