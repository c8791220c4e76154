"""What an encoder is, and how its signal for labelled rows is made without looking at them.

Knows the protocol and cross-fitting. Knows no backbone: those are one file each beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from labelfusion.errors import InputError
from labelfusion.types import Event, OnEvent, Signal, ignore_event


class Encoder(Protocol):
    """A text classifier that is trained on the labelled rows.

    `fit` starts afresh: nothing of an earlier fit may remain. `logits` are (n, k) in the order of
    the LabelSpace, finite for every label, also for one that no training row had.
    """

    @property
    def origin(self) -> str: ...

    def fit(
        self, texts: Sequence[str], targets: np.ndarray, on_event: OnEvent = ignore_event
    ) -> None: ...

    def logits(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray: ...

    def embed(
        self, texts: Sequence[str], on_event: OnEvent = ignore_event
    ) -> np.ndarray | None: ...

    def save(self, folder: Path) -> None: ...


@runtime_checkable
class Prepares(Protocol):
    """An encoder part of whose work needs no label, so that all folds can share it."""

    def prepare(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> None: ...


def cross_fit(
    make: Callable[[], Encoder],
    texts: Sequence[str],
    targets: np.ndarray,
    folds: np.ndarray,
    on_event: OnEvent = ignore_event,
) -> Signal:
    """Out-of-fold logits: each row is scored by an encoder that was fitted on the other folds.

    Args:
        make: Gives a new, unfitted encoder; it is called once a fold, so that nothing is carried
            from one fold to the next.
        texts: n strings.
        targets: (n, k) indicators.
        folds: (n,) fold number of each row, at least two different ones.
        on_event: Told of the label-free work and of each fold done, in texts.

    Returns:
        Signal "ml" of kind "logits", every row present.

    Raises:
        InputError: the lengths differ, or there is one fold only.
    """
    numbers = _fold_numbers(texts, targets, folds)
    encoder = make()
    if isinstance(encoder, Prepares):
        encoder.prepare(texts, on_event)
    scores = np.full(targets.shape, np.nan)
    for i, number in enumerate(numbers, start=1):
        held_out = folds == number
        told = _prefixed(on_event, f"Fold {i} of {len(numbers)}: ")
        encoder = make()
        encoder.fit(_take(texts, ~held_out), targets[~held_out], told)
        scores[held_out] = encoder.logits(_take(texts, held_out), told)
        done = int(np.isin(folds, numbers[:i]).sum())
        on_event(Event("ml", "progress", "Scored out of fold", done, len(texts), "texts"))
    return Signal("ml", scores, "logits", np.ones(len(texts), dtype=bool), encoder.origin)


def _prefixed(on_event: OnEvent, prefix: str) -> OnEvent:
    return lambda event: on_event(replace(event, message=prefix + event.message))


def _fold_numbers(texts: Sequence[str], targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    if not len(texts) == len(targets) == len(folds):
        raise InputError(
            "Texts, targets and folds differ in length",
            found=f"{len(texts)}, {len(targets)} and {len(folds)}",
        )
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise InputError(
            "Cross-fitting needs rows in at least two folds",
            found=f"{len(texts)} rows in {len(numbers)} fold(s)",
            remedy="Label more rows",
        )
    return numbers


def _take(texts: Sequence[str], chosen: np.ndarray) -> list[str]:
    return [text for text, wanted in zip(texts, chosen, strict=True) if wanted]
