"""Whether a budget that may be too small has been thought about before a run starts.

Words and amounts. Knows no Streamlit; keeps no budget itself: `labelfusion.costs` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Literal

from labelfusion.errors import ConfigError
from labelfusion.ui.costs import NOTHING, money

if TYPE_CHECKING:
    from labelfusion.config import BudgetConfig
    from labelfusion.costing import RunEstimate

CENT = Decimal("0.01")
# What is expected, times this, is enough unless much goes wrong: token counts are estimates, and
# some texts are asked about twice. The most that a run can cost (every text asked about alone, with
# every attempt and the longest answer) is a hundred times that and more: nobody sets it aside.
ROOM = Decimal("1.25")
WHEN_SPENT = {
    "continue": "Go on with the texts that have scores",
    "stop": "Stop, and resume once the budget is raised",
}
LIMITS = {"run_usd": "Limit a run", "month_usd": "Limit a month"}


@dataclass(frozen=True)
class Refusal:
    """Why a run does not start as it is, and the limit that would let it.

    Attributes:
        limit: the limit that is in the way, as the config calls it.
        enough: US dollars, whole cents, with which it no longer is.
    """

    error: ConfigError
    limit: Literal["run_usd", "month_usd"]
    enough: Decimal


def refusal(found: RunEstimate, budget: BudgetConfig, chosen: str | None) -> Refusal | None:
    """None if the budget will likely do, or somebody chose what happens when it is spent.

    Args:
        chosen: a key of WHEN_SPENT, None while nobody has chosen.
    """
    left = found.budget.left
    if chosen is not None or left is None:
        return None
    # An unknown price is refused elsewhere, with its own remedy.
    likely = (found.estimate.expected.usd or NOTHING) * ROOM
    if left >= likely:
        return None
    limit, enough = _raised(budget, left, likely)
    return Refusal(_error(found, left, limit, enough), limit, enough)


def _raised(
    budget: BudgetConfig, left: Decimal, likely: Decimal
) -> tuple[Literal["run_usd", "month_usd"], Decimal]:
    """The limit with the least left, and what it would have to be."""
    run, month = budget.run_usd, budget.month_usd
    # A new run has spent nothing: what is left of its limit is all of it.
    if run is not None and (month is None or Decimal(repr(run)) <= left):
        return "run_usd", _cents(likely)
    return "month_usd", _cents(Decimal(repr(month)) + likely - left)


def _cents(usd: Decimal) -> Decimal:
    return usd.quantize(CENT, rounding=ROUND_CEILING)


def _error(found: RunEstimate, left: Decimal, limit: str, enough: Decimal) -> ConfigError:
    return ConfigError(
        "The budget may be spent before every text has a score",
        expected=f"{money(found.estimate.expected.usd)} and a quarter more for what goes wrong",
        found=f"{money(left)} left",
        remedy=f"Raise “{LIMITS[limit]}” to {money(enough)}, or say what happens when it is spent",
    )
