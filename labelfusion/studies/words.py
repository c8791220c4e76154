"""Sentences that several studies say of their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.studies.cells import largest

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "nll": "Log-loss (nats)",
    "brier": "Brier score",
    "ece_mass": "Calibration error (ECE)",
}


def best_system(table: pd.DataFrame, metric: str) -> str:
    """Which system has the highest mean at the largest size."""
    best = max(largest(table).to_dict("records"), key=lambda record: record[metric])
    return (
        f"With all {int(best['size'])} labels {best['system']} is highest in "
        f"{METRIC_NAMES[metric].lower()}: {share(best[metric])} ± {share(best[f'{metric}_sd'])} "
        f"over {int(best['seeds'])} seeds."
    )


def gain_sentence(record: Mapping[str, Any], metric: str) -> str:
    """One record of `against_best_source` in words that claim no more than it shows."""
    name, gain = METRIC_NAMES[metric].lower(), record["gain"]
    if not record["gain"] and not record["only_fusion_right"] and not record["only_source_right"]:
        return (
            f"With {record['size']} labels fusion is right where the best single source "
            f"({record['best_source']}) is, and nowhere else."
        )
    return (
        f"With {record['size']} labels fusion is {abs(100 * gain):.1f} points of {name} "
        f"{'below' if gain < 0 else 'above'} the best single source ({record['best_source']}; "
        f"{interval_words(record, 'gain')}), ahead in {record['seeds_ahead']} of "
        f"{record['seeds']} seeds and {points(record['worst_seed'])} in the worst; on the test "
        f"rows of a seed it alone is right on {record['only_fusion_right']:.1f} and the source "
        f"alone on {record['only_source_right']:.1f} (exact McNemar, median p "
        f"{record['mcnemar_p_median']:.2g})."
    )


def interval_words(record: Mapping[str, Any], name: str) -> str:
    """The interval of a difference over seeds, and what it leaves open."""
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    if not np.isfinite(low):
        return "one seed, so no interval"
    also = ", which contains no difference at all" if low <= 0 <= high else ""
    return f"95 % interval over seeds {points(low)} to {points(high)}{also}"


def listed(sizes: Sequence[int]) -> str:
    """Numbers as people say them: "17, 69 and 345"."""
    *first, last = (f"{size:,}" for size in sizes)
    return f"{', '.join(first)} and {last}" if first else last


def points(value: float) -> str:
    """A difference of shares in points."""
    return f"{100 * value:+.1f}"


def share(value: float) -> str:
    """A figure of 0..1 with three digits; "–" where there is none."""
    return f"{value:.3f}" if np.isfinite(value) else "–"
