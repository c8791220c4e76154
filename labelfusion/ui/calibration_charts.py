"""Reliability diagrams as figures. Knows neither Streamlit nor run folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from labelfusion.ui.calibration_tables import Diagram
from labelfusion.ui.charts import GREY, Chart, lay_out, source_colours, system_name

if TYPE_CHECKING:
    import plotly.graph_objects as go

UNIT = [-0.03, 1.03]


def reliability(diagram: Diagram, system: str, label: str | None) -> Chart:
    """Stated against observed with consistency band and intervals, and how often what is stated."""
    import plotly.graph_objects as go

    table, figure = pd.DataFrame(list(diagram.bins)), go.Figure()
    colour = source_colours([system])[system]
    _add_band(figure, table)
    _add_points(figure, table, colour)
    title = f"{system_name(system)}, {diagram.name}"
    title += "" if label is None else f": {label}"
    stated = "Stated probability"
    lay_out(figure, title, stated, 0)
    figure.update_layout(height=440)
    figure.update_xaxes(range=UNIT, tickformat=".0%")
    figure.update_yaxes(
        title="Came true (share of texts)", autorange=False, range=UNIT, tickformat=".0%"
    )
    if diagram.histogram:
        _add_histogram(figure, list(diagram.histogram), colour)
    alt = f"Reliability diagram. {diagram.reading}"
    return Chart(figure, title, diagram.reading, alt, table)


def _add_band(figure: go.Figure, table: pd.DataFrame) -> None:
    x = table["mean_predicted"].to_numpy()
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*table["expected_high"], *table["expected_low"][::-1]],
        fill="toself",
        fillcolor="rgba(140, 140, 140, 0.28)",
        line={"width": 0},
        hoverinfo="skip",
        name="Where it would lie were it calibrated",
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash"}, hoverinfo="skip"
    )


def _add_points(figure: go.Figure, table: pd.DataFrame, colour: str) -> None:
    observed = table["observed"]
    figure.add_scatter(
        x=table["mean_predicted"],
        y=observed,
        mode="lines+markers",
        marker={"size": 9, "color": colour},
        line={"color": colour},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": table["observed_high"] - observed,
            "arrayminus": observed - table["observed_low"],
            "thickness": 1.5,
        },
        customdata=table["count"],
        hovertemplate="stated %{x:.1%}, came true %{y:.1%} of %{customdata}<extra></extra>",
    )


def _add_histogram(figure: go.Figure, counts: list[int], colour: str) -> None:
    """Below the diagram, on the same axis of stated probabilities."""
    centres = (np.arange(len(counts)) + 0.5) / len(counts)
    figure.add_bar(
        x=centres,
        y=counts,
        yaxis="y2",
        marker={"color": colour, "opacity": 0.7},
        hovertemplate="%{y:,} about %{x:.1%}<extra></extra>",
    )
    figure.update_layout(
        yaxis={"domain": [0.3, 1]},
        yaxis2={
            "domain": [0, 0.2],
            "title": "Count",
            "anchor": "x",
            "nticks": 3,
            "autorange": True,
        },
        xaxis={"anchor": "y2"},
        bargap=0.05,
    )
