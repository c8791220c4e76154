"""Runs side by side.

Compares what is stored. Does not fit, and does not test significance (see labelfusion.evaluation).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import pandas as pd

from labelfusion.runs.run import Run


@dataclass(frozen=True)
class Comparison:
    """Tables with one column a run.

    Attributes:
        metrics: index (system, metric).
        config: index dotted key; only the keys that differ. Absent settings are None.
        changed: id, gold and one prediction column a run; only the rows, among those that every
            run predicted, whose predictions are not all equal.
        shared_rows: number of rows that every run predicted.
    """

    metrics: pd.DataFrame
    config: pd.DataFrame
    changed: pd.DataFrame
    shared_rows: int


def compare_runs(runs: list[Run]) -> Comparison:
    """Compare two or more finished runs. Raises RunError if one is not finished or damaged."""
    metrics = pd.DataFrame({run.id: _metric_column(run.metrics) for run in runs})
    metrics.index.names = ["system", "metric"]
    shared = reduce(lambda a, b: a.join(b, how="inner"), [_prediction_column(run) for run in runs])
    ids = [run.id for run in runs]
    differs = shared[ids].ne(shared[ids[0]], axis=0).any(axis=1)
    gold = runs[0].predictions.set_index("id")[["gold"]]
    changed = gold.join(shared[differs], how="right").rename_axis("id").reset_index()
    return Comparison(metrics, _config_differences(runs), changed, len(shared))


def _metric_column(metrics: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    return {
        (system, metric): value
        for system, values in metrics["systems"].items()
        for metric, value in values["metrics"].items()
    }


def _prediction_column(run: Run) -> pd.DataFrame:
    return pd.DataFrame({run.id: run.predictions.set_index("id")["prediction"]})


def _config_differences(runs: list[Run]) -> pd.DataFrame:
    flat = {run.id: flatten(run.config.to_dict()) for run in runs}
    keys = list(dict.fromkeys(key for settings in flat.values() for key in settings))
    rows = {key: {run_id: settings.get(key) for run_id, settings in flat.items()} for key in keys}
    unequal = {key: row for key, row in rows.items() if len({repr(v) for v in row.values()}) > 1}
    table = pd.DataFrame.from_dict(unequal, orient="index", columns=list(flat), dtype=object)
    return table.rename_axis("setting")


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings -> dotted keys; items of a list are keyed by their position."""
    if isinstance(values, list) and values and all(isinstance(item, dict) for item in values):
        values = {str(position): item for position, item in enumerate(values)}
    if not isinstance(values, dict) or (prefix and not values):
        return {prefix: values}
    dotted: dict[str, Any] = {}
    for key, value in values.items():
        dotted |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return dotted
