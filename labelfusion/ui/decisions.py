"""The predicted rows of a run as arrays: what was stated, what is right, what a threshold changes.

Reads predictions.parquet's table and metrics.json. Knows neither Streamlit nor files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from labelfusion.evaluation.curves import precision_recall, roc
from labelfusion.evaluation.metrics import LabelCounts, exact_match
from labelfusion.fusion.decisions import DecisionRule
from labelfusion.tasks import MultiLabel
from labelfusion.types import LABEL_SEPARATOR
from labelfusion.ui.tables import FUSION, sources_of

THRESHOLDS = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True)
class Rows:
    """n rows of one split.

    Attributes:
        targets, decisions: (n, k) bool, what is right and what the run decided.
        probabilities: (n, k), fused.
        whole: (n,) bool, rows for which every source answered, so that the fusion's rule decided.
    """

    labels: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    decisions: np.ndarray
    whole: np.ndarray

    def pairs(self, label: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes and scores of one label; of all labels together for None."""
        if label is None:
            return self.targets.ravel(), self.probabilities.ravel()
        j = self.labels.index(label)
        return self.targets[:, j], self.probabilities[:, j]

    def decided(self, rule: DecisionRule) -> np.ndarray:
        """(n, k) bool by another rule; rows that lack a source keep their own decision."""
        p = np.clip(self.probabilities, 1e-12, 1 - 1e-12)
        return np.where(self.whole[:, None], rule.decide(logit(p), MultiLabel()), self.decisions)


def rows_of(predictions: pd.DataFrame, report: Mapping[str, Any], split: str) -> Rows:
    """The rows of a split: "train" (out of fold) or "test"."""
    labels = tuple(report["task"]["labels"])
    table = predictions.loc[predictions["split"] == split, :]
    present = table[[f"{name}_present" for name in sources_of(report)]].to_numpy(dtype=bool)
    multi_label = report["task"]["multi_label"]
    return Rows(
        labels,
        _indicators(table["gold"].tolist(), labels, multi_label),
        table[[f"p_{label}" for label in labels]].to_numpy(dtype=float),
        _indicators(table["prediction"].tolist(), labels, multi_label),
        present.all(axis=1),
    )


def _indicators(cells: Sequence[str], labels: Sequence[str], multi_label: bool) -> np.ndarray:
    position = {label: j for j, label in enumerate(labels)}
    out = np.zeros((len(cells), len(labels)), dtype=bool)
    for i, cell in enumerate(cells):
        names = cell.split(LABEL_SEPARATOR) if multi_label else [cell]
        out[i, [position[name] for name in names if name in position]] = True
    return out


def curve_table(rows: Rows) -> pd.DataFrame:
    """One row a label: its texts, average precision and area under the ROC curve."""
    found = []
    for j, label in enumerate(rows.labels):
        pair = rows.targets[:, j], rows.probabilities[:, j]
        areas = [curve and curve.area for curve in (precision_recall(*pair), roc(*pair))]
        found.append((label, int(pair[0].sum()), *areas))
    columns = ["label", "texts", "average precision", "area under ROC"]
    return pd.DataFrame(found, columns=columns)


def operating_points(report: Mapping[str, Any], label: str | None) -> pd.DataFrame:
    """Where each system decides: system, precision, recall, false positive rate."""
    labels = report["task"]["labels"]
    rows = []
    for name in [FUSION, *sources_of(report)]:
        counts = _binary_counts(report, name)
        chosen = counts if label is None else counts[[labels.index(label)]]
        tn, fp, fn, tp = chosen.sum(axis=0)
        rows.append((name, tp / max(tp + fp, 1), tp / max(tp + fn, 1), fp / max(fp + tn, 1)))
    return pd.DataFrame(rows, columns=["system", "precision", "recall", "false positive rate"])


def _binary_counts(report: Mapping[str, Any], system: str) -> np.ndarray:
    """(k, 4): tn, fp, fn, tp of each label."""
    matrix = np.asarray(report["systems"][system]["confusion"], dtype=int)
    if report["task"]["multi_label"]:
        return matrix
    hits = matrix.diagonal()
    alarms, misses = matrix.sum(axis=0) - hits, matrix.sum(axis=1) - hits
    return np.stack([matrix.sum() - hits - alarms - misses, alarms, misses, hits], axis=1)


def figures(rows: Rows, decisions: np.ndarray, label: str) -> dict[str, float]:
    """Precision, recall and F1 of `label`; exact match and macro-F1 of all labels. 0..1."""
    counts, j = LabelCounts.of(rows.targets, decisions), rows.labels.index(label)
    return {
        "precision": float(counts.precision()[j]),
        "recall": float(counts.recall()[j]),
        "f1": float(counts.f1()[j]),
        "exact match": float(exact_match(rows.targets, decisions).mean()),
        "macro-F1": float(counts.macro_f1()),
    }


def threshold_curve(rows: Rows, label: str) -> pd.DataFrame:
    """Precision, recall and F1 of a label by itself at each of THRESHOLDS."""
    right, scores = rows.pairs(label)
    given = scores[:, None] >= THRESHOLDS
    counts = LabelCounts.of(np.repeat(right[:, None], len(THRESHOLDS), axis=1), given)
    return pd.DataFrame(
        {
            "threshold": THRESHOLDS,
            "precision": counts.precision(),
            "recall": counts.recall(),
            "f1": counts.f1(),
        }
    )
