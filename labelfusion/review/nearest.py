"""The training texts most like a text: what a model has seen when it judged it.

By the run's own embeddings where they are at hand, else by shared words. Knows vectors and texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from labelfusion.config import MLConfig
from labelfusion.encoders.embeddings import shared_embedder
from labelfusion.errors import InputError, ModelError
from labelfusion.review.rows import ReviewRows
from labelfusion.review.words import find_words

if TYPE_CHECKING:
    from labelfusion.runs import Run

MAX_TERMS = 20_000


@dataclass(frozen=True)
class Neighbours:
    """Vectors of unit length of all rows and of which of them are training rows.

    `way` says what nearness means: "embeddings of <model>" or "shared words".
    """

    rows: ReviewRows
    vectors: Any  # (n, d) array or sparse matrix
    way: str

    def of(self, position: int, count: int = 5) -> pd.DataFrame:
        """The training rows nearest to the row at `position`, without itself.

        Returns id, row, gold, similarity (cosine) and text, the nearest first.
        """
        return _nearest(self.rows, self.vectors, self.vectors[[position]], count, position)


def nearest(
    run: Run, rows: ReviewRows, texts: Sequence[str], count: int = 5, cache_dir: Path | None = None
) -> list[pd.DataFrame]:
    """For each text its nearest training rows: id, row, gold, similarity (cosine), text.

    Texts that were never embedded go through the encoder now; an encoder without embeddings, or a
    run without an encoder, is stood in for by shared words.

    Raises:
        InputError: `rows` has no texts.
        ModelError: the encoder cannot be loaded.
    """
    known = _texts(rows)
    encoder = None if run.config.ml.encoder in ("none", "tfidf") else run.model(cache_dir).encoder
    vectors = None if encoder is None else encoder.embed([*known, *texts])
    found = _unit(_tf_idf([*known, *texts])) if vectors is None else _unit_rows(vectors)
    n = len(known)
    return [_nearest(rows, found[:n], found[[n + i]], count, None) for i in range(len(texts))]


def neighbours(run: Run, rows: ReviewRows, cache_dir: Path | None) -> Neighbours:
    """Nearness of the run's own rows, without loading a network: embeddings only if all are kept.

    Raises InputError: `rows` has no texts.
    """
    texts = _texts(rows)
    vectors = _kept_embeddings(run.config.ml, texts, cache_dir)
    if vectors is None:
        return Neighbours(rows, _unit(_tf_idf(texts)), "shared words")
    return Neighbours(rows, vectors, f"embeddings of {run.config.ml.encoder}")


def _texts(rows: ReviewRows) -> tuple[str, ...]:
    if rows.texts is None:
        raise InputError(
            "The run's texts are not at hand",
            expected="the data file that the run was made from",
            remedy="Put the file back where it was",
        )
    return rows.texts


def _kept_embeddings(
    config: MLConfig, texts: Sequence[str], cache_dir: Path | None
) -> np.ndarray | None:
    if config.fine_tune or config.encoder in ("none", "tfidf"):
        return None
    try:
        embedder = shared_embedder(
            config.encoder,
            max_tokens=config.max_tokens,
            batch_size=config.batch_size,
            device=config.device,
            cache_dir=cache_dir,
        )
    except ModelError:
        return None
    return embedder.kept(texts)


def _tf_idf(texts: Sequence[str]) -> Any:
    """Words weighted by log(n / texts that hold them)."""
    words = find_words(texts, 1 if len(texts) < 2 * MAX_TERMS else 2, MAX_TERMS)
    matrix = words.matrix.tocsr().astype(np.float32)
    weight = np.log(len(texts) / np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1))
    return matrix.multiply(weight).tocsr()


def _unit(matrix: Any) -> Any:
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return matrix.multiply(1 / np.where(norm > 0, norm, 1.0)[:, None]).tocsr()


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _nearest(
    rows: ReviewRows, vectors: Any, query: Any, count: int, without: int | None
) -> pd.DataFrame:
    similarity = vectors @ query.T
    similarity = np.asarray(similarity.toarray() if hasattr(similarity, "toarray") else similarity)
    train = np.flatnonzero(rows.split == "train")
    train = train[train != without] if without is not None else train
    found = train[np.argsort(-similarity[train, 0], kind="stable")[:count]]
    return pd.DataFrame(
        {
            "id": rows.ids[found],
            "row": rows.row_numbers[found],
            "gold": rows.gold_names[found],
            "similarity": similarity[found, 0],
            "text": [_texts(rows)[i] for i in found],
        }
    )
