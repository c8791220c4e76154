"""What is kept of a run's training texts, so that new texts can be compared with them.

Vectors, ids and labels of at most MAX_REFERENCE training texts, and what the model says of rows it
did not see. Holds no text: ids lead back to the data file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.encoders.base import Encoder
from labelfusion.errors import RunError
from labelfusion.fusion.model import FusionModel
from labelfusion.shift.features import (
    HASHED_FEATURES,
    FeatureKind,
    character_counts,
    cosine_distances,
    embeddings,
    feature_kind,
    rarity,
    weighted,
)
from labelfusion.types import OnEvent, Prediction, Signal, ignore_event

FORMAT = 1
SPEC, ARRAYS = "shift.json", "shift.safetensors"
MAX_REFERENCE = 2000
# Few enough that a small group of odd training texts is near itself, more than one so that a single
# near-copy does not make a text look usual.
NEIGHBOURS = 5
_CHUNK = 512
_MEASURES = ("own", "disagreement", "confidence", "decided")
_SPARSE = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Reference:
    """The training texts (m of them) and the model's view of rows it did not see.

    Attributes:
        kind: what the vectors are.
        ids: m ids of training rows.
        labels: m gold labels, joined by "|".
        vectors: (m, d) unit rows, dense for "embedding", sparse for "characters".
        weights: (d,) rarity of each n-gram; None for "embedding".
        own: (m, NEIGHBOURS at most) distances of each text to its nearest others, ascending.
        disagreement: (r,) how far the sources are apart on rows unseen (`disagreement`).
        confidence: (q,) mean certainty of the fused decisions on rows unseen, all sources present.
        decided: (k,) on how many of these q rows each label is decided.
    """

    kind: FeatureKind
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: Any
    weights: np.ndarray | None
    own: np.ndarray
    disagreement: np.ndarray
    confidence: np.ndarray
    decided: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def features(
        self, encoder: Encoder | None, texts: Sequence[str], on_event: OnEvent = ignore_event
    ) -> Any:
        """(n, d) unit rows of new texts, of the kind this reference holds."""
        if not texts:
            return self.vectors[:0]
        if self.weights is None:
            return embeddings(encoder, texts, on_event)
        return weighted(character_counts(texts), self.weights)

    def save(self, folder: Path) -> None:
        """Write shift.json and shift.safetensors into an existing model folder."""
        from safetensors.numpy import save_file

        arrays: dict[str, np.ndarray] = {name: getattr(self, name) for name in _MEASURES}
        if self.weights is None:
            arrays["vectors"] = self.vectors
        else:
            parts = {f"vectors.{name}": getattr(self.vectors, name) for name in _SPARSE}
            arrays |= {"weights": self.weights} | parts
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / ARRAYS)
        values = {
            "format": FORMAT,
            "kind": self.kind,
            "ids": list(self.ids),
            "labels": list(self.labels),
        }
        (folder / SPEC).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Reference | None:
        """Inverse of `save`; None for a model saved without one. Raises RunError."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / SPEC).exists():
            return None
        try:
            values = json.loads((folder / SPEC).read_text(encoding="utf-8"))
            found = f"format {values['format']}"
            if values["format"] == FORMAT:
                return _restored(values, load_file(folder / ARRAYS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            found = f"{type(error).__name__}: {error}"
        raise RunError(
            "What the model keeps of its training texts cannot be read",
            where=str(folder / SPEC),
            expected=f"format {FORMAT}",
            found=found,
            remedy=f"Restore {SPEC} and {ARRAYS}, or delete both to do without the warning",
        )


def _restored(values: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> Reference:
    from scipy.sparse import csr_matrix

    weights, vectors = arrays.get("weights"), arrays.get("vectors")
    if vectors is None:
        parts = tuple(arrays[f"vectors.{name}"] for name in _SPARSE)
        vectors = csr_matrix(parts, shape=(len(values["ids"]), HASHED_FEATURES))
    ids, labels = tuple(values["ids"]), tuple(values["labels"])
    measures = (arrays[name] for name in _MEASURES)
    return Reference(values["kind"], ids, labels, vectors, weights, *measures)


def make_reference(
    encoder: Encoder | None,
    texts: Sequence[str],
    ids: Sequence[str],
    labels: Sequence[str],
    fusion: FusionModel,
    unseen: Sequence[tuple[Mapping[str, Signal], Prediction]],
    *,
    seed: int,
) -> Reference | None:
    """Keep what later texts are compared with; None for fewer than two texts.

    Args:
        texts, ids, labels: of the training rows; beyond MAX_REFERENCE a random part is kept.
        unseen: signals and predictions of rows that the model did not see: training rows out of
            fold, and test rows.
        seed: of that part.
    """
    there = np.array([i for i, text in enumerate(texts) if text.strip()], dtype=int)
    kept: list[int] = np.sort(_some(there, seed)).tolist()
    if len(kept) < 2:
        return None
    vectors, weights = _vectors(encoder, [texts[i] for i in kept])
    confidence, decided = _certainty(unseen, seed)
    apart = [disagreement(fusion, signals) for signals, _ in unseen if len(signals)]
    spread = np.concatenate([np.zeros(0), *apart])
    return Reference(
        feature_kind(encoder),
        tuple(str(ids[i]) for i in kept),
        tuple(labels[i] for i in kept),
        vectors,
        weights,
        _nearest_others(vectors),
        np.sort(_some(spread[~np.isnan(spread)], seed)),
        confidence,
        decided,
    )


def _vectors(encoder: Encoder | None, texts: Sequence[str]) -> tuple[Any, np.ndarray | None]:
    if feature_kind(encoder) == "embedding":
        return embeddings(encoder, texts), None
    counts = character_counts(texts)
    weights = rarity(counts)
    return weighted(counts, weights), weights


def _some(values: np.ndarray, seed: int) -> np.ndarray:
    if len(values) <= MAX_REFERENCE:
        return values
    return np.random.default_rng(seed).choice(values, MAX_REFERENCE, replace=False)


def _nearest_others(vectors: Any) -> np.ndarray:
    """(m, k) distances of each row to its k nearest other rows, ascending."""
    m = vectors.shape[0]
    k = min(NEIGHBOURS, m - 1)
    found = np.empty((m, k))
    for start in range(0, m, _CHUNK):
        part = cosine_distances(vectors[start : start + _CHUNK], vectors)
        rows = np.arange(len(part))
        part[rows, start + rows] = np.inf
        found[start : start + len(part)] = np.sort(np.partition(part, k - 1, axis=1)[:, :k], axis=1)
    return found


def _certainty(
    unseen: Sequence[tuple[Mapping[str, Signal], Prediction]], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(q,) certainty of the rows with every source, and (k,) how many of them have each label."""
    complete = [(p, p.present.all(axis=1)) for _, p in unseen]
    sure = np.concatenate([certainty(p)[rows] for p, rows in complete])
    decided = np.concatenate([p.decisions[rows] for p, rows in complete])
    kept = _some(np.arange(len(sure)), seed)
    return sure[kept], decided[kept].sum(axis=0).astype(np.int64)


def certainty(prediction: Prediction) -> np.ndarray:
    """(n,) highest probability of a text's classes; multi-label: mean certainty of its labels."""
    p = prediction.probabilities
    if prediction.space.multi_label:
        return np.maximum(p, 1 - p).mean(axis=1)
    return p.max(axis=1)


def disagreement(fusion: FusionModel, signals: Mapping[str, Signal]) -> np.ndarray:
    """(n,) largest difference of a label's probability between two sources, each by itself.

    NaN where fewer than two sources are present.
    """
    alone = [(s.present, fusion.predict_alone(s).probabilities) for s in signals.values()]
    apart = np.full(len(next(iter(signals.values()))), np.nan)
    for i, (present, p) in enumerate(alone):
        for other_present, other in alone[:i]:
            both = present & other_present
            apart[both] = np.fmax(apart[both], np.abs(p - other).max(axis=1)[both])
    return apart
