"""A routing threshold with a guarantee: learn-then-test on labelled rows.

Knows margins and what each row loses when it is not sent. Does not know sources or policies.

MAPIE's risk controllers bound a risk of one estimator's own predictions (precision, recall,
accuracy). The loss here is paired, between two systems, and an exact test of it is a binomial tail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr

from labelfusion.evaluation.frontier import SEND_ALL, SEND_NONE

# Fixed before any row is seen, as a fixed sequence has to be: probabilities of the given label
# evenly spaced in log-odds, from .9997 to one half, and at last sending nothing at all.
THRESHOLDS = np.append(np.tanh(np.linspace(8, 0, 81) / 2), SEND_NONE)


@dataclass(frozen=True)
class Certificate:
    """What could be guaranteed.

    Attributes:
        threshold: the smallest certified one, or SEND_ALL if none was.
        share: of the rows that it sends.
        harmed: share of the rows that full fusion decides rightly and the routed ones wrongly.
        p_value: of the last certified threshold, or of the first one that failed if none was.
        rows: labelled rows the test had.
        rows_needed: about how many it would take to certify sending less than everything; None if
            something is certified, or if the losses seen leave no number that would do.
        reason: in words.
    """

    threshold: float
    share: float
    harmed: float
    p_value: float
    rows: int
    tolerance: float
    alpha: float
    rows_needed: int | None
    reason: str

    @property
    def certified(self) -> bool:
        return self.threshold < SEND_ALL

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` of it gives an equal certificate."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        return cls(**values)


def certify(margin: np.ndarray, loss: np.ndarray, *, tolerance: float, alpha: float) -> Certificate:
    """The least sending that is within `tolerance` of full fusion with confidence 1 - alpha.

    Learn-then-test with fixed-sequence testing (Angelopoulos, Bates, Candès, Jordan & Lei 2021,
    "Learn then Test", section 2.3): thresholds fall from one that sends all but the surest rows,
    each is tested at level alpha, and the first that is not rejected ends it. The null hypothesis
    is that more than `tolerance` of all texts are harmed: not sent, and decided wrongly where full
    fusion is right. That is 0 or 1 a row, so the exact binomial tail is its p-value; it is at
    least the net loss of accuracy, which is therefore certified too.

    The guarantee is for rows that the two systems were not fitted on, drawn like those to come.

    Args:
        margin: (n,) of the cheap prediction.
        loss: (n,) 1, 0 or -1, see `Routable.losses`.
        tolerance: 0..1, of accuracy.
        alpha: probability that the statement is wrong.
    """
    n = len(margin)
    harmed = np.array([int(((loss > 0) & (margin >= t)).sum()) for t in THRESHOLDS])
    p_values = bdtr(harmed, n, tolerance) if n else np.ones(len(THRESHOLDS))
    passed = int(np.cumprod(p_values <= alpha).sum())
    last = max(passed - 1, 0)
    threshold = float(THRESHOLDS[last]) if passed else SEND_ALL
    rate = harmed[last] / n if n else 0.0
    needed = None if passed else rows_needed(rate, tolerance, alpha)
    return Certificate(
        threshold,
        share=float((margin < threshold).mean()) if n else 1.0,
        harmed=rate if passed else 0.0,
        p_value=float(p_values[last]),
        rows=n,
        tolerance=tolerance,
        alpha=alpha,
        rows_needed=needed,
        reason=_reason(n, rate, tolerance, alpha, needed, passed > 0),
    )


def rows_needed(rate: float, tolerance: float, alpha: float) -> int | None:
    """About how many rows certify `tolerance` if a share `rate` of them is harmed; None if none do.

    With no harm at all, (1 - tolerance)^n <= alpha.
    """
    if rate >= tolerance:
        return None
    n = math.ceil(math.log(alpha) / math.log1p(-tolerance))
    while bdtr(math.ceil(rate * n), n, tolerance) > alpha:
        n = math.ceil(1.05 * n)
    return n


def _reason(
    n: int, rate: float, tolerance: float, alpha: float, needed: int | None, certified: bool
) -> str:
    confidence = f"{100 * (1 - alpha):g} % confidence"
    if certified:
        return (
            f"Certified on {n:,} labelled texts with {confidence}: at most {100 * tolerance:g} % "
            f"of all texts are decided wrongly that full fusion decides rightly"
        )
    if needed is None:
        return (
            f"Nothing is certified: of {n:,} labelled texts {100 * rate:.2g} % are harmed even "
            f"when only the surest are not sent, and {100 * tolerance:g} % are allowed"
        )
    return (
        f"Nothing is certified: {n:,} labelled texts are too few for {100 * tolerance:g} points at "
        f"{confidence}; about {needed:,} would do if they are like these"
    )
