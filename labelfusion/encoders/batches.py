"""Which texts go through a network together, and how many when its memory is short.

Knows lengths, positions and errors of memory. Does not know what a network is used for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from labelfusion.errors import ModelError
from labelfusion.types import Event, OnEvent

T = TypeVar("T")

# Batches whose rows are sorted by length together: enough for little padding, and few enough
# that an epoch's batches are not those of the epoch before.
BUCKET_BATCHES = 8
_MEMORY_MESSAGES = ("out of memory", "can't allocate memory")


def bucketed_batches(lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """(n,) lengths -> positions in batches of `size`: like lengths together, in random order.

    The rows are shuffled, sorted by length within buckets of BUCKET_BATCHES batches and cut; then
    the batches are shuffled. The last batch of the rows may be smaller.
    """
    order, bucket = rng.permutation(len(lengths)), size * BUCKET_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(order), bucket):
        part = order[start : start + bucket]
        batches += chunks(part[np.argsort(-lengths[part], kind="stable")], size)
    return [batches[i] for i in rng.permutation(len(batches))]


def chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """`rows` in pieces of at most `size`."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


class MicroBatch:
    """How many texts a network is given at once; halved for good when the memory runs out."""

    def __init__(self, size: int, on_event: OnEvent) -> None:
        self.size, self._on_event = size, on_event

    def run(self, work: Callable[[int], T]) -> T:
        """`work(size)`, begun again with half the size for as long as the memory runs out.

        Raises:
            ModelError: one text alone is too much.
        """
        while True:
            try:
                return work(self.size)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                reason = str(error).strip().splitlines()[0]
            # Out here the traceback, and with it the failed pass' tensors, is gone.
            self._halve(reason)

    def lower(self, size: int) -> None:
        """Go on with `size` texts if that is fewer, as another process ran out of memory."""
        if size < self.size:
            self._set(size, "in another process of the training")

    def _halve(self, reason: str) -> None:
        if self.size == 1:
            raise ModelError(
                "The device has too little memory for one text",
                found=reason,
                remedy="Lower ml.max_tokens, use a smaller model, or set ml.device: cpu",
            )
        free_memory()
        self._set((self.size + 1) // 2, reason)

    def _set(self, size: int, reason: str) -> None:
        before, self.size = self.size, size
        message = (
            f"Out of memory with {before} texts at once: going on with {self.size}, and gradients "
            "of more passes added up"
        )
        data = {"micro_batch": self.size, "before": before, "error": reason}
        self._on_event(Event("ml", "note", message, data=data))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that a device has no memory left (each device has its own words)."""
    import torch

    message = str(error).lower()
    known = any(words in message for words in _MEMORY_MESSAGES)
    return known or isinstance(error, torch.OutOfMemoryError)


def free_memory() -> None:
    """Give back to the device what torch holds of it and nothing uses."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
