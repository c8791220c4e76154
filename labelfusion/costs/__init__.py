"""What LLM answers cost: prices, token counts, estimate, budget and ledger.

`Meter` guards the money of a run; `estimate` says what a run will cost before it starts;
`summarise` reads the ledger. Knows no provider's SDK and no prompt.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from labelfusion.config import CostConfig
from labelfusion.costs.budget import (
    CostWarning,
    Meter,
    RequestEstimate,
    Reservation,
    RunSpend,
    check_price,
)
from labelfusion.costs.estimate import Estimate, SourceEstimate, SourcePlan, estimate
from labelfusion.costs.ledger import LEDGER_NAME, Ledger, Spend
from labelfusion.costs.money import format_usd, to_json
from labelfusion.costs.prices import Price, PriceBook, PriceSnapshot, Usage, price_snapshot
from labelfusion.costs.report import CostLine, GroupBy, export_csv, summarise, total
from labelfusion.costs.tokens import TokenCounter

__all__ = [
    "CostLine",
    "CostWarning",
    "Estimate",
    "GroupBy",
    "Ledger",
    "Meter",
    "Price",
    "PriceBook",
    "PriceSnapshot",
    "RequestEstimate",
    "Reservation",
    "RunSpend",
    "SourceEstimate",
    "SourcePlan",
    "Spend",
    "TokenCounter",
    "Usage",
    "check_price",
    "cost_of_run",
    "estimate",
    "export_csv",
    "format_usd",
    "open_ledger",
    "open_meter",
    "price_snapshot",
    "summarise",
    "to_json",
    "total",
]


def open_ledger(workspace: Path) -> Ledger:
    """The ledger that all runs of a workspace share."""
    return Ledger(workspace / LEDGER_NAME)


def cost_of_run(workspace: Path, run: str) -> CostLine:
    """What the ledger of a workspace says of one run."""
    with closing(open_ledger(workspace)) as ledger:
        return total(ledger, run=run)


def open_meter(workspace: Path, run: str, costs: CostConfig) -> Meter:
    """Budget and ledger for the run with id `run`; a resumed run counts on where it was."""
    return Meter(open_ledger(workspace), run, costs)
