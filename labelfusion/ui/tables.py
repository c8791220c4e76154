"""What a stored run says, as tables and sentences ready to be shown.

Reads the dictionaries and tables of a run folder. Knows neither Streamlit nor where they came from.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from labelfusion.files import spreadsheet_safe
from labelfusion.types import Dataset, Split

FUSION = "fusion"
EVERY_LABEL = "(all labels)"


@dataclass(frozen=True)
class Metric:
    """How a metric of metrics.json is named and read."""

    key: str
    name: str
    share: bool
    higher_is_better: bool

    @property
    def axis(self) -> str:
        return f"{self.name} (%)" if self.share else self.name

    def show(self, value: float | None) -> str:
        """`value` for people: a share as per cent, a loss with three digits."""
        if value is None or not np.isfinite(value):
            return "–"
        return f"{100 * value:.1f} %" if self.share else f"{value:.3f}"

    def show_difference(self, value: float) -> str:
        return f"{100 * value:+.1f} points" if self.share else f"{value:+.3f}"


_METRICS = (
    Metric("accuracy", "Accuracy", True, True),
    Metric("macro_f1", "Macro-F1", True, True),
    Metric("micro_f1", "Micro-F1", True, True),
    Metric("weighted_f1", "Weighted F1", True, True),
    Metric("samples_f1", "Samples F1", True, True),
    Metric("nll", "Log loss (nats per text)", False, False),
    Metric("brier", "Brier score", False, False),
    Metric("ece_classwise", "Calibration error, per label", False, False),
    Metric("ece_mass", "Calibration error, equal mass", False, False),
    Metric("ece_smooth", "Calibration error, smooth", False, False),
)


def metric_called(key: str) -> Metric:
    """The metric with this key in metrics.json."""
    return next(metric for metric in _METRICS if metric.key == key)


def metrics_of(report: Mapping[str, Any]) -> list[Metric]:
    """The metrics a report holds, in a fixed order; multi-label accuracy is exact match."""
    multi_label = report["task"]["multi_label"]
    held = {key for system in report["systems"].values() for key in known_values(system)}
    exact = Metric("accuracy", "Exact match", True, True)
    return [
        exact if multi_label and metric.key == "accuracy" else metric
        for metric in _METRICS
        if metric.key in held
    ]


def known_values(system: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a system that have a value (a hard source has no log loss)."""
    return {key: value for key, value in system["metrics"].items() if value is not None}


def primary_metric(report: Mapping[str, Any]) -> Metric:
    """The metric that the run was chosen by and is headlined with."""
    return next(m for m in metrics_of(report) if m.key == report["task"]["primary"])


def sources_of(report: Mapping[str, Any]) -> list[str]:
    """The systems beside the fusion, in the order of the run."""
    return [name for name in report["systems"] if name != FUSION]


def best_source(report: Mapping[str, Any], metric: Metric) -> str | None:
    """The source with the best value of `metric`, or None where no source has one."""
    values = {
        name: known_values(report["systems"][name]).get(metric.key) for name in sources_of(report)
    }
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return None
    return (max if metric.higher_is_better else min)(known, key=lambda name: known[name])


def metric_table(report: Mapping[str, Any], metric: Metric) -> pd.DataFrame:
    """One row a system, fusion first: system, value, low, high (NaN where unknown)."""
    rows = []
    for name in [FUSION, *sources_of(report)]:
        system = report["systems"][name]
        value = known_values(system).get(metric.key)
        if value is None:
            continue
        low, high = system.get("intervals", {}).get(metric.key) or (np.nan, np.nan)
        rows.append((name, value, low, high))
    return pd.DataFrame(rows, columns=["system", "value", "low", "high"])


def all_metrics_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """One row a metric, one column a system, plus whether higher is better."""
    rows = []
    for metric in metrics_of(report):
        row: dict[str, Any] = {"metric": metric.name}
        for name in [FUSION, *sources_of(report)]:
            row[name] = known_values(report["systems"][name]).get(metric.key)
        rows.append(row | {"better": "higher" if metric.higher_is_better else "lower"})
    return pd.DataFrame(rows)


def per_label_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """One row a label: the fusion's F1, each source's F1, then precision, recall and counts."""
    table = pd.DataFrame(report["systems"][FUSION]["per_label"])
    for name in sources_of(report):
        scores = {row["label"]: row["f1"] for row in report["systems"][name]["per_label"]}
        table[f"f1_{name}"] = [scores.get(label) for label in table["label"]]
    first = ["label", "f1", *(f"f1_{name}" for name in sources_of(report))]
    table = table[[*first, *table.columns.difference(first, sort=False)]]
    return cast("pd.DataFrame", table.dropna(axis="columns", how="all"))


def confusion_table(report: Mapping[str, Any], system: str) -> pd.DataFrame:
    """Multi-class counts, long: gold, predicted, count, share (of the gold label's rows)."""
    labels = report["task"]["labels"]
    matrix = np.asarray(report["systems"][system]["confusion"], dtype=int)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    gold, predicted = np.meshgrid(labels, labels, indexing="ij")
    return pd.DataFrame(
        {
            "gold": gold.ravel(),
            "predicted": predicted.ravel(),
            "count": matrix.ravel(),
            "share": shares.ravel(),
        }
    )


def binary_confusion_table(report: Mapping[str, Any], system: str) -> pd.DataFrame:
    """Multi-label counts: label, found, missed, wrongly given, rightly not given."""
    counts = np.asarray(report["systems"][system]["confusion"], dtype=int)
    return pd.DataFrame(
        {
            "label": report["task"]["labels"],
            "found": counts[:, 3],
            "missed": counts[:, 2],
            "wrongly given": counts[:, 1],
            "rightly not given": counts[:, 0],
        }
    )


def candidates_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """The combiners that were tried, best log loss first: which was chosen, with what weight."""
    choice = report.get("choice") or {}
    table = pd.DataFrame(choice.get("candidates", []))
    if table.empty:
        return table
    table.insert(0, "chosen", table["name"] == choice.get("chosen"))
    if "weight" not in table:  # An older run: only the one chosen is sure to have decided.
        table["weight"] = table["chosen"].astype(float)
    return table.sort_values("log_loss", ignore_index=True)


def weighted_name(candidate: Mapping[Any, Any]) -> str:
    """A candidate's name, with its share of the fusion if it has one."""
    weight = candidate["weight"]
    return f"{candidate['name']} ({weight:.0%} of the fusion)" if weight else candidate["name"]


def compared_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics of two runs as people read them, and the first minus the second.

    `metrics` is indexed by system and metric, with a column a run.
    """
    first, second = metrics.columns
    table = metrics.astype(float).reset_index()
    table["metric"] = [metric_called(key).name for key in table["metric"]]
    table["difference"] = table[first] - table[second]
    return table.dropna(subset=[first, second], how="all")


def comparison_sentences(report: Mapping[str, Any]) -> list[str]:
    """The paired tests in words, one a source."""
    return [row["sentence"] for row in report.get("comparisons", {}).values()]


def tested_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows the run was tested on."""
    return predictions.loc[predictions["split"] == "test", :]


def rows_in_cells(
    predictions: pd.DataFrame, cells: Iterable[tuple[str, str]], labels: list[str]
) -> pd.DataFrame:
    """Test rows whose (gold, prediction) is one of `cells`, the least sure first.

    Columns: id, row, gold, prediction, probability (of the label predicted).
    """
    wanted = set(cells)
    rows = tested_rows(predictions)
    pairs = zip(rows["gold"], rows["prediction"], strict=True)
    rows = rows.loc[[pair in wanted for pair in pairs], :]
    scores = rows[[f"p_{label}" for label in labels]].to_numpy(dtype=float)
    columns = [labels.index(label) for label in rows["prediction"]]
    shown = rows[["id", "row", "gold", "prediction"]].copy()
    shown["probability"] = scores[np.arange(len(rows)), columns]
    return shown.sort_values("probability", ignore_index=True)


def safe_csv(table: pd.DataFrame) -> bytes:
    """UTF-8 CSV that no spreadsheet runs."""
    # All text in quotes: a lone carriage return would otherwise end the row.
    quoting = csv.QUOTE_NONNUMERIC
    return spreadsheet_safe(table).to_csv(index=False, quoting=quoting).encode("utf-8")


def balance(dataset: Dataset) -> pd.Series:
    """Labelled texts per label, indexed by label name."""
    counts = dataset.targets[dataset.labelled].sum(axis=0)
    return pd.Series(counts, index=list(dataset.space.names), dtype=int)


def split_balance(dataset: Dataset, split: Split) -> pd.DataFrame:
    """Texts per label in training and test."""
    return pd.DataFrame(
        {
            "label": list(dataset.space.names),
            "training texts": dataset.targets[split.train].sum(axis=0),
            "test texts": dataset.targets[split.test].sum(axis=0),
        }
    )
