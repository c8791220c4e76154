"""Texts to token ids, each text once: the folds of a cross-fit share what is tokenised.

Knows tokenizers and where a text is cut. Knows no network and no labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

# What is remembered, at 4 bytes a token.
MOST_TOKENS = 20_000_000


class TokenMemo:
    """Token ids of the tokenizer of one model (`digest`), cut at one limit, by text.

    Attributes:
        tokenised: texts that went through the tokenizer, so far.
    """

    def __init__(self, digest: str, limit: int) -> None:
        self.digest, self.limit, self.tokenised = digest, limit, 0
        self._ids: dict[str, np.ndarray] = {}
        self._size = 0

    def ids(self, tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, int32, without padding."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._ids]
        fresh = dict(zip(missing, token_ids(tokenizer, missing, self.limit), strict=True))
        self.tokenised += len(missing)
        found = [fresh[text] if text in fresh else self._ids[text] for text in texts]
        self._keep(fresh)
        return found

    def _keep(self, fresh: Mapping[str, np.ndarray]) -> None:
        """Remember these; what there is no room for pushes out all that came before."""
        size = sum(map(len, fresh.values()))
        if self._size + size > MOST_TOKENS:
            self._ids, self._size = {}, 0
        if size <= MOST_TOKENS:
            self._ids |= fresh
            self._size += size


@lru_cache(maxsize=2)
def shared_memo(digest: str, limit: int) -> TokenMemo:
    """The memo that all encoders of this process share whose model has this digest."""
    return TokenMemo(digest, limit)


def token_limit(tokenizer: Any, network: Any, max_tokens: int) -> int:
    """Where a text is cut: `max_tokens`, or less if the model has fewer positions."""
    positions = getattr(network.config, "max_position_embeddings", None) or max_tokens
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if padding is not None:
        # RoBERTa and its kin count positions from behind the padding's own.
        positions -= padding + 1
    return min(max_tokens, tokenizer.model_max_length, positions)


def token_ids(tokenizer: Any, texts: Iterable[str], limit: int) -> list[np.ndarray]:
    """Token ids of each text, int32, cut at `limit`, without padding."""
    # A lone surrogate, as damaged files have them, is not UTF-8 and stops a tokenizer.
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    if not clean:
        return []
    found = tokenizer(clean, truncation=True, max_length=limit, padding=False)["input_ids"]
    return [np.array(ids, dtype=np.int32) for ids in found]


def padded(rows: Sequence[np.ndarray], pad: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, longest) token ids, and 1 where they are not padding."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad or 0, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)
