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
    """None if the budget is enough in any case, or somebody chose what happens when it is spent.

    Args:
        chosen: a key of WHEN_SPENT, None while nobody has chosen.
    """
    left = found.budget.left
    if (
        chosen is not None
        or left is None
        or found.budget.verdict not in ("may run out", "runs out")
    ):
        return None
    at_most = sum((one.at_most.usd or NOTHING for one in found.estimate.sources), NOTHING)
    limit, enough = _raised(budget, left, at_most)
    return Refusal(_error(found, left, at_most, limit, enough), limit, enough)


def _raised(
    budget: BudgetConfig, left: Decimal, at_most: Decimal
) -> tuple[Literal["run_usd", "month_usd"], Decimal]:
    """The limit with the least left, and what it would have to be."""
    run, month = budget.run_usd, budget.month_usd
    # A new run has spent nothing: what is left of its limit is all of it.
    if run is not None and (month is None or Decimal(repr(run)) <= left):
        return "run_usd", _cents(at_most)
    return "month_usd", _cents(Decimal(repr(month)) + at_most - left)


def _cents(usd: Decimal) -> Decimal:
    return usd.quantize(CENT, rounding=ROUND_CEILING)


def _error(
    found: RunEstimate, left: Decimal, at_most: Decimal, limit: str, enough: Decimal
) -> ConfigError:
    return ConfigError(
        "The budget may be spent before every text has a score",
        expected=f"{money(at_most)}, the most that scoring can cost",
        found=f"{money(left)} left; {money(found.estimate.expected.usd)} is what it will likely be",
        remedy=f"Raise “{LIMITS[limit]}” to {money(enough)}, or say what happens when it is spent",
    )
