"""Figures of what each source is worth beside the others. Knows neither Streamlit nor folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from labelfusion.evaluation.source_value import overlap_sentence
from labelfusion.ui.charts import GREY, Chart, dots, lay_out, source_colours, system_name
from labelfusion.ui.tables import metric_called


def values_table(values: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a source, most valuable first: value, low and high on the metric's scale; log loss.

    `values` is the `source_values` of metrics.json.
    """
    rows = [
        {
            "source": entry["source"],
            "value": entry["value"],
            "low": entry["interval"][0],
            "high": entry["interval"][1],
            "log_loss_saved": entry["log_loss_saved"],
            "verdict": entry["verdict"],
        }
        for entry in values
    ]
    return pd.DataFrame(rows).astype({"value": float, "low": float, "high": float})


def values(entries: Sequence[Mapping[str, Any]], confidence: float) -> Chart:
    """What the fusion loses without each source, with intervals; a line where that is nothing."""
    table = values_table(entries)
    metric = metric_called(entries[0]["metric"])
    names = [system_name(source) for source in table["source"]]
    colours = list(source_colours(table["source"].tolist()).values())
    value, low, high = (100 * table[column].to_numpy() for column in ("value", "low", "high"))
    figure = dots(value, low, high, names, colours)
    title = "What the fusion loses without each source"
    lay_out(figure, title, f"{metric.name} (points), {confidence:.0%} interval", len(table))
    figure.add_vline(x=0, line={"color": GREY, "dash": "dash"})
    reading = " ".join(entry["sentence"] for entry in entries)
    return Chart(figure, title, reading, f"Dot plot with intervals. {reading}", table)


def overlap_table(overlap: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a pair of sources, from the `overlap` of metrics.json, with its sentence."""
    rows = [
        {
            "pair": " and ".join(system_name(name) for name in entry["sources"]),
            "texts": entry["rows"],
            "agreement": entry["agreement"],
            "error_correlation": entry["error_correlation"],
            "in words": overlap_sentence(entry),
        }
        for entry in overlap
    ]
    return pd.DataFrame(rows)
