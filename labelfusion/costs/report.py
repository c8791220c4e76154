"""What the ledger says: sums by run, model, day and so on, what the cache saved, and CSV.

Reads the ledger only.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

from labelfusion.costs.ledger import CACHED, COLUMNS, Ledger
from labelfusion.errors import InputError

GroupBy = Literal["run", "model", "day", "month", "source", "provider", "status"]


@dataclass(frozen=True)
class CostLine:
    """The requests of one group.

    Attributes:
        texts: texts asked about, those asked again included.
        usd: sum over requests whose price is known; `unpriced` counts the others.
        cached_texts: texts answered from the cache.
        saved_usd: an estimate: cached texts times the mean price per text of the same model in the
            whole ledger; None if that model has no priced request.
    """

    group: str
    requests: int
    texts: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    usd: Decimal
    unpriced: int
    mean_latency_s: float
    cached_texts: int
    saved_usd: Decimal | None


def summarise(ledger: Ledger, by: GroupBy, *, run: str | None = None) -> list[CostLine]:
    """One line per value of `by`, sorted by it; of one run or of all. Days and months are UTC.

    Raises InputError for an unknown `by`.
    """
    if by not in get_args(GroupBy):
        raise InputError(
            f"Costs cannot be grouped by {by!r}", expected=f"one of {', '.join(get_args(GroupBy))}"
        )
    rows = list(ledger.rows())
    per_text = _price_per_text(rows)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if run is None or row["run"] == run:
            groups[_group(row, by)].append(row)
    return [_line(group, groups[group], per_text) for group in sorted(groups)]


def total(ledger: Ledger, *, run: str | None = None) -> CostLine:
    """All requests of one run, or of all runs, as one line."""
    rows = list(ledger.rows())
    chosen = [row for row in rows if run is None or row["run"] == run]
    return _line("total", chosen, _price_per_text(rows))


def _group(row: dict[str, Any], by: str) -> str:
    lengths = {"day": 10, "month": 7}
    return row["time"][: lengths[by]] if by in lengths else row[by]


def _line(group: str, rows: list[dict[str, Any]], per_text: dict[Any, Decimal]) -> CostLine:
    asked = [row for row in rows if row["status"] != CACHED]
    cached = [row for row in rows if row["status"] == CACHED]
    counts = ("texts", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens")
    sums = {name: sum(row[name] for row in asked) for name in counts}
    return CostLine(
        group=group,
        requests=len(asked),
        **sums,
        usd=sum((row["usd"] or Decimal(0) for row in asked), Decimal(0)),
        unpriced=sum(row["usd"] is None for row in asked),
        mean_latency_s=sum(row["latency_s"] for row in asked) / max(len(asked), 1),
        cached_texts=sum(row["texts"] for row in cached),
        saved_usd=_saved(cached, per_text),
    )


def _saved(cached: list[dict[str, Any]], per_text: dict[Any, Decimal]) -> Decimal | None:
    models = {(row["provider"], row["model"]) for row in cached}
    if not models <= per_text.keys():
        return None
    return sum(
        (row["texts"] * per_text[row["provider"], row["model"]] for row in cached), Decimal(0)
    )


def _price_per_text(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Decimal]:
    """Mean US dollars per answered text, failures paid on the way included."""
    usd: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    texts: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        if row["usd"] is None or row["status"] == CACHED:
            continue
        model = (row["provider"], row["model"])
        usd[model] += row["usd"]
        texts[model] += row["texts"] if row["status"] == "ok" else 0
    return {model: usd[model] / count for model, count in texts.items() if count}


def export_csv(ledger: Ledger, path: Path, *, run: str | None = None) -> int:
    """Write the ledger's rows as CSV (an unknown price is an empty cell). Returns how many."""
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for count, row in enumerate(ledger.rows(run=run), start=1):  # noqa: B007
            writer.writerow(row)
    return count
