"""What FusionModel accepts, checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labelfusion.errors import InputError
from labelfusion.types import LabelSpace, Signal

MAX_SOURCES = 4


def named(signals: Mapping[str, Signal] | Sequence[Signal]) -> dict[str, Signal]:
    """Signals by source name. Raises InputError if two have the same."""
    if isinstance(signals, Mapping):
        return dict(signals)
    found = {signal.source: signal for signal in signals}
    if len(found) < len(signals):
        raise InputError("Two signals have the same source name", found=", ".join(found))
    return found


def indicators(targets: Any, k: int) -> np.ndarray:
    """(n, k) int8 from indicators or integer class codes. Raises InputError."""
    y = np.asarray(targets)
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
        if len(y) and (y.min() < 0 or y.max() >= k):
            raise InputError("A class code is out of range", expected=f"0 to {k - 1}")
        y = np.eye(k, dtype=np.int8)[y]
    if y.ndim != 2 or y.shape[1] != k or not np.isin(y, (0, 1)).all():
        raise InputError(
            "The targets do not fit the signals",
            expected=f"(n, {k}) indicators of 0 and 1, or (n,) integer class codes",
            found=f"{y.dtype} of shape {y.shape}",
        )
    return y.astype(np.int8)


def default_space(y: np.ndarray) -> LabelSpace:
    """Labels "0" … "k-1"; multi-class if every row has exactly one."""
    multi_label = bool((y.sum(axis=1) != 1).any())
    return LabelSpace(tuple(str(j) for j in range(y.shape[1])), multi_label)


def check(signals: Mapping[str, Signal], y: np.ndarray, space: LabelSpace) -> None:
    """Raises InputError unless the signals, targets and labels belong together."""
    if not 1 <= len(signals) <= MAX_SOURCES:
        raise InputError(
            "The number of sources is out of range",
            expected=f"1 to {MAX_SOURCES}",
            found=str(len(signals)),
        )
    for signal in signals.values():
        check_shape(signal, len(y), len(space))
    wrong = np.flatnonzero(y.sum(axis=1) != 1)
    if not space.multi_label and len(wrong):
        raise InputError(
            "A multi-class row must have exactly one label",
            where=f"row position {wrong[0]}",
            found=f"{int(y[wrong[0]].sum())} labels",
            remedy="Give a LabelSpace with multi_label=True, or mend the row",
        )


def check_shape(signal: Signal, n: int, k: int) -> None:
    """Raises InputError unless the signal has n rows and k labels."""
    if signal.scores.shape != (n, k):
        raise InputError(
            f"Signal {signal.source!r} has a shape that does not fit",
            expected=f"({n}, {k}): rows, labels",
            found=str(signal.scores.shape),
        )
