"""What an encoder is, and how its signal for labelled rows is made without looking at them.

Knows the protocol and cross-fitting. Knows no backbone: those are one file each beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from labelfusion.config import MLConfig
from labelfusion.errors import InputError
from labelfusion.spreading import Spread, one_by_one
from labelfusion.types import Event, LabelSpace, OnEvent, Signal, ignore_event

# The fold number of rows that no training leaves out.
NEVER_HELD_OUT = -1
# From so many rows on one hold-out tells as much as a fusion needs, and folds cost trainings.
HOLDOUT_FROM_ROWS = 2000
# A hold-out that takes up more rows for the fusion's sake may become so many times as large.
LARGEST_HOLDOUT = 1.5


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


@runtime_checkable
class ScoresHeldOut(Protocol):
    """An encoder whose training is long: it fits, scores, and remembers the scores by content.

    An interrupted cross-fit then pays for no fold twice, and no fold's weights need be kept.
    """

    def score_held_out(
        self,
        texts: Sequence[str],
        targets: np.ndarray,
        held_out: Sequence[str],
        on_event: OnEvent = ignore_event,
    ) -> np.ndarray: ...


def uses_holdout(config: MLConfig, n_rows: int) -> bool:
    """Whether one hold-out takes the place of folds (see `TrainingConfig.cross_fit`)."""
    asked = config.training.cross_fit
    large = asked == "auto" and n_rows >= HOLDOUT_FROM_ROWS
    return config.fine_tune and (asked == "holdout" or large)


def cross_fit_folds(
    config: MLConfig,
    targets: np.ndarray,
    space: LabelSpace,
    seed: int,
    scored: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) the fold of each labelled row for `cross_fit`.

    With one hold-out that is fold 0; the other rows are NEVER_HELD_OUT.

    Args:
        scored: (n,) bool, the rows that an LLM has scored, if only some are known to be. What a
            fusion of both is worth shows on these alone, so a hold-out takes up more of them.

    Raises InputError for fewer than two rows.
    """
    from labelfusion.data import make_folds

    folds = make_folds(targets, space, config.folds, seed)
    if not uses_holdout(config, len(targets)):
        return folds
    held_out = folds == 0 if scored is None else _with_more_of(scored, folds)
    return np.where(held_out, 0, NEVER_HELD_OUT)


def _with_more_of(scored: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(n,) bool: fold 0, and of other folds the scored rows, as long as that stays small.

    Those of the last fold are never taken, so that a label of scored rows alone is trained on.
    """
    held_out = folds == 0
    largest = LARGEST_HOLDOUT * held_out.sum()
    for fold in range(1, folds.max()):
        more = held_out | (scored & (folds == fold))
        if more.sum() > largest:
            break
        held_out = more
    return held_out


def cross_fit(
    make: Callable[[], Encoder],
    texts: Sequence[str],
    targets: np.ndarray,
    folds: np.ndarray,
    on_event: OnEvent = ignore_event,
    spread: Spread = one_by_one,
) -> Signal:
    """Out-of-fold logits: each row is scored by an encoder that was fitted on the other folds.

    Args:
        make: Gives a new, unfitted encoder; it is called once a fold, so that nothing is carried
            from one fold to the next.
        texts: n strings.
        targets: (n, k) indicators.
        folds: (n,) fold number of each row. Rows that are NEVER_HELD_OUT are trained on for every
            fold and get no score.
        on_event: Told of the label-free work and of each fold done, in texts.
        spread: Has the folds worked on; what they share is made before, in this process.

    Returns:
        Signal "ml" of kind "logits"; every row present that was held out.

    Raises:
        InputError: the lengths differ, or a fold would leave no rows to train on.
    """
    check_folds(texts, targets, folds)
    encoder = make()
    if isinstance(encoder, Prepares):
        encoder.prepare(texts, on_event)

    def score(rest: np.ndarray, held_out: np.ndarray, told: OnEvent) -> np.ndarray:
        return _scored(make(), take(texts, rest), targets[rest], take(texts, held_out), told)

    scores = scores_by_fold(folds, targets.shape[1], score, on_event, spread)
    return Signal("ml", scores, "logits", folds != NEVER_HELD_OUT, encoder.origin)


def scores_by_fold(
    folds: np.ndarray,
    n_columns: int,
    score: Callable[[np.ndarray, np.ndarray, OnEvent], np.ndarray],
    on_event: OnEvent,
    spread: Spread = one_by_one,
) -> np.ndarray:
    """(n, n_columns) scores of each row by what was trained on the other folds; else NaN.

    Args:
        folds: (n,) fold number of each row, or NEVER_HELD_OUT.
        score: given (n,) bool of the rows to train on, (n,) bool of the m rows held out, and whom
            to tell, returns (m, n_columns). It is called once a fold.
        on_event: told of each fold done, in texts.
        spread: has the folds worked on.

    Raises InputError if a fold would leave no rows to train on.
    """
    numbers, scores = _fold_numbers(folds), np.full((len(folds), n_columns), np.nan)
    total, done = int((folds != NEVER_HELD_OUT).sum()), 0
    items = [_Fold(int(number), i, len(numbers)) for i, number in enumerate(numbers, start=1)]

    def scored(fold: _Fold, told: OnEvent) -> np.ndarray:
        held_out = folds == fold.number
        return score(~held_out, held_out, _prefixed(told, f"{fold}: " if fold.of > 1 else ""))

    with closing(spread(scored, items, on_event)) as finished:
        for i, found in finished:
            held_out = folds == items[i].number
            scores[held_out] = found
            done += int(held_out.sum())
            on_event(Event("ml", "progress", "Scored out of fold", done, total, "texts"))
    return scores


@dataclass(frozen=True)
class _Fold:
    """The fold `number`, which is the `i`-th of so many."""

    number: int
    i: int
    of: int

    def __str__(self) -> str:
        return f"Fold {self.i} of {self.of}"


def _scored(
    encoder: Encoder,
    texts: Sequence[str],
    targets: np.ndarray,
    held_out: Sequence[str],
    on_event: OnEvent,
) -> np.ndarray:
    if isinstance(encoder, ScoresHeldOut):
        return encoder.score_held_out(texts, targets, held_out, on_event)
    encoder.fit(texts, targets, on_event)
    return encoder.logits(held_out, on_event)


def _prefixed(on_event: OnEvent, prefix: str) -> OnEvent:
    return lambda event: on_event(replace(event, message=prefix + event.message))


def check_folds(texts: Sequence[str], targets: np.ndarray, folds: np.ndarray) -> None:
    """Raises InputError unless every text has targets and a fold, and no fold is all there is."""
    if not len(texts) == len(targets) == len(folds):
        raise InputError(
            "Texts, targets and folds differ in length",
            found=f"{len(texts)}, {len(targets)} and {len(folds)}",
        )
    _fold_numbers(folds)


def _fold_numbers(folds: np.ndarray) -> np.ndarray:
    numbers = np.unique(folds[folds != NEVER_HELD_OUT])
    if len(numbers) == 0 or (folds == numbers[0]).all():
        raise InputError(
            "Cross-fitting needs rows in at least two folds",
            found=f"{len(folds)} rows in {len(numbers)} fold(s)",
            remedy="Label more rows",
        )
    return numbers


def take(texts: Sequence[str], chosen: np.ndarray) -> list[str]:
    """The texts at which `chosen`, (n,) bool, is true."""
    return [text for text, wanted in zip(texts, chosen, strict=True) if wanted]
