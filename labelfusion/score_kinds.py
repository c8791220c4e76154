"""What kind of numbers a table of scores holds, for the two places where a person has not said.

`create-config` and `fuse` detect, and always say what they took; everything else is told the kind.
"""

from __future__ import annotations

import numpy as np

from labelfusion.types import SignalKind

_ROUNDING = 1e-6  # numbers written with few digits may leave 0..1 by this much
_SUM_ROUNDING = 0.02  # and their sum may miss 1 by this much


def detect_kind(scores: np.ndarray, multi_label: bool) -> tuple[SignalKind, str]:
    """The kind of (n, k) scores and the reason in words. Rows with a NaN are not looked at."""
    rows = scores[~np.isnan(scores).any(axis=1)]
    if not len(rows):
        return "probabilities", "there is no score"
    if np.isin(rows, (0.0, 1.0)).all():
        return "hard", "every score is 0 or 1"
    if (rows < -_ROUNDING).any() or (rows > 1 + _ROUNDING).any():
        return "logits", f"scores go from {rows.min():.3g} to {rows.max():.3g}"
    if multi_label:
        return "probabilities", "scores are from 0 to 1"
    if (np.abs(rows.sum(axis=1) - 1) <= _SUM_ROUNDING).all():
        return "probabilities", "scores are from 0 to 1 and rows sum to 1"
    return "probabilities", "scores are from 0 to 1; rows do not sum to 1 and are scaled to it"
