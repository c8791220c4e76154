"""Figures of the Errors page: quadrants, slices, contributions and what each source says.

Tables in, `Chart`s out. Knows neither Streamlit nor run folders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import logit

from labelfusion.review import ReviewRows
from labelfusion.review.rows import ABSENT
from labelfusion.tasks import task_for
from labelfusion.ui.charts import (
    CELL_HEIGHT,
    GREY,
    MAX_BARS,
    SELECTION,
    VERMILION,
    Chart,
    markers,
    shorten,
    show_legend,
    source_colours,
    system_name,
)
from labelfusion.ui.tables import FUSION

if TYPE_CHECKING:
    import altair as alt
    import plotly.graph_objects as go

MAX_LABELS = 12
VERDICTS = ("right", "wrong", ABSENT)


def quadrant_table(rows: ReviewRows, first: str, second: str) -> pd.DataFrame:
    """Texts by whether two sources are right: first, second, texts, fusion_right (0..1)."""
    verdicts = pd.DataFrame({"first": rows.verdicts(first), "second": rows.verdicts(second)})
    grouped = verdicts.assign(right=rows.right).groupby(["first", "second"])["right"]
    return grouped.agg(texts="size", fusion_right="mean").reset_index()


def quadrants(table: pd.DataFrame, first: str, second: str) -> Chart:
    """Which source is right where; a click selects a cell (parameter SELECTION)."""
    title = f"{system_name(first)} against {system_name(second)} (texts)"
    count = {(r["first"], r["second"]): r for r in table.to_dict("records")}
    lone = count.get(("wrong", "right")), count.get(("right", "wrong"))
    only = [int(cell["texts"]) if cell else 0 for cell in lone]
    saved = [f"{cell['fusion_right']:.0%}" if cell else "none" for cell in lone]
    reading = (
        f"Only {system_name(second)} is right on {only[0]:,} texts, of which fusion gets "
        f"{saved[0]}; only {system_name(first)} on {only[1]:,}, of which fusion gets {saved[1]}."
    )
    figure = _quadrant_cells(table, first, second, title)
    return Chart(figure, title, reading, f"Table of four cells. {reading}", table)


def _quadrant_cells(table: pd.DataFrame, first: str, second: str, title: str) -> alt.TopLevelMixin:
    import altair as alt

    cells = table.assign(
        words=[
            f"{row['texts']:,} texts, fusion right on {row['fusion_right']:.0%}"
            for row in table.to_dict("records")
        ]
    )
    x = alt.X("second:N", sort=VERDICTS, title=f"{system_name(second)} is", axis=_plain())
    y = alt.Y("first:N", sort=VERDICTS, title=f"{system_name(first)} is", axis=_plain())
    chosen = alt.selection_point(name=SELECTION, fields=["first", "second"], empty=True)
    # A fixed scale from pale to deep: the theme's own turns round in the dark.
    colour = alt.Color(
        "fusion_right:Q",
        scale=alt.Scale(domain=[0, 1], range=["#FBE9DF", "#BFE3D6"]),
        legend=None,
    )
    base = alt.Chart(cells).encode(x=x, y=y, tooltip=["first", "second", "texts", "fusion_right"])
    squares = base.mark_rect(stroke="#888888", cursor="pointer").encode(
        color=colour, opacity=alt.condition(chosen, alt.value(1.0), alt.value(0.45))
    )
    words = base.mark_text(fontSize=13, cursor="pointer", color="#1A1A1A").encode(text="words:N")
    layers = alt.layer(squares.add_params(chosen), words)
    return layers.properties(title=title, height={"step": 2 * CELL_HEIGHT})


def _plain() -> alt.Axis:
    import altair as alt

    return alt.Axis(labelAngle=0, labelFontSize=13)


def slices(table: pd.DataFrame) -> Chart:
    """How much worse each slice is than the rest, with intervals; at most MAX_BARS of them."""
    import plotly.graph_objects as go

    shown = table.head(MAX_BARS)
    title = "Slices that are worse than the rest"
    if len(table) > len(shown):
        title += f" (the {len(shown)} worst of {len(table)})"
    x, low, high = (100 * shown[name].to_numpy(dtype=float) for name in ("excess", "low", "high"))
    positions = list(range(len(shown)))
    names = [shorten(name, 44) for name in shown["slice"]]
    error = {"type": "data", "symmetric": False, "array": high - x, "arrayminus": x - low}
    figure = go.Figure()
    figure.add_scatter(
        x=x,
        y=positions,
        mode="markers",
        marker={"size": 11, "color": VERMILION},
        error_x=error | {"thickness": 2, "width": 5, "color": VERMILION},
        customdata=names,
        hovertemplate="%{customdata}: %{x:+.1f} points<extra></extra>",
    )
    figure.update_yaxes(tickmode="array", tickvals=positions, ticktext=names)
    _frame(figure, title, "Errors above the rest (points), interval", 150 + 30 * len(shown))
    worst = shown.iloc[0]
    reading = (
        f"Worst: {worst['slice']}. Fusion is wrong on {worst['error']:.1%} of its "
        f"{worst['rows']:,} texts, and on {worst['rest_error']:.1%} of the others."
    )
    return Chart(figure, title, reading, f"Dot plot with intervals. {reading}", table)


def contribution_table(rows: ReviewRows, position: int, label: str) -> pd.DataFrame:
    """What adds up to the fusion's log-odds of a label: part, log_odds, start, end.

    The prior, each source's Shapley value, and the fusion, which is their sum.
    """
    assert rows.contributions is not None
    j = rows.space.index(label)
    p = np.clip(rows.probabilities[position], 1e-12, 1 - 1e-12)
    evidence = logit(p) if rows.space.multi_label else np.log(p)
    fused = float(task_for(rows.space).log_odds(evidence)[j])
    shares = rows.contributions[position, :, j]
    values = np.array([fused - shares.sum(), *shares])
    ends = values.cumsum()
    return pd.DataFrame(
        {
            "part": ["prior", *rows.sources, FUSION],
            "log_odds": [*values, fused],
            "start": [0.0, *ends[:-1], 0.0],
            "end": [*ends, fused],
        }
    )


def contributions(table: pd.DataFrame, label: str) -> Chart:
    """Bars that begin where the one before ends, from the prior to the fusion."""
    import plotly.graph_objects as go

    parts = table["part"].tolist()
    colours = {"prior": GREY} | source_colours([p for p in parts if p != "prior"])
    names = ["Prior" if part == "prior" else system_name(part) for part in parts]
    figure = go.Figure(
        go.Bar(
            x=table["end"] - table["start"],
            base=table["start"],
            y=names,
            orientation="h",
            marker_color=[colours[part] for part in parts],
            text=[f"{value:+.2f}" for value in table["log_odds"]],
            textposition="auto",
            cliponaxis=False,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    title = f"What speaks for “{shorten(label)}”"
    _frame(figure, title, "Log-odds of the label", 160 + 42 * len(table))
    told = [f"{name} {value:+.2f}" for name, value in zip(names, table["log_odds"], strict=True)]
    reading = f"{', '.join(told[:-1])}: together {told[-1]}."
    return Chart(figure, title, reading, f"Bars that add up. {reading}", table)


def probability_table(rows: ReviewRows, position: int) -> pd.DataFrame:
    """What each source says of a row, the likeliest labels first: label, gold, fusion, <source>…

    Probabilities 0..1, NaN where a source has no answer; at most MAX_LABELS labels, the row's own
    labels always among them.
    """
    order = np.lexsort((-rows.probabilities[position], ~rows.gold[position]))
    own = int(rows.gold[position].sum())
    kept = order[: max(MAX_LABELS, own)]
    kept = kept[np.argsort(-rows.probabilities[position, kept], kind="stable")]
    table = pd.DataFrame(
        {
            "label": np.array(rows.space.names, dtype=object)[kept],
            "gold": rows.gold[position, kept],
            FUSION: rows.probabilities[position, kept],
        }
    )
    for source, answer in rows.answers.items():
        there = rows.answered(source)[position]
        table[source] = answer.probabilities[position, kept] if there else np.nan
    return table


def probabilities(table: pd.DataFrame) -> Chart:
    """Dots of each source's probabilities; `table` is a `probability_table`."""
    import plotly.graph_objects as go

    systems = [name for name in table.columns if name not in ("label", "gold")]
    positions = list(range(len(table)))
    figure = go.Figure()
    for system in systems:
        figure.add_scatter(
            x=100 * table[system],
            y=positions,
            name=system_name(system),
            mode="markers",
            marker=markers(systems)[system],
            hovertemplate=f"{system_name(system)}: %{{x:.1f}} %<extra></extra>",
        )
    marks = ["● " if gold else "" for gold in table["gold"]]
    names = [mark + shorten(name) for mark, name in zip(marks, table["label"], strict=True)]
    figure.update_yaxes(tickmode="array", tickvals=positions, ticktext=names)
    title = "What each source says"
    height = 190 + 28 * len(table)
    _frame(figure, title, "Probability (%)", height)
    show_legend(figure, height)
    figure.update_xaxes(range=[-2, 102])
    told = "; ".join(f"{system_name(s)}: {_likeliest(table, s)}" for s in systems)
    reading = f"Likeliest label by {told}. ● is the label in the data."
    return Chart(figure, title, reading, f"Dot plot of probabilities per label. {reading}", table)


def _likeliest(table: pd.DataFrame, system: str) -> str:
    values = table[system].to_numpy(dtype=float)
    return "no answer" if np.isnan(values).all() else str(table["label"].iloc[np.nanargmax(values)])


def _frame(figure: go.Figure, title: str, x_title: str, height: int) -> None:
    figure.update_layout(
        title={"text": title, "font": {"size": 16}},
        showlegend=False,
        height=height,
        margin={"l": 8, "r": 16, "t": 48, "b": 48},
    )
    figure.update_xaxes(title=x_title, zeroline=True)
    figure.update_yaxes(autorange="reversed", automargin=True, title=None)
