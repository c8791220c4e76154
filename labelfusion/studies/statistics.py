"""What several seeds say together: means, intervals, ranks, and fusion against the best source.

Knows frames of cells. Seeds redraw the split of the same rows, so an interval over them speaks of
the draw, not of other data.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from labelfusion.evaluation.comparison import mcnemar_exact
from labelfusion.studies.cells import only
from labelfusion.studies.systems import unpacked

CONFIDENCE = 0.95


def interval(values: np.ndarray) -> tuple[float, float]:
    """Student's t interval of the mean at CONFIDENCE; NaN for fewer than two values."""
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)


def over_seeds(frame: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a group: `seeds`, and `<metric>`, `_sd`, `_low` and `_high` of each metric.

    Groups keep the order in which they first occur. `metrics` that no row has are left out.
    """
    metrics = [metric for metric in metrics if metric in frame]
    records = []
    for _, group in frame.groupby(list(by), sort=False, dropna=False):
        record: dict[str, Any] = {name: group[name].iloc[0] for name in by}
        record["seeds"] = len(group)
        for metric in metrics:
            known = group[metric].dropna().to_numpy(dtype=float)
            low, high = interval(known)
            record[metric] = known.mean() if len(known) else np.nan
            record[f"{metric}_sd"] = known.std(ddof=1) if len(known) > 1 else np.nan
            record[f"{metric}_low"], record[f"{metric}_high"] = low, high
        records.append(record)
    return pd.DataFrame(records)


def mean_ranks(
    frame: pd.DataFrame, system: str, blocks: Sequence[str], metric: str
) -> dict[str, float]:
    """Mean rank over blocks by system, best first; 1 is the highest metric, ties share ranks."""
    ranks = frame.groupby(list(blocks))[metric].rank(ascending=False, method="average")
    by_system: dict[str, list[float]] = {}
    for name, rank in zip(frame[system].tolist(), ranks.tolist(), strict=True):
        by_system.setdefault(name, []).append(rank)
    means = {name: float(np.mean(found)) for name, found in by_system.items()}
    return dict(sorted(means.items(), key=itemgetter(1)))


def against_best_source(
    frame: pd.DataFrame, fusion: str, sources: Sequence[str], metric: str
) -> list[dict[str, Any]]:
    """Fusion against the best single source at each size, paired by seed.

    The best source is the one with the highest mean on the test rows, which is hindsight in its
    favour. The exact McNemar test is made within each seed, whose test rows are independent; those
    of several seeds overlap, so they are not added up.

    Args:
        frame: columns system, size, seed, `metric`, right, test_rows.
    """
    records = []
    sizes: list[int] = sorted(set(frame["size"].tolist()))
    for size in sizes:
        group = only(frame, size=size)
        table = group.pivot(index="seed", columns="system", values=metric)
        best = str(table[list(sources)].mean().idxmax())
        gain = (table[fusion] - table[best]).dropna()
        low, high = interval(gain.to_numpy())
        counts = [_discordant(only(group, seed=seed), fusion, best) for seed in gain.index]
        records.append(
            {
                "size": size,
                "best_source": best,
                "gain": gain.mean(),
                "gain_low": low,
                "gain_high": high,
                "worst_seed": gain.min(),
                "seeds_ahead": int(np.sum(gain.to_numpy() > 0)),
                "seeds": len(gain),
                "only_fusion_right": float(np.mean([c[0] for c in counts])),
                "only_source_right": float(np.mean([c[1] for c in counts])),
                "mcnemar_p_median": float(np.median([mcnemar_exact(*c) for c in counts])),
            }
        )
    return records


def _discordant(group: pd.DataFrame, first: str, second: str) -> tuple[int, int]:
    """Test rows that only `first`, and that only `second`, decides rightly."""
    records = {record["system"]: record for record in group.to_dict("records")}
    pair = (records[name] for name in (first, second))
    a, b = (unpacked(record["right"], record["test_rows"]) for record in pair)
    return int((a & ~b).sum()), int((b & ~a).sum())
