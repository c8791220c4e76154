"""A warning per text: how strange it is beside the training texts, as a conformal p-value.

A text's strangeness is its mean distance to its nearest training texts. To compare like with like,
the new text joins the training texts, and each of these is measured against all others, the new one
among them (full conformal prediction with a nearest-neighbour measure: Vovk, Gammerman & Shafer
2005, §2.2 and §3.1). If the text is exchangeable with the training texts, its p-value is at most
alpha with probability at most alpha, whatever the distribution. Does not know files or pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.fusion.model import FusionModel
from labelfusion.shift.features import cosine_distances
from labelfusion.shift.reference import Reference, disagreement
from labelfusion.types import Signal

ALPHA = 0.05
FAR, APART = "far from the training texts", "sources disagree more than on the training texts"
_CHUNK = 256


@dataclass(frozen=True)
class Unlike:
    """What n texts look like beside the training texts.

    Attributes:
        distance: (n,) mean distance to the nearest training texts, 0..1; NaN for an empty text.
        distance_p: (n,) its conformal p-value; NaN for an empty text.
        disagreement_p: (n,) of how far the sources are apart; NaN where it is not known.
        nearest: (n, j) positions in the reference of the nearest training texts, nearest first.
        nearest_distance: (n, j) their distances.
        alpha: at most this share of texts like the training texts is flagged.
        flagged: (n,) bool.
        reasons: n texts, "" where not flagged.
    """

    distance: np.ndarray
    distance_p: np.ndarray
    disagreement_p: np.ndarray
    nearest: np.ndarray
    nearest_distance: np.ndarray
    alpha: float
    flagged: np.ndarray
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.flagged)


def find_unlike(
    reference: Reference,
    texts: Sequence[str],
    features: Any,
    *,
    fusion: FusionModel,
    signals: Mapping[str, Signal],
    selected: bool = False,
    alpha: float = ALPHA,
) -> Unlike:
    """Compare n texts with the training texts.

    Args:
        features: (n', d) vectors of the `written` ones (`Reference.features`).
        signals: what the sources say of all n.
        selected: the texts that LLM sources were asked about were picked for being doubtful, so
            that their sources are bound to disagree more: disagreement is then no reason.
    """
    there = np.array([bool(text.strip()) for text in texts], dtype=bool)
    shape = (len(texts), reference.own.shape[1])
    distance, p = np.full(len(texts), np.nan), np.full(len(texts), np.nan)
    nearest, near = np.zeros(shape, dtype=int), np.full(shape, np.nan)
    if there.any():
        distance[there], p[there], nearest[there], near[there] = _measured(reference, features)
    apart = np.full(len(texts), np.nan)
    if len(reference.disagreement) and signals and not selected:
        apart = _disagreement_p(reference, disagreement(fusion, signals))
    far, torn = _flags(p, apart, alpha)
    reasons = tuple(_reason(f, t) for f, t in zip(far, torn, strict=True))
    return Unlike(distance, p, apart, nearest, near, alpha, far | torn, reasons)


def _measured(
    reference: Reference, features: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distance, p-value, and nearest texts with their distances, of (n, d) features."""
    parts = [
        _measured_chunk(
            reference.own, cosine_distances(features[i : i + _CHUNK], reference.vectors)
        )
        for i in range(0, features.shape[0], _CHUNK)
    ]
    distance, p, nearest, near = (np.concatenate(column) for column in zip(*parts, strict=True))
    return distance, p, nearest, near


def _measured_chunk(
    own: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    m, k = own.shape
    some = np.argpartition(distances, k - 1, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(distances, some, axis=1), axis=1)
    nearest = np.take_along_axis(some, order, axis=1)
    near = np.take_along_axis(distances, nearest, axis=1)
    strangeness = near.mean(axis=1)
    # Each training text with the new one among its possible neighbours: it takes the place of the
    # farthest of the k if it is nearer.
    others = own[:, :-1].sum(axis=1) + np.minimum(distances, own[:, -1])
    # Sums of the same distances in another order differ in their last digits.
    at_least = (others / k >= strangeness[:, None] - 1e-12).sum(axis=1)
    return strangeness, (1 + at_least) / (m + 1), nearest, near


def _disagreement_p(reference: Reference, apart: np.ndarray) -> np.ndarray:
    known = reference.disagreement
    at_least = len(known) - np.searchsorted(known, apart, side="left")
    return np.where(np.isnan(apart), np.nan, (1 + at_least) / (len(known) + 1))


def _flags(p: np.ndarray, apart: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Far and torn, (n,) each; two tests of one text share alpha (Bonferroni)."""
    tests = 1 + (~np.isnan(apart)).astype(int)
    return np.nan_to_num(p, nan=1.0) <= alpha / tests, np.nan_to_num(apart, nan=1.0) <= alpha / 2


def _reason(far: bool, torn: bool) -> str:
    return "; ".join(words for words, holds in ((FAR, far), (APART, torn)) if holds)


def nearest_training(reference: Reference, unlike: Unlike, row: int) -> pd.DataFrame:
    """The training texts nearest to text `row`: id, label, similarity (cosine), nearest first."""
    at = unlike.nearest[row]
    return pd.DataFrame(
        {
            "id": [reference.ids[i] for i in at],
            "label": [reference.labels[i] for i in at],
            "similarity": 1 - unlike.nearest_distance[row],
        }
    )
