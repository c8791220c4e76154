"""Sentence embeddings of a frozen transformer, each text forwarded once.

Knows tokenising, batching, pooling and the cache. Does not know labels or heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelfusion.encoders.embedding_cache import ByteCache, open_cache
from labelfusion.encoders.pretrained import (
    Pretrained,
    choose_device,
    find_pretrained,
    load_transformer,
)
from labelfusion.encoders.progress import Progress
from labelfusion.types import OnEvent, ignore_event

if TYPE_CHECKING:
    import torch


class Embedder:
    """Turns texts into L2-normalised float32 vectors: mean over the tokens that are not padding.

    The model is loaded only when a text is not in the cache. Texts are forwarded longest first, in
    batches that are stored whole: a job that was interrupted forms the same batches again for what
    is left, so its vectors are those of a job that was not, bit for bit.

    Attributes:
        model: which transformer.
        forwarded: texts that went through the network, so far.
    """

    def __init__(
        self, model: Pretrained, cache: ByteCache, *, max_tokens: int, batch_size: int, device: str
    ) -> None:
        self.model, self.forwarded = model, 0
        self._cache, self._max_tokens = cache, max_tokens
        self._batch_size, self._device = batch_size, device

    def embed(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray:
        """(n, d) float32, a row a text; progress is told in texts that were not in the cache."""
        keys = [self._key(text) for text in texts]
        found = self._cache.get_many(list(dict.fromkeys(keys)))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            found |= self._forward_all(missing, on_event)
        rows = [np.frombuffer(found[key], dtype=np.float32) for key in keys]
        return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)

    def kept(self, texts: Sequence[str]) -> np.ndarray | None:
        """The vectors as `embed` gives them if all are in the cache, else None; loads no model."""
        keys = [self._key(text) for text in texts]
        wanted = list(dict.fromkeys(keys))
        found = self._cache.get_many(wanted)
        if not texts or len(found) < len(wanted):
            return None
        return np.stack([np.frombuffer(found[key], dtype=np.float32) for key in keys])

    def _key(self, text: str) -> str:
        # A lone surrogate, as damaged files have them, is not UTF-8 but still a text.
        content = text.encode("utf-8", "surrogatepass")
        head = f"{self.model.digest}\0{self._max_tokens}\0".encode()
        return hashlib.sha256(head + content).hexdigest()

    def _forward_all(self, missing: dict[str, str], on_event: OnEvent) -> dict[str, bytes]:
        vectors: dict[str, bytes] = {}
        progress = Progress(on_event, len(missing))
        for batch in self._batches(missing):
            fresh = dict(zip(batch, self._forward(list(batch.values())), strict=True))
            self._cache.put_many(fresh)
            vectors |= fresh
            progress.tell(len(vectors), f"Embedding with {self.model.name}")
        return vectors

    def _batches(self, missing: dict[str, str]) -> Iterator[dict[str, list[int]]]:
        """Token ids by key; longest first, so that a batch pads little and memory peaks at once."""
        tokenizer, network = self._loaded
        ids = token_ids(tokenizer, list(missing.values()), self._limit(tokenizer, network))
        tokens = dict(zip(missing, ids, strict=True))
        order = sorted(tokens, key=lambda key: (-len(tokens[key]), key))
        for start in range(0, len(order), self._batch_size):
            yield {key: tokens[key] for key in order[start : start + self._batch_size]}

    def _forward(self, rows: list[list[int]]) -> list[bytes]:
        import torch

        tokenizer, network = self._loaded
        with torch.inference_mode():
            vectors = pooled(network, rows, tokenizer.pad_token_id).cpu().numpy()
        self.forwarded += len(rows)
        return [vector.tobytes() for vector in vectors]

    def _limit(self, tokenizer: Any, network: Any) -> int:
        return token_limit(tokenizer, network, self._max_tokens)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return load_transformer(self.model, str(choose_device(self._device)))


def token_limit(tokenizer: Any, network: Any, max_tokens: int) -> int:
    """Where a text is cut: `max_tokens`, or less if the model has fewer positions."""
    positions = getattr(network.config, "max_position_embeddings", None) or max_tokens
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if padding is not None:
        # RoBERTa and its kin count positions from behind the padding's own.
        positions -= padding + 1
    return min(max_tokens, tokenizer.model_max_length, positions)


def token_ids(tokenizer: Any, texts: Sequence[str], limit: int) -> list[list[int]]:
    """Token ids of each text, cut at `limit`, without padding."""
    # A lone surrogate, as damaged files have them, is not UTF-8 and stops a tokenizer.
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    if not clean:
        return []
    return tokenizer(clean, truncation=True, max_length=limit, padding=False)["input_ids"]


def pooled(network: Any, rows: Sequence[Sequence[int]], pad: int | None) -> torch.Tensor:
    """(n, d) float32 L2-normalised means over the tokens that are not padding."""
    import torch

    longest, pad = max(map(len, rows)), pad or 0
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    ids, mask = ids.to(network.device), mask.to(network.device)
    hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    means = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
    return torch.nn.functional.normalize(means, dim=1).float()


def shared_embedder(
    encoder: str, *, max_tokens: int, batch_size: int, device: str, cache_dir: Path | None
) -> Embedder:
    """The embedder of these settings; the encoders of all folds get the same one.

    Raises:
        ModelError: see `find_pretrained`.
    """
    model = find_pretrained(encoder, shared_cache(cache_dir))
    return _embedder(model, max_tokens, batch_size, device, cache_dir)


@lru_cache(maxsize=1)
def _embedder(
    model: Pretrained, max_tokens: int, batch_size: int, device: str, cache_dir: Path | None
) -> Embedder:
    cache = open_cache(cache_dir)
    return Embedder(model, cache, max_tokens=max_tokens, batch_size=batch_size, device=device)


@lru_cache(maxsize=8)
def shared_cache(cache_dir: Path | None) -> ByteCache:
    """The cache in `cache_dir` that every encoder of this process uses."""
    return open_cache(cache_dir)
