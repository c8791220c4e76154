"""Sentence embeddings of a frozen transformer, each text forwarded once.

Knows batching, pooling and the cache. Does not know labels or heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelfusion.encoders.batches import MicroBatch
from labelfusion.encoders.embedding_cache import ByteCache, open_cache
from labelfusion.encoders.pretrained import (
    Pretrained,
    choose_device,
    find_pretrained,
    load_transformer,
)
from labelfusion.encoders.progress import Progress
from labelfusion.encoders.tokens import padded, shared_memo, token_limit
from labelfusion.types import OnEvent, ignore_event

if TYPE_CHECKING:
    import torch


class Embedder:
    """Turns texts into L2-normalised float32 vectors: mean over the tokens that are not padding.

    The model is loaded only when a text is not in the cache. Texts are forwarded longest first, in
    batches that are stored whole: a job that was interrupted forms the same batches again for what
    is left, so its vectors are those of a job that was not, bit for bit.

    Args:
        loaded: its tokenizer and network, where somebody has them in memory already.

    Attributes:
        model: which transformer.
        forwarded: texts that went through the network, so far.
    """

    def __init__(
        self,
        model: Pretrained,
        cache: ByteCache,
        *,
        max_tokens: int,
        batch_size: int,
        device: str,
        loaded: tuple[Any, Any] | None = None,
    ) -> None:
        self.model, self.forwarded = model, 0
        self._cache, self._max_tokens = cache, max_tokens
        self._batch_size, self._device = batch_size, device
        self._lent = loaded

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
        """Vectors by key; longest first, so that a batch pads little and memory peaks at once."""
        tokenizer, network = self._loaded
        memo = shared_memo(self.model.digest, token_limit(tokenizer, network, self._max_tokens))
        tokens = dict(zip(missing, memo.ids(tokenizer, list(missing.values())), strict=True))
        left = sorted(tokens, key=lambda key: (-len(tokens[key]), key))
        micro, progress = MicroBatch(self._batch_size, on_event), Progress(on_event, len(left))
        vectors: dict[str, bytes] = {}
        while left:
            fresh = micro.run(lambda n, left=left: self._forward({k: tokens[k] for k in left[:n]}))
            self._cache.put_many(fresh)
            vectors |= fresh
            left = left[len(fresh) :]
            progress.tell(len(vectors), f"Embedding with {self.model.name}")
        return vectors

    def _forward(self, tokens: dict[str, np.ndarray]) -> dict[str, bytes]:
        import torch

        tokenizer, network = self._loaded
        with torch.inference_mode():
            vectors = pooled(network, list(tokens.values()), tokenizer.pad_token_id).cpu().numpy()
        self.forwarded += len(tokens)
        return {key: vector.tobytes() for key, vector in zip(tokens, vectors, strict=True)}

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return self._lent or load_transformer(self.model, str(choose_device(self._device)))


def pooled(network: Any, rows: Sequence[np.ndarray], pad: int | None) -> torch.Tensor:
    """(n, d) float32 L2-normalised means over the tokens that are not padding."""
    import torch

    ids, mask = (torch.from_numpy(part).to(network.device) for part in padded(rows, pad))
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
    cache = shared_cache(cache_dir)
    return Embedder(model, cache, max_tokens=max_tokens, batch_size=batch_size, device=device)


_lent: dict[Path | None, ByteCache] = {}


@lru_cache(maxsize=8)
def shared_cache(cache_dir: Path | None) -> ByteCache:
    """The cache in `cache_dir` that every encoder of this process uses."""
    return _lent.get(cache_dir) or open_cache(cache_dir)


def lend_cache(cache_dir: Path | None, cache: ByteCache) -> None:
    """Let encoders that are made from now on take `cache` for the one in `cache_dir`."""
    _lent[cache_dir] = cache
    shared_cache.cache_clear()
    _embedder.cache_clear()
