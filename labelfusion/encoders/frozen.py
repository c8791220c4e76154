"""A frozen sentence encoder under a logistic head: strong from few labels, seconds to train.

The default, all-MiniLM-L6-v2, comes with an installed package and needs no download. Knows how the
embedder and the head fit together. Its folder holds the head and the model's name and hash only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelfusion.config import MLConfig
from labelfusion.encoders import storage
from labelfusion.encoders.embeddings import shared_embedder
from labelfusion.encoders.head import LogisticHead, fit_head
from labelfusion.errors import ModelError
from labelfusion.tasks import task_for
from labelfusion.types import LabelSpace, OnEvent, ignore_event

BACKBONE = "frozen"


class FrozenEncoder:
    """See `labelfusion.encoders.base.Encoder`."""

    def __init__(
        self, config: MLConfig, space: LabelSpace, *, seed: int, cache_dir: Path | None
    ) -> None:
        self.config, self.space, self.seed = config, space, seed
        self.embedder = shared_embedder(
            config.encoder,
            max_tokens=config.max_tokens,
            batch_size=config.batch_size,
            device=config.device,
            cache_dir=cache_dir,
        )
        self.head: LogisticHead | None = None
        self._task = task_for(space)

    @property
    def origin(self) -> str:
        return f"{self.embedder.model.name} (frozen) + logistic head"

    def prepare(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> None:
        """Embed `texts` into the cache: the part of fitting that needs no labels."""
        self.embedder.embed(texts, on_event)

    def fit(
        self, texts: Sequence[str], targets: np.ndarray, on_event: OnEvent = ignore_event
    ) -> None:
        features = self.embedder.embed(texts, on_event).astype(float)
        self.head = fit_head(features, targets, self._task, c=self.config.c, seed=self.seed)

    def logits(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray:
        head = storage.fitted(self.head)
        if not len(texts):
            return np.empty((0, len(self.space)))
        return head.logits(self.embedder.embed(texts, on_event).astype(float), self._task)

    def embed(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray:
        return self.embedder.embed(texts, on_event)

    def save(self, folder: Path) -> None:
        model = self.embedder.model
        details = {"model": model.name, "model_digest": model.digest}
        head = storage.fitted(self.head)
        # A relative folder would be looked for elsewhere when loaded from elsewhere.
        config = self.config.model_copy(update={"encoder": model.source})
        stored = storage.Stored(BACKBONE, config, self.seed, head, details, {})
        storage.write(folder, self.space, stored)

    @classmethod
    def restore(
        cls, stored: storage.Stored, space: LabelSpace, cache_dir: Path | None
    ) -> FrozenEncoder:
        """Raises ModelError if the model found now is not the one that was trained with."""
        encoder = cls(stored.config, space, seed=stored.seed, cache_dir=cache_dir)
        model = encoder.embedder.model
        if model.digest != stored.details["model_digest"]:
            raise ModelError(
                f"The model {model.name!r} has changed since the encoder was trained",
                where=str(model.folder),
                expected=f"digest {stored.details['model_digest']}",
                found=f"digest {model.digest}",
                remedy="Put the model that it was trained with back, or train again",
            )
        encoder.head = stored.head
        return encoder
