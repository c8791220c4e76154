"""Texts to unit vectors whose cosine says how alike they are.

A frozen encoder's embeddings have seen no label and no training text, so training texts and new
ones are treated alike. A fine-tuned encoder has moved its training texts apart from all others, and
TF-IDF has no embedding: for these, and without an encoder, hashed character n-grams stand in, which
need no vocabulary and work in any script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from labelfusion.encoders.base import Encoder
from labelfusion.encoders.frozen import FrozenEncoder
from labelfusion.types import OnEvent, ignore_event

FeatureKind = Literal["embedding", "characters"]
HASHED_FEATURES = 2**16


def feature_kind(encoder: Encoder | None) -> FeatureKind:
    """What texts are compared by when `encoder` is the run's."""
    return "embedding" if isinstance(encoder, FrozenEncoder) else "characters"


def written(texts: Sequence[str]) -> list[str]:
    """The texts that are not empty."""
    return [text for text in texts if text.strip()]


def embeddings(
    encoder: Encoder | None, texts: Sequence[str], on_event: OnEvent = ignore_event
) -> np.ndarray:
    """(n, d) unit vectors. Texts the encoder has scored come from its cache, not a second pass."""
    assert isinstance(encoder, FrozenEncoder)
    return encoder.embed(texts, on_event)


def character_counts(texts: Sequence[str]) -> Any:
    """Sparse (n, HASHED_FEATURES) log-damped counts of character 3- and 4-grams within words."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 4),
        n_features=HASHED_FEATURES,
        alternate_sign=False,
        norm=None,  # pyright: ignore[reportArgumentType] - its documentation allows None
    )
    counts: Any = vectorizer.transform(texts)
    counts.data = 1 + np.log(counts.data)
    return counts


def rarity(counts: Any) -> np.ndarray:
    """(HASHED_FEATURES,) weight of each n-gram, log(n / documents with it).

    One that no text has weighs as much as one that a single text has: its own n-grams must not make
    a new text look stranger than the same would make a training text look to the others.
    """
    with_it = np.bincount(counts.indices, minlength=HASHED_FEATURES)
    return np.log((1 + counts.shape[0]) / np.maximum(with_it, 1)).astype(np.float32)


def weighted(counts: Any, weights: np.ndarray) -> Any:
    """Sparse unit rows of weighted counts; a text without any n-gram stays 0."""
    from scipy.sparse import csr_matrix
    from sklearn.preprocessing import normalize

    scaled = counts.multiply(weights[None, :])
    return csr_matrix(normalize(csr_matrix(scaled), copy=False), dtype=np.float32)


def cosine_distances(left: Any, right: Any) -> np.ndarray:
    """(n, m) of 1 - cosine for unit rows, dense or sparse; never below 0."""
    similarity = left @ right.T
    dense = similarity if isinstance(similarity, np.ndarray) else similarity.toarray()
    return np.maximum(1.0 - dense.astype(np.float64), 0.0)
