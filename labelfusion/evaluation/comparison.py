"""Whether fusion is better than a source on the same rows, and in which words to say so.

Knows two systems' bootstrap draws and correctness. Words never claim more than the rows show.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr

from labelfusion.evaluation.intervals import percentile_interval

METRIC_WORDS = {"accuracy": "accuracy", "macro_f1": "macro F1"}
# With 5 texts decided one way by only one system, even 5 : 0 has an exact two-sided p of 0.06.
TOO_FEW_DISCORDANT = 6
# A difference that holds but would be seen on less than one text in a hundred is called small.
SMALL_DIFFERENCE = 0.01


@dataclass(frozen=True)
class Comparison:
    """One entry of metrics.json's comparisons; `difference` is fusion minus source, 0..1 scale."""

    metric: str
    difference: float
    interval: tuple[float, float]
    only_fusion_right: int
    only_source_right: int
    p_value: float
    sentence: str = ""


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar p-value from the discordant counts; 1 if there are none.

    Binomial with p = 1/2 on the discordant rows, the smaller tail doubled (Fagerland, Lydersen &
    Laake 2013, "The McNemar test for binary matched-pairs data", exact conditional test).
    """
    discordant = only_first + only_second
    if not discordant:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5)))


def compare_systems(
    source: str,
    *,
    metric: str,
    difference: float,
    difference_draws: np.ndarray,
    fusion_right: np.ndarray,
    source_right: np.ndarray,
    confidence: float,
    fusion: str = "fusion",
) -> dict[str, Any]:
    """Compare fusion with `source` on the same n rows.

    Args:
        fusion: what the sentence calls what is compared with the source.
        metric: the task's primary metric, "accuracy" or "macro_f1".
        difference: fusion minus source in that metric, on the rows themselves.
        difference_draws: (draws,) the same on paired bootstrap draws.
        fusion_right, source_right: (n,) bool, correct (multi-label: exact match).
        confidence: of the interval, e.g. 0.95.
    """
    only_fusion = int((fusion_right & ~source_right).sum())
    only_source = int((source_right & ~fusion_right).sum())
    comparison = Comparison(
        metric,
        difference,
        percentile_interval(difference_draws, confidence),
        only_fusion,
        only_source,
        mcnemar_exact(only_fusion, only_source),
    )
    sentence = describe_comparison(comparison, source, len(fusion_right), confidence, fusion)
    return asdict(comparison) | {"sentence": sentence}


def describe_comparison(
    comparison: Comparison, source: str, n: int, confidence: float, fusion: str = "fusion"
) -> str:
    """The comparison in one or two honest sentences."""
    if not n:
        return f"There are no test texts, so {fusion} and {source} cannot be compared."
    low, high = comparison.interval
    exactly = "" if comparison.metric == "accuracy" else "in every label "
    return (
        f"{fusion[:1].upper()}{fusion[1:]} is right {exactly}on "
        f"{_texts(comparison.only_fusion_right)} where {source} is wrong, and wrong on "
        f"{comparison.only_source_right:,} where {source} is right (exact "
        f"McNemar {_p_words(comparison.p_value)}): on {_texts(n, 'test ')} the difference in "
        f"{METRIC_WORDS[comparison.metric]} of {_points(comparison.difference)} points "
        f"({100 * confidence:g} % interval {_points(low)} to {_points(high)}) "
        f"{_verdict(comparison, 1 - confidence, fusion)}."
    )


def _verdict(comparison: Comparison, alpha: float, fusion: str) -> str:
    discordant = comparison.only_fusion_right + comparison.only_source_right
    # Macro F1 also moves by texts that neither system has wholly right, so it can rest on more.
    if comparison.metric == "accuracy" and discordant < TOO_FEW_DISCORDANT:
        return f"rests on {_texts(discordant)} only: the test split is too small to tell them apart"
    low, high = comparison.interval
    if low <= 0 <= high:
        return "may be chance: the interval contains no difference at all"
    if comparison.p_value > alpha:
        return "leans one way, but the McNemar test leaves chance open: more test texts would tell"
    which = f"in favour of {fusion}" if comparison.difference > 0 else f"against {fusion}"
    if abs(comparison.difference) < SMALL_DIFFERENCE:
        return f"is {which} and more than chance alone explains, but small"
    return f"is {which} and more than chance alone explains"


def _texts(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}text{'s' * (count != 1)}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _p_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p >= 0.1 else f"p = {p:.3f}"
