"""Tables to figures. Each chart carries its title, a one-line reading, alt text and its data.

Knows neither Streamlit nor run folders. Colours are Okabe and Ito's (2008), which stay apart for
colour-blind readers and on light and dark backgrounds; a source has one colour everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from labelfusion.ui import tables
from labelfusion.ui.tables import FUSION, Metric

if TYPE_CHECKING:
    import altair as alt
    import plotly.graph_objects as go

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
VERMILION, SKY, GREY = "#D55E00", "#56B4E9", "#8C8C8C"
_SYSTEM_NAMES = {"ml": "ML encoder", "llm": "LLM", "joint": "Joint model", FUSION: "Fusion"}
SOURCE_COLOURS = {"ml": BLUE, "llm": ORANGE, FUSION: GREEN}
_OTHER_COLOURS = (PURPLE, SKY, VERMILION)

MAX_BARS = 30
MAX_CELLS = 20
MAX_SLANTED = 12
CELL_HEIGHT = 34
# The same as `shorten`, said to Vega.
_CUT = "slice(datum.label, 0, 14) + '…' + slice(datum.label, -9)"
MIDDLE_OUT = f"length(datum.label) > 24 ? {_CUT} : datum.label"
SELECTION = "cell"


@dataclass(frozen=True)
class Chart:
    """A figure with everything that goes with it.

    Attributes:
        figure: a Plotly or Altair figure.
        title: what it shows.
        reading: one line that says what to see in it.
        alt: the same for who cannot see it.
        table: the data drawn.
    """

    figure: go.Figure | alt.TopLevelMixin
    title: str
    reading: str
    alt: str
    table: pd.DataFrame


def source_colours(systems: list[str]) -> dict[str, str]:
    """A colour for each system: the same one for ml, llm and fusion in every figure."""
    others = [name for name in systems if name not in SOURCE_COLOURS]
    extra = {name: _OTHER_COLOURS[i % len(_OTHER_COLOURS)] for i, name in enumerate(others)}
    return {name: SOURCE_COLOURS.get(name) or extra[name] for name in systems}


def markers(systems: list[str]) -> dict[str, dict[str, Any]]:
    """A mark for each system. The fusion's is a ring, which leaves those beneath it to be seen."""
    symbols = ("diamond", "square", "triangle-up", "cross", "x")
    ring = {"symbol": "circle-open", "size": 16, "line": {"width": 3}}
    others = [name for name in systems if name != FUSION]
    shapes = {n: {"symbol": symbols[i % 5], "size": 10} for i, n in enumerate(others)}
    colours = source_colours(systems)
    return {n: (shapes | {FUSION: ring})[n] | {"color": colours[n]} for n in systems}


def system_name(system: str) -> str:
    """A system as people say it."""
    return _SYSTEM_NAMES.get(system, system)


def forest(table: pd.DataFrame, metric: Metric, confidence: float) -> Chart:
    """`metric` of each system with its interval; `table` has system, value, low, high."""
    scale = 100 if metric.share else 1
    names = [system_name(system) for system in table["system"]]
    value, low, high = (table[column].to_numpy() * scale for column in ("value", "low", "high"))
    title = f"{metric.name} of fusion and each source"
    figure = dots(value, low, high, names, list(source_colours(list(table["system"])).values()))
    lay_out(figure, title, f"{metric.axis}, {confidence:.0%} interval", len(table))
    return Chart(figure, title, _read_forest(table, metric), _describe(table, metric), table)


def dots(
    value: np.ndarray, low: np.ndarray, high: np.ndarray, names: list[str], colours: list[str]
) -> go.Figure:
    """A dot a row with its interval, below each other; without one where an end is not finite."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, name in enumerate(names):
        error = {"type": "data", "symmetric": False, "thickness": 3, "width": 6}
        if np.isfinite(low[i]) and np.isfinite(high[i]):
            error |= {"array": [high[i] - value[i]], "arrayminus": [value[i] - low[i]]}
        figure.add_scatter(
            x=[value[i]],
            y=[name],
            mode="markers",
            marker={"size": 14, "color": colours[i]},
            error_x=error | {"color": colours[i]},
            hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
        )
    return figure


def lay_out(figure: go.Figure, title: str, x_title: str, rows: int) -> None:
    """Title, axes and height of a figure whose `rows` lie below each other."""
    figure.update_layout(
        title={"text": title, "font": {"size": 16}},
        showlegend=False,
        height=150 + 46 * rows,
        margin={"l": 8, "r": 16, "t": 48, "b": 48},
    )
    figure.update_xaxes(title=x_title, zeroline=False)
    figure.update_yaxes(autorange="reversed", automargin=True, title=None)


def show_legend(figure: go.Figure, height: int) -> None:
    """A legend in one line between title and figure, where no width cuts it."""
    legend = {
        "orientation": "h",
        "traceorder": "normal",
        "y": 1.0,
        "yanchor": "bottom",
        "x": 0,
        "xanchor": "left",
    }
    title = {"y": 1.0, "yref": "container", "yanchor": "top", "pad": {"t": 12}}
    figure.update_layout(height=height, showlegend=True, legend=legend, margin={"t": 84})
    figure.update_layout(title=title)


def _read_forest(table: pd.DataFrame, metric: Metric) -> str:
    by_system = {row["system"]: row for row in table.to_dict(orient="records")}
    ours = by_system.pop(FUSION, None)
    if ours is None or not by_system:
        return "There is nothing to compare with."
    pick = max if metric.higher_is_better else min
    best = pick(by_system.values(), key=lambda row: row["value"])
    gain = ours["value"] - best["value"]
    better = gain > 0 if metric.higher_is_better else gain < 0
    direction = "better than" if better else "level with" if gain == 0 else "worse than"
    apart = ours["low"] > best["high"] or ours["high"] < best["low"]
    overlap = "the intervals do not overlap" if apart else "the intervals overlap"
    return (
        f"Fusion has {metric.show(ours['value'])}, {metric.show_difference(gain)}, {direction} "
        f"the best source, {system_name(best['system'])}; {overlap}."
    )


def _describe(table: pd.DataFrame, metric: Metric) -> str:
    parts = [
        f"{system_name(row['system'])} {metric.show(row['value'])} "
        f"({metric.show(row['low'])} to {metric.show(row['high'])})"
        for row in table.to_dict(orient="records")
    ]
    return f"Dot plot of {metric.name} with intervals: " + "; ".join(parts)


def shorten(name: str, width: int = 28) -> str:
    """`name`, its middle left out where an axis has no room: names often differ at their ends."""
    tail = width // 3
    return name if len(name) <= width else f"{name[: width - 1 - tail]}…{name[-tail:]}"


def label_f1(table: pd.DataFrame, sources: list[str]) -> Chart:
    """F1 of the fusion and each source per label, the weakest MAX_BARS labels.

    `table` has label, support, f1 and f1_<source>.
    """
    columns = {FUSION: "f1"} | {name: f"f1_{name}" for name in sources}
    shown = table.sort_values("f1").head(MAX_BARS)
    title = "F1 per label"
    if len(table) > len(shown):
        title += f" (the {len(shown)} lowest of {len(table)})"
    figure = _grouped_dots(shown, columns)
    lay_out(figure, title, "F1 on the test texts (%)", 0)
    show_legend(figure, 180 + 26 * len(shown))
    worst = shown.iloc[0]
    reading = (
        f"The weakest label is {worst['label']}: F1 {100 * worst['f1']:.1f} % on "
        f"{int(worst['support']):,} test texts."
    )
    kept = shown.loc[:, ["label", "support", *columns.values()]]
    return Chart(figure, title, reading, f"Dot plot of F1 per label and system. {reading}", kept)


def _grouped_dots(shown: pd.DataFrame, columns: dict[str, str]) -> go.Figure:
    import plotly.graph_objects as go

    figure, positions = go.Figure(), list(range(len(shown)))
    names = [shorten(str(name)) for name in shown["label"]]
    for system, column in columns.items():
        figure.add_scatter(
            x=100 * shown[column].astype(float),
            y=positions,
            name=system_name(system),
            mode="markers",
            marker=markers([*columns])[system],
            customdata=names,
            hovertemplate=f"%{{customdata}}, {system_name(system)}: %{{x:.1f}} %<extra></extra>",
        )
    figure.update_yaxes(tickmode="array", tickvals=positions, ticktext=names)
    return figure


def confusion(table: pd.DataFrame, labels: list[str], system: str) -> Chart:
    """Confusion matrix with counts in its cells; a click selects a cell (parameter SELECTION).

    `table` has gold, predicted, count, share. More than MAX_CELLS labels: the most confused ones.
    """
    shown = most_confused(table, labels)
    cells = table.loc[table["gold"].isin(shown) & table["predicted"].isin(shown), :]
    # Two lines: one would be cut off where the page is narrow.
    lines = [f"Confusion matrix of {_in_sentence(system)} on the test texts (count)"]
    if len(shown) < len(labels):
        lines += [f"The {len(shown)} most confused of {len(labels)} labels"]
    reading = _read_confusion(table)
    alt_text = f"Matrix of true against predicted label. {reading}"
    return Chart(_matrix(cells, shown, lines), ". ".join(lines), reading, alt_text, cells)


def most_confused(table: pd.DataFrame, labels: list[str], limit: int = MAX_CELLS) -> list[str]:
    """The `limit` labels with the most errors in or out, in the given order."""
    if len(labels) <= limit:
        return labels
    errors = dict.fromkeys(labels, 0)
    for row in _wrong_cells(table):
        errors[row["gold"]] += row["count"]
        errors[row["predicted"]] += row["count"]
    kept = set(sorted(labels, key=lambda label: -errors[label])[:limit])
    return [label for label in labels if label in kept]


def _wrong_cells(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The cells off the diagonal that hold a text, the fullest first."""
    off = (table["gold"] != table["predicted"]) & (table["count"] > 0)
    return table.loc[off, :].sort_values("count", ascending=False).to_dict(orient="records")


def _matrix(cells: pd.DataFrame, labels: list[str], title: list[str]) -> alt.TopLevelMixin:
    import altair as alt

    alt.data_transformers.disable_max_rows()
    look = {"labelExpr": MIDDLE_OUT, "labelLimit": 150, "labelOverlap": False}
    # Slanted names of narrow columns would lie over each other.
    angle = -40 if len(labels) <= MAX_SLANTED else -90
    axis, slanted = alt.Axis(**look, labelAngle=0), alt.Axis(**look, labelAngle=angle)
    base = alt.Chart(cells).encode(
        x=alt.X("predicted:N", sort=labels, title="Predicted label", axis=slanted),
        y=alt.Y("gold:N", sort=labels, title="True label", axis=axis),
        tooltip=[
            alt.Tooltip("gold:N", title="True label"),
            alt.Tooltip("predicted:N", title="Predicted label"),
            alt.Tooltip("count:Q", title="Texts", format=","),
            alt.Tooltip("share:Q", title="Share of the true label", format=".1%"),
        ],
    )
    chosen = alt.selection_point(name=SELECTION, fields=["gold", "predicted"], empty=True)
    # A fixed scale from pale to deep: the theme's own turns round in the dark.
    colour = alt.Color(
        "share:Q",
        scale=alt.Scale(domain=[0, 1], range=["#EAF3F9", BLUE]),
        legend=None,
    )
    squares = base.mark_rect(stroke="#888888", strokeWidth=0.5, cursor="pointer").encode(
        color=colour, opacity=alt.condition(chosen, alt.value(1.0), alt.value(0.45))
    )
    numbers = base.mark_text(fontSize=12, cursor="pointer").encode(
        text=alt.Text("count:Q", format=","),
        color=alt.when("datum.count == 0")
        .then(alt.value("#9DB0BE"))
        .when("datum.share > 0.5")
        .then(alt.value("white"))
        .otherwise(alt.value("#1A1A1A")),
    )
    layers = alt.layer(squares.add_params(chosen), numbers)
    return layers.properties(title=title, height={"step": CELL_HEIGHT})


def _read_confusion(table: pd.DataFrame) -> str:
    wrong = _wrong_cells(table)
    if not wrong:
        return "No text is confused."
    worst, total = wrong[0], sum(row["count"] for row in wrong)
    return (
        f"Wrong: {total:,} of {table['count'].sum():,} texts; most often {worst['gold']} is called "
        f"{worst['predicted']} ({worst['count']:,})."
    )


def label_counts(table: pd.DataFrame, system: str) -> Chart:
    """Multi-label: found, missed and wrongly given texts per label, the most errors first."""
    errors = table["missed"] + table["wrongly given"]
    most = np.argsort(-errors.to_numpy(), kind="stable")[:MAX_BARS]
    shown = table.iloc[most]
    title = f"What {_in_sentence(system)} finds and misses per label"
    if len(table) > len(shown):
        title += f" (the {len(shown)} with most errors of {len(table)})"
    figure = _stacked_bars(shown)
    lay_out(figure, title, "Test texts (count)", 0)
    figure.update_layout(barmode="stack")
    show_legend(figure, 190 + 28 * len(shown))
    worst = shown.iloc[0]
    reading = (
        f"Most errors are on {worst['label']}: {worst['missed']:,} missed and "
        f"{worst['wrongly given']:,} wrongly given, {worst['found']:,} found."
    )
    return Chart(figure, title, reading, f"Stacked bars per label. {reading}", table)


def _stacked_bars(shown: pd.DataFrame) -> go.Figure:
    import plotly.graph_objects as go

    figure, positions = go.Figure(), list(range(len(shown)))
    names = [shorten(str(name)) for name in shown["label"]]
    for column, colour in (("found", GREEN), ("missed", ORANGE), ("wrongly given", PURPLE)):
        figure.add_bar(
            x=shown[column],
            y=positions,
            name=column.capitalize(),
            orientation="h",
            marker_color=colour,
            customdata=names,
            hovertemplate=f"%{{customdata}}, {column}: %{{x:,}}<extra></extra>",
        )
    figure.update_yaxes(tickmode="array", tickvals=positions, ticktext=names)
    return figure


def candidates(table: pd.DataFrame) -> Chart:
    """Cross-validated log loss of each combiner with one standard error; those used in green.

    `table` is a `tables.candidates_table`.
    """
    loss = table["log_loss"].to_numpy(dtype=float)
    error = table["standard_error"].to_numpy(dtype=float)
    colours = [GREEN if weight else GREY for weight in table["weight"]]
    names = [tables.weighted_name(row) for row in table.to_dict("records")]
    figure = dots(loss, loss - error, loss + error, names, colours)
    title = "Cross-validated log loss of each candidate, one standard error"
    lay_out(figure, title, "Nats per text; lower is better", 0)
    figure.update_layout(height=150 + 30 * len(table))
    reading = _read_candidates(table)
    return Chart(figure, title, reading, f"Dot plot of log loss per candidate. {reading}", table)


def _read_candidates(table: pd.DataFrame) -> str:
    rows = table.to_dict(orient="records")
    chosen = next((row for row in rows if row["chosen"]), None)
    if chosen is None:
        return "No candidate is marked as chosen."
    lowest = min(rows, key=lambda row: row["log_loss"])
    said = f"{chosen['name']} was chosen with a log loss of {chosen['log_loss']:.3f}"
    if chosen is lowest:
        return f"{said}, the lowest of {len(rows)} candidates."
    return f"{said}; the lowest is {lowest['name']} with {lowest['log_loss']:.3f}."


def _in_sentence(system: str) -> str:
    names: dict[str, Any] = {"ml": "the ML encoder", "llm": "the LLM", FUSION: "the fusion"}
    return names.get(system, system)
