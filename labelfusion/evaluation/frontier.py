"""What routing buys: accuracy against the share of texts for which the dear sources are asked.

Knows, for labelled rows, how sure the cheap sources are and what is decided with and without the
dear ones. Does not know which sources those are, nor which operating point anybody wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labelfusion.errors import InputError
from labelfusion.evaluation.intervals import (
    CHUNK_NUMBERS,
    percentile_interval,
    row_weights,
)
from labelfusion.evaluation.metrics import LabelCounts, exact_match
from labelfusion.types import Prediction

# Margins lie in -1..1. A row without any cheap source has MARGIN_UNKNOWN, below all of them.
SEND_NONE, MARGIN_UNKNOWN, SEND_ALL = -3.0, -2.0, 2.0
MAX_POINTS = 50


def margins(prediction: Prediction) -> np.ndarray:
    """(n,) how sure a prediction is: its decision's probability minus that of the alternative.

    Multi-class: the given label against the best other one (Scheffer et al. 2001). Multi-label:
    the least sure label, given against not given; negative where a threshold or the
    at-least-one rule decides against one half. MARGIN_UNKNOWN where no source is present.
    """
    p, given = prediction.probabilities, prediction.decisions
    if prediction.space.multi_label:
        margin = (2 * np.where(given, p, 1 - p) - 1).min(axis=1)
    else:
        other = np.where(given, 0.0, p).max(axis=1)
        margin = np.where(given, p, 0.0).sum(axis=1) - other
    return np.where(prediction.present.any(axis=1), margin, MARGIN_UNKNOWN)


@dataclass(frozen=True)
class Routable:
    """n labelled rows decided twice.

    Attributes:
        targets: (n, k) indicators.
        margin: (n,) of the cheap prediction, see `margins`.
        cheap, full: (n, k) bool, the decisions without and with the dear sources.
    """

    targets: np.ndarray
    margin: np.ndarray
    cheap: np.ndarray
    full: np.ndarray

    def __post_init__(self) -> None:
        shapes = {self.targets.shape, self.cheap.shape, self.full.shape}
        if len(shapes) > 1 or self.margin.shape != self.targets.shape[:1]:
            raise InputError(
                "The rows to be routed do not fit each other",
                expected="targets, cheap and full (n, k), margin (n,)",
                found=", ".join(str(shape) for shape in (*shapes, self.margin.shape)),
            )

    def __len__(self) -> int:
        return len(self.margin)

    @property
    def flip_rate(self) -> float:
        """Share of rows that the dear sources decide otherwise: no router can send fewer and
        still decide every text as full fusion does."""
        return float((self.cheap != self.full).any(axis=1).mean())

    def losses(self) -> np.ndarray:
        """(n,) int: what not sending a row costs: 1, 0, or -1 where only cheap is right."""
        right = exact_match(self.targets, self.full).astype(int)
        return right - exact_match(self.targets, self.cheap)

    def thresholds_for(self, shares: np.ndarray) -> np.ndarray:
        """Margins below which at most these `shares` (0..1) of the rows lie; ties stay behind."""
        at_most = np.floor(np.asarray(shares) * len(self) + 1e-9).astype(int)
        ordered = np.append(np.sort(self.margin), SEND_ALL)
        return np.where(at_most == 0, SEND_NONE, ordered[at_most])


@dataclass(frozen=True)
class AskingCost:
    """What asking every dear source about one text costs; None is unknown, never 0."""

    usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class FrontierPoint:
    """Routing at one threshold; intervals are bootstrap percentiles, shares and metrics 0..1.

    Attributes:
        threshold: rows with a smaller margin are sent.
        loss: accuracy of full fusion minus accuracy, with its paired interval.
        random_accuracy, random_macro_f1: expected were the same share sent at random.
        lead: accuracy minus random_accuracy, with its paired interval.
        usd_per_1000: money per 1,000 texts, sent or not.
        seconds: mean time a text waits for the dear sources.
    """

    threshold: float
    share: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    loss: float
    loss_interval: tuple[float, float]
    random_accuracy: float
    random_macro_f1: float
    lead: float
    lead_interval: tuple[float, float]
    usd_per_1000: float | None
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Frontier:
    """Points from sending nothing to sending everything, and the flip rate as the floor."""

    points: tuple[FrontierPoint, ...]
    flip_rate: float
    rows: int


def make_frontier(
    rows: Routable,
    *,
    thresholds: np.ndarray | None = None,
    cost: AskingCost | None = None,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Frontier:
    """Measure routing at each threshold, by default at up to 50 evenly spaced shares of `rows`.

    Thresholds stay as they are in a bootstrap draw, so shares vary with the draw.
    Raises InputError if there are no rows.
    """
    if not len(rows):
        raise InputError("There are no labelled rows to measure routing on")
    if thresholds is None:
        thresholds = rows.thresholds_for(np.linspace(0, 1, MAX_POINTS))
    thresholds = np.unique(thresholds)
    once = _figures(_segment_sums(np.ones((1, len(rows))), rows, thresholds), rows)
    parts = [
        _figures(_segment_sums(weights, rows, thresholds), rows)
        for weights in _weights(rows, len(thresholds), draws, seed)
    ]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in once}
    cost = cost or AskingCost()
    points = tuple(
        _point(float(threshold), i, once, drawn, confidence, cost)
        for i, threshold in enumerate(thresholds)
    )
    return Frontier(points, rows.flip_rate, len(rows))


def _weights(rows: Routable, n_points: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    # What a draw takes in memory is its sums: a number for each threshold and feature.
    width = max(len(rows), (n_points + 1) * (5 * rows.targets.shape[1] + 3))
    return row_weights(len(rows), draws, seed, chunk=max(1, CHUNK_NUMBERS // width))


def _segment_sums(weights: np.ndarray, rows: Routable, thresholds: np.ndarray) -> np.ndarray:
    """(c, n) weights -> (c, g + 1, 5k + 3): weighted sums of `_features` between thresholds.

    Rows fall into g + 1 segments by margin; a product a segment costs as much as one product over
    all rows, and their running totals give every threshold at once.
    """
    features = _features(rows)
    segment = np.searchsorted(thresholds, rows.margin, side="right")
    sums = np.empty((len(weights), len(thresholds) + 1, features.shape[1]))
    for s in range(len(thresholds) + 1):
        inside = segment == s
        sums[:, s] = weights[:, inside] @ features[inside]
    return sums


def _features(rows: Routable) -> np.ndarray:
    """(n, 5k + 3): gold and 1, then hits, predicted and exact match of cheap and of full."""
    parts = [rows.targets, np.ones((len(rows), 1))]
    for decisions in (rows.cheap, rows.full):
        right = exact_match(rows.targets, decisions)[:, None]
        parts += [rows.targets.astype(bool) & decisions, decisions, right]
    return np.hstack(parts).astype(float)


def _figures(sums: np.ndarray, rows: Routable) -> dict[str, np.ndarray]:
    """Each (c, g): share, accuracy, macro_f1, loss, random_accuracy, random_macro_f1, lead."""
    n, k = rows.targets.shape
    total = sums.sum(axis=1, keepdims=True)
    below = sums.cumsum(axis=1)[:, :-1]
    cheap, full = slice(k + 1, 3 * k + 2), slice(3 * k + 2, None)
    share = below[..., k] / n
    routed = below[..., full] + (total - below)[..., cheap]
    random = share[..., None] * total[..., full] + (1 - share[..., None]) * total[..., cheap]
    found = {"share": share}
    for prefix, counts in (("", routed), ("random_", random)):
        f1 = LabelCounts(counts[..., :k], counts[..., k : 2 * k], total[..., :k]).macro_f1()
        found |= {f"{prefix}accuracy": counts[..., -1] / n, f"{prefix}macro_f1": f1}
    found["loss"] = total[..., -1] / n - found["accuracy"]
    found["lead"] = found["accuracy"] - found["random_accuracy"]
    return found


def _point(
    threshold: float,
    i: int,
    once: dict[str, np.ndarray],
    drawn: dict[str, np.ndarray],
    confidence: float,
    cost: AskingCost,
) -> FrontierPoint:
    value = {name: float(figures[0, i]) for name, figures in once.items()}

    def interval(name: str) -> tuple[float, float]:
        return percentile_interval(drawn[name][:, i], confidence)

    return FrontierPoint(
        threshold,
        **value,
        accuracy_interval=interval("accuracy"),
        macro_f1_interval=interval("macro_f1"),
        loss_interval=interval("loss"),
        lead_interval=interval("lead"),
        usd_per_1000=None if cost.usd is None else 1000 * value["share"] * cost.usd,
        seconds=None if cost.seconds is None else value["share"] * cost.seconds,
    )
