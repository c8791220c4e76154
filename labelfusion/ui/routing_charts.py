"""Accuracy against cost, and money by group, as figures. Knows neither Streamlit nor files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from labelfusion.ui.charts import (
    GREEN,
    GREY,
    MAX_BARS,
    ORANGE,
    VERMILION,
    Chart,
    lay_out,
    shorten,
    show_legend,
)
from labelfusion.ui.tables import Metric

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labelfusion.costs import CostLine

POINT_COLUMNS = ["share", "accuracy", "macro_f1", "loss", "lead", "usd_per_1000", "seconds"]


def frontier(
    points: Sequence[Mapping[str, Any]], metric: Metric, chosen: int, saved: int, rows: int
) -> Chart:
    """`metric` of routing out of fold against money, or against the share sent if no price is set.

    Args:
        points: of metrics.json's routing frontier, with usd_per_1000 known for all or for none.
        metric: accuracy or macro_f1.
        chosen, saved: positions of the point looked at and of the one in force.
        rows: labelled texts they were measured on.
    """
    money = points[-1]["usd_per_1000"] is not None
    x = [p["usd_per_1000"] if money else 100 * p["share"] for p in points]
    figure = _frontier_figure(points, metric.key, x)
    _mark(figure, x[saved], points[saved][metric.key], "In force", GREY, "diamond-open")
    _mark(figure, x[chosen], points[chosen][metric.key], "Looked at", VERMILION, "circle")
    title = f"{metric.name} against {'cost' if money else 'texts sent to the LLM'}"
    cost = "Money for 1,000 texts ($)" if money else "Texts sent to the LLM (%)"
    lay_out(figure, title, cost, 0)
    show_legend(figure, 460)
    # The legend takes three lines where the page is narrow.
    figure.update_layout(margin={"t": 108})
    figure.update_yaxes(title=metric.axis, autorange=True)
    reading = read_point(points[chosen], metric, rows)
    alt = f"Curve of {metric.name} over the share of texts sent, with random routing. {reading}"
    return Chart(figure, title, reading, alt, points_table(points))


def _frontier_figure(points: Sequence[Mapping[str, Any]], key: str, x: list[float]) -> go.Figure:
    import plotly.graph_objects as go

    low, high = (np.array([100 * p[f"{key}_interval"][i] for p in points]) for i in (0, 1))
    figure = go.Figure()
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor="rgba(0, 158, 115, 0.18)",
        line={"width": 0},
        name="Interval",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=x,
        y=[100 * p[f"random_{key}"] for p in points],
        name="Same share at random",
        mode="lines",
        line={"color": ORANGE, "dash": "dash"},
        hovertemplate="at random: %{y:.1f} %<extra></extra>",
    )
    figure.add_scatter(
        x=x,
        y=[100 * p[key] for p in points],
        name="Least sure texts first",
        mode="lines+markers",
        marker={"size": 5},
        line={"color": GREEN},
        customdata=[100 * p["share"] for p in points],
        hovertemplate="%{customdata:.0f} % sent: %{y:.1f} %<extra></extra>",
    )
    return figure


def _mark(figure: go.Figure, x: float, share: float, name: str, colour: str, symbol: str) -> None:
    figure.add_scatter(
        x=[x],
        y=[100 * share],
        name=name,
        mode="markers",
        marker={"size": 15, "color": colour, "symbol": symbol, "line": {"width": 3}},
        hovertemplate=f"{name.lower()}: %{{y:.1f}} %<extra></extra>",
    )


def read_point(point: Mapping[str, Any], metric: Metric, rows: int) -> str:
    """One line that says what an operating point buys."""
    value, random = point[metric.key], point[f"random_{metric.key}"]
    low, high = point[f"{metric.key}_interval"]
    return (
        f"Sending {100 * point['share']:.0f} % of the texts: {metric.name.lower()} "
        f"{metric.show(value)} ({metric.show(low)} to {metric.show(high)} on {rows:,} labelled "
        f"texts out of fold), {metric.show_difference(value - random)} against the same share sent "
        "at random."
    )


def points_table(points: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a point; money and seconds are left out where they are unknown."""
    plain = [*POINT_COLUMNS, "random_accuracy", "random_macro_f1", "threshold"]
    rows = []
    for point in points:
        row = {name: point[name] for name in plain}
        for name in ("accuracy", "macro_f1"):
            row[f"{name}_low"], row[f"{name}_high"] = point[f"{name}_interval"]
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def spend_table(lines: Sequence[CostLine], by: str) -> pd.DataFrame:
    """One row a group of the ledger; money in US dollars, missing where no price is known."""
    rows = [
        {
            by: line.group or "(none)",
            "money ($)": float(line.usd) if line.unpriced < max(line.requests, 1) else None,
            "requests": line.requests,
            "texts": line.texts,
            "input tokens": line.input_tokens,
            "cached input tokens": line.cached_input_tokens,
            "output tokens": line.output_tokens,
            "seconds a request": line.mean_latency_s,
            "requests of unknown price": line.unpriced,
            "texts from the cache": line.cached_texts,
            "saved by the cache ($)": None if line.saved_usd is None else float(line.saved_usd),
        }
        for line in lines
    ]
    return pd.DataFrame(rows)


def spend(table: pd.DataFrame, by: str) -> Chart:
    """Money by group: days in order, everything else the dearest first; at most MAX_BARS bars."""
    in_time = by in ("day", "month")
    ordered = table if in_time else table.sort_values("money ($)", ascending=False)
    shown = ordered.tail(MAX_BARS) if in_time else ordered.head(MAX_BARS)
    title = f"Money by {by}"
    if len(table) > len(shown):
        title += f" ({'the last' if in_time else 'the dearest'} {len(shown)} of {len(table)})"
    figure = _money_bars(shown, by, upright=in_time)
    lay_out(figure, title, f"{by.capitalize()} (UTC)" if in_time else "Money ($)", 0)
    if in_time:
        figure.update_layout(height=340)
        figure.update_yaxes(title="Money ($)", autorange=True)
    else:
        figure.update_layout(height=130 + 30 * len(shown))
    reading = _read_spend(table, by)
    return Chart(figure, title, reading, f"Bar chart of money by {by}. {reading}", ordered)


def _money_bars(shown: pd.DataFrame, by: str, *, upright: bool) -> go.Figure:
    import plotly.graph_objects as go

    names, money = [str(name) for name in shown[by]], shown["money ($)"].fillna(0.0)
    if upright:
        figure = go.Figure(go.Bar(x=names, y=money, marker_color=ORANGE))
        return figure.update_xaxes(type="category")
    positions = list(range(len(shown)))
    figure = go.Figure(
        go.Bar(x=money, y=positions, orientation="h", marker_color=ORANGE, customdata=names)
    )
    figure.update_traces(hovertemplate="%{customdata}: $%{x:.4f}<extra></extra>")
    ticks = [shorten(name) for name in names]
    return figure.update_yaxes(tickmode="array", tickvals=positions, ticktext=ticks)


def _read_spend(table: pd.DataFrame, by: str) -> str:
    rows = table.to_dict("records")
    unknown = sum(row["requests of unknown price"] for row in rows)
    also = f" {unknown:,} requests have no known price and are not in it." if unknown else ""
    paid = [row for row in rows if row["money ($)"] and row["money ($)"] > 0]
    if not paid:
        return f"Nothing has been paid.{also}"
    money = sum(row["money ($)"] for row in paid)
    top = max(paid, key=lambda row: row["money ($)"])
    return (
        f"${money:.4f} in all; the most by {by} is {top[by]} with ${top['money ($)']:.4f} "
        f"({100 * top['money ($)'] / money:.0f} %).{also}"
    )
