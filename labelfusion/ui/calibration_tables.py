"""What a run says of its calibration, as diagrams' data, tables and sentences.

Reads metrics.json, of older runs too, which lack some parts. Knows neither Streamlit nor Plotly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labelfusion.errors import InputError, did_you_mean
from labelfusion.evaluation.reliability import describe_reliability
from labelfusion.ui.tables import FUSION, metrics_of, sources_of

QUALITY = ("nll", "brier", "ece_classwise", "ece_mass", "ece_smooth")
# What each calibrator does, in words.
CALIBRATORS = {
    "identity": "takes the scores at their word",
    "temperature": "makes all scores sharper or softer by one factor",
    "bias": "adds one offset a label to the factor",
    "matrix": "mixes the scores of all labels, which can correct a label that is often confused",
    "isotonic": "bends each label's scores along a rising staircase",
}


@dataclass(frozen=True)
class Diagram:
    """One reliability diagram: bins as `reliability_bins` makes them, and counts, or None."""

    name: str
    bins: Sequence[Mapping[str, float]]
    histogram: Sequence[int] | None

    @property
    def reading(self) -> str:
        return describe_reliability(self.bins)


def diagrams(report: Mapping[str, Any], system: str, label: str | None) -> list[Diagram]:
    """Before and after calibration for a source; one for the fusion and for older runs.

    `label` is None for all labels together.
    Raises InputError for a system that the run does not have.
    """
    if system not in report["systems"]:
        remedy = did_you_mean(system, list(report["systems"]))
        raise InputError("The run has no system of this name", found=system, remedy=remedy)
    kept = report.get("calibration", {}).get(system, {}).get("reliability")
    if kept is None:
        name = "as it predicts" if system == FUSION else "after calibration"
        return [_diagram(name, report["systems"][system]["reliability"], label)]
    return [
        _diagram(name, kept[when], label)
        for when, name in (("before", "before calibration"), ("after", "after calibration"))
    ]


def _diagram(name: str, kept: Mapping[str, Any], label: str | None) -> Diagram:
    counts = kept.get("histogram")
    if label is None:
        return Diagram(name, kept["overall"], counts and counts["overall"])
    return Diagram(name, kept["labels"].get(label, []), counts and counts["labels"].get(label))


def quality_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """One row a source and stage, then the fusion: system, stage and the metrics of QUALITY."""
    rows = []
    for name in sources_of(report):
        entry = report.get("calibration", {}).get(name)
        stages = {"before": entry["before"], "after": entry["after"]} if entry else {}
        rows += [{"system": name, "stage": when} | _quality(v) for when, v in stages.items()]
    fused = report["systems"][FUSION]["metrics"]
    rows.append({"system": FUSION, "stage": "fused"} | _quality(fused))
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _quality(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: values.get(name) for name in QUALITY}


def quality_names(report: Mapping[str, Any]) -> dict[str, str]:
    """What the columns of `quality_table` are called."""
    return {metric.key: metric.name for metric in metrics_of(report) if metric.key in QUALITY}


def why(report: Mapping[str, Any], source: str) -> list[str]:
    """Which calibrator a source got, why, and what it changed: sentences."""
    entry = report.get("calibration", {}).get(source)
    if not entry:
        return ["This run did not keep which calibrator it chose."]
    chosen = entry["chosen"]
    does = CALIBRATORS.get(chosen, "has no description")
    said = [f"Chosen: {chosen}, which {does}."]
    if entry.get("reason"):
        said.append(f"Why: {entry['reason']}.")
    return said + _changes(entry["before"], entry["after"])


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    pairs = [
        (name, before.get(key), after.get(key))
        for key, name in (("nll", "log loss"), ("brier", "Brier score"))
    ]
    parts = [f"{name} {old:.3f} → {new:.3f}" for name, old, new in pairs if old and new is not None]
    if not parts:
        return []
    worse = any(old is not None and new is not None and new > old for _, old, new in pairs)
    verdict = "it did not help on these texts" if worse else "it helped"
    return [f"On the test texts: {', '.join(parts)}: {verdict}."]


def candidates_table(report: Mapping[str, Any], source: str) -> pd.DataFrame:
    """The calibrators tried for a source by cross-validated log loss, the best first."""
    entry = report.get("calibration", {}).get(source) or {}
    names = {"name": "candidate", "nll": "log loss", "standard_error": "standard error"}
    return pd.DataFrame(entry.get("candidates", [])).rename(columns=names)


def label_table(report: Mapping[str, Any], system: str) -> pd.DataFrame:
    """One row a label, the furthest off first: what was stated and came true, and its reading."""
    rows = []
    for label in report["task"]["labels"]:
        bins = diagrams(report, system, label)[-1].bins
        if bins:
            rows.append({"label": label} | _label_row(bins))
    columns = ["label", "texts with it", "mean stated", "came true", "calibration error", "reading"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("calibration error", ascending=False, ignore_index=True)


def _label_row(bins: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    n = sum(b["count"] for b in bins)
    off = sum(b["count"] * abs(b["observed"] - b["mean_predicted"]) for b in bins)
    return {
        "texts with it": round(sum(b["count"] * b["observed"] for b in bins)),
        "mean stated": sum(b["count"] * b["mean_predicted"] for b in bins) / n,
        "came true": sum(b["count"] * b["observed"] for b in bins) / n,
        "calibration error": off / n,
        "reading": describe_reliability(bins),
    }
