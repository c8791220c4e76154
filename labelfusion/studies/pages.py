"""A study's plots as one page that needs nothing but a browser: zoom, values, series on and off.

Knows plots and Plotly. The still picture of a plot is `svg`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from labelfusion.studies.plots import MARGIN, Plot, Series, figures_span, style

if TYPE_CHECKING:
    import plotly.graph_objects as go

_DASHES = {"": "solid", "6 4": "dash", "2 3": "dot"}
_STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:1000px;margin:24px auto;padding:0 16px;"
    "background:white;color:#222}"
)


def page(title: str, plots: Sequence[Plot], reading: Sequence[str]) -> str:
    """HTML with all plots, Plotly's script inlined once."""
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in reading)]
    for i, plot in enumerate(plots):
        html = figure(plot).to_html(full_html=False, include_plotlyjs=i == 0)
        parts += [html, f"<p>{escape(plot.reading)}</p>"]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def figure(plot: Plot) -> go.Figure:
    """The plot as a Plotly figure."""
    import plotly.graph_objects as go

    found = go.Figure()
    for i, series in enumerate(plot.series):
        found.add_scatter(**(_dots if plot.kind == "dots" else _line)(plot, series, i))
    found.update_layout(
        title=plot.title,
        template="plotly_white",
        height=170 + 30 * len(plot.names) if plot.kind == "dots" else 480,
        showlegend=len(plot.series) > 1,
    )
    found.update_xaxes(title=plot.x_title, automargin=True)
    found.update_yaxes(title=plot.y_title, automargin=True)
    low, high = figures_span(plot)
    shown = [low - MARGIN * (high - low), high + MARGIN * (high - low)]
    if plot.kind == "dots":
        found.update_xaxes(range=shown)
        found.update_yaxes(autorange="reversed", title=None)
    else:
        found.update_yaxes(range=shown)
    if plot.log_x:
        ticks = sorted({x for series in plot.series for x in series.x})
        found.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{t:,g}" for t in ticks])
    return found


def _line(plot: Plot, series: Series, i: int) -> dict[str, Any]:  # noqa: ARG001
    colour, dash = style(series, i)
    return {
        "name": series.name,
        "x": list(series.x),
        "y": list(series.y),
        "mode": "lines+markers",
        "line": {"color": colour, "dash": _DASHES[dash]},
        "error_y": _interval(series, colour),
    }


def _dots(plot: Plot, series: Series, i: int) -> dict[str, Any]:
    colour, _ = style(series, i)
    return {
        "name": series.name,
        "x": list(series.y),
        "y": [plot.names[int(row)] for row in series.x],
        "mode": "markers",
        "marker": {"color": colour, "size": 11},
        "error_x": _interval(series, colour),
    }


def _interval(series: Series, colour: str) -> dict[str, Any]:
    if not series.has_interval:
        return {"visible": False}
    y, low, high = (np.asarray(part, float) for part in (series.y, series.low, series.high))
    ends = {"array": (high - y).tolist(), "arrayminus": (y - low).tolist()}
    return {"type": "data", "symmetric": False, "color": colour, "thickness": 1} | ends
