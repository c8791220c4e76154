"""TF-IDF of words and character n-grams under a logistic head: no model, no download.

Weak from few labels, close to sentence encoders from some thousands; good for code-like texts and
languages that the default encoder does not know. Knows its vocabularies; has no embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labelfusion.config import MLConfig
from labelfusion.encoders import storage
from labelfusion.encoders.head import LogisticHead, fit_head
from labelfusion.errors import InputError
from labelfusion.tasks import task_for
from labelfusion.types import Event, LabelSpace, OnEvent, ignore_event

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

BACKBONE = "tfidf"
# Single characters are words too: digits, and most words of Chinese and Japanese.
_SETTINGS: dict[str, dict[str, object]] = {
    "word": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "character": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}
MAX_FEATURES = 30_000


class TfidfEncoder:
    """See `labelfusion.encoders.base.Encoder`."""

    origin = "TF-IDF (words and characters) + logistic head"

    def __init__(self, config: MLConfig, space: LabelSpace, *, seed: int) -> None:
        self.config, self.space, self.seed = config, space, seed
        self.vectorizers: dict[str, TfidfVectorizer] = {}
        self.head: LogisticHead | None = None
        self._task = task_for(space)

    def fit(
        self, texts: Sequence[str], targets: np.ndarray, on_event: OnEvent = ignore_event
    ) -> None:
        self.vectorizers = _fit_vectorizers(texts)
        features = self._features(texts)
        self.head = fit_head(features, targets, self._task, c=self.config.c, seed=self.seed)
        on_event(Event("ml", "progress", "Fitting TF-IDF", len(texts), len(texts), "texts"))

    def logits(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray:
        head = storage.fitted(self.head)
        if not len(texts):
            return np.empty((0, len(self.space)))
        z = head.logits(self._features(texts), self._task)
        on_event(Event("ml", "progress", "Scoring with TF-IDF", len(texts), len(texts), "texts"))
        return z

    def embed(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> None:  # noqa: ARG002
        return None

    def save(self, folder: Path) -> None:
        details = {name: _terms(vectorizer) for name, vectorizer in self.vectorizers.items()}
        arrays = {f"idf.{name}": v.idf_ for name, v in self.vectorizers.items()}
        head = storage.fitted(self.head)
        stored = storage.Stored(BACKBONE, self.config, self.seed, head, details, arrays)
        storage.write(folder, self.space, stored)

    @classmethod
    def restore(cls, stored: storage.Stored, space: LabelSpace) -> TfidfEncoder:
        encoder = cls(stored.config, space, seed=stored.seed)
        encoder.head = stored.head
        for name, terms in stored.details.items():
            vectorizer = _vectorizer(name, vocabulary=terms)
            vectorizer.idf_ = stored.arrays[f"idf.{name}"]
            encoder.vectorizers[name] = vectorizer
        return encoder

    def _features(self, texts: Sequence[str]) -> csr_matrix:
        from scipy.sparse import csr_matrix, hstack

        blocks = [vectorizer.transform(texts) for vectorizer in self.vectorizers.values()]
        return csr_matrix(hstack(blocks))


def _fit_vectorizers(texts: Sequence[str]) -> dict[str, TfidfVectorizer]:
    # An analyzer that finds nothing has no vocabulary, which scikit-learn refuses: it is left out.
    fitted = {}
    for name in _SETTINGS:
        vectorizer = _vectorizer(name, max_features=MAX_FEATURES)
        analyse = vectorizer.build_analyzer()
        if any(analyse(text) for text in texts):
            fitted[name] = vectorizer.fit(texts)
    if not fitted:
        raise InputError(
            "TF-IDF cannot be trained: no training text has a word or a character",
            found=f"{len(texts)} empty texts",
            remedy="Check the text column",
        )
    return fitted


def _vectorizer(name: str, **settings: object) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, **_SETTINGS[name], **settings)  # pyright: ignore[reportArgumentType]


def _terms(vectorizer: TfidfVectorizer) -> list[str]:
    return list(vectorizer.get_feature_names_out())
