"""How many texts each label has, as a figure. Knows neither Streamlit nor data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from labelfusion.ui.charts import GREEN, MAX_BARS, Chart, lay_out, shorten

if TYPE_CHECKING:
    import plotly.graph_objects as go


def class_balance(counts: pd.Series) -> Chart:
    """How many texts each label has; `counts` is indexed by label. Draws at most MAX_BARS bars."""
    ordered = counts.sort_values(ascending=False)
    shown = ordered.head(MAX_BARS)
    title = "Texts per label"
    if len(ordered) > len(shown):
        title += f" (the {len(shown)} most frequent of {len(ordered)})"
    figure = _bars(shown, GREEN)
    lay_out(figure, title, "Labelled texts (count)", 0)
    figure.update_layout(height=120 + 24 * len(shown))
    reading = _read_balance(ordered)
    table = ordered.rename("texts").rename_axis("label").reset_index()
    return Chart(figure, title, reading, f"Bar chart of texts per label. {reading}", table)


def _bars(values: pd.Series, colour: str) -> go.Figure:
    import plotly.graph_objects as go

    names = [shorten(str(name)) for name in values.index]
    positions = list(range(len(values)))
    bars = go.Bar(
        x=values.to_numpy(), y=positions, orientation="h", marker_color=colour, customdata=names
    )
    figure = go.Figure(bars)
    figure.update_traces(
        texttemplate="%{x:,}",
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{customdata}: %{x:,}<extra></extra>",
    )
    # Positions, not names: two long names may be the same once shortened.
    figure.update_yaxes(tickmode="array", tickvals=positions, ticktext=names)
    return figure


def _read_balance(ordered: pd.Series) -> str:
    most, least = ordered.index[0], ordered.index[-1]
    if ordered.iloc[-1] == 0:
        empty = int((ordered == 0).sum())
        return f"{empty} of {len(ordered)} labels have no text yet; {most} has {ordered.iloc[0]:,}."
    ratio = ordered.iloc[0] / ordered.iloc[-1]
    return (
        f"{most} is the most frequent with {ordered.iloc[0]:,} texts, {ratio:.1f} times as many as "
        f"{least} ({ordered.iloc[-1]:,})."
    )
