"""Figures of one text and of contributions over all texts. Knows neither Streamlit nor folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.types import Prediction
from labelfusion.ui.charts import (
    GREY,
    MAX_BARS,
    SOURCE_COLOURS,
    VERMILION,
    Chart,
    lay_out,
    shorten,
    show_legend,
    source_colours,
    system_name,
)
from labelfusion.ui.tables import FUSION

UP, DOWN = SOURCE_COLOURS["ml"], VERMILION
# More would be read by nobody, and all of them are in the table.
LIKELIEST = 12
LOG_ODDS = "Log-odds (0 is even, +2.2 is 90 %)"


def probabilities(systems: Mapping[str, np.ndarray], names: tuple[str, ...]) -> Chart:
    """What each system says of one text: (k,) probabilities by system, the fusion first."""
    import plotly.graph_objects as go

    fused = systems[FUSION]
    order = np.argsort(-fused, kind="stable")[:LIKELIEST]
    title = "Probability of each label"
    if len(order) < len(names):
        title = f"Probability of the {len(order)} likeliest of {len(names)} labels"
    # Positions, not names: two long names may be the same once shortened.
    figure, positions = go.Figure(), list(range(len(order)))
    for system, colour in source_colours(list(systems)).items():
        figure.add_bar(
            x=100 * systems[system][order],
            y=positions,
            name=system_name(system),
            orientation="h",
            marker_color=colour,
        )
    lay_out(figure, title, "Probability (%)", 0)
    show_legend(figure, 160 + 26 * len(order) * max(len(systems) - 1, 1))
    figure.update_layout(barmode="group")
    figure.update_xaxes(range=[0, 100])
    ticks = [shorten(names[j]) for j in order]
    figure.update_yaxes(tickmode="array", tickvals=positions, ticktext=ticks)
    best = int(order[0])
    reading = f"The fusion gives {names[best]} {fused[best]:.1%}."
    others = [
        f"{system_name(system)} says {names[int(p.argmax())]} ({p.max():.1%})"
        for system, p in systems.items()
        if system != FUSION
    ]
    reading = " ".join([reading, *([f"{'; '.join(others)}."] if others else [])])
    table = pd.DataFrame({"label": names} | dict(systems))
    return Chart(figure, title, reading, f"Bar chart. {reading}", table)


def waterfall(prediction: Prediction, prior: np.ndarray, label: str) -> Chart:
    """From the prior of a label to its fused log-odds, a step a source; text 0 of `prediction`."""
    import plotly.graph_objects as go

    assert prediction.contributions is not None
    j = prediction.space.index(label)
    steps = prediction.contributions[0, :, j]
    start, end = float(prior[j]), float(prior[j] + steps.sum())
    sources = [system_name(name) for name in prediction.sources]
    figure = go.Figure(
        go.Waterfall(
            x=["Prior", *sources, "Fused"],
            y=[start, *steps, end],
            measure=["absolute", *["relative"] * len(steps), "total"],
            text=[f"{value:+.2f}" for value in (start, *steps, end)],
            textposition="outside",
            cliponaxis=False,
            increasing={"marker": {"color": UP}},
            decreasing={"marker": {"color": DOWN}},
            totals={"marker": {"color": SOURCE_COLOURS[FUSION]}},
            connector={"line": {"color": GREY}},
        )
    )
    title = f"How {shorten(label)} got its log-odds"
    figure.update_layout(
        title={"text": title, "font": {"size": 16}},
        showlegend=False,
        height=360,
        margin={"l": 8, "r": 16, "t": 64, "b": 48},
    )
    figure.update_yaxes(title=LOG_ODDS, zeroline=True)
    p = prediction.probabilities[0, j]
    added = ", ".join(f"{name} {value:+.2f}" for name, value in zip(sources, steps, strict=True))
    reading = (
        f"From {start:+.2f}, how frequent the label is (the prior): {added}; fused {end:+.2f}, "
        f"which is {p:.1%}."
    )
    table = pd.DataFrame(
        {"step": ["Prior", *sources, "Fused"], "log_odds": [start, *steps.tolist(), end]}
    )
    return Chart(figure, title, reading, f"Waterfall. {reading}", table)


def contributions(part: Mapping[str, Any]) -> Chart:
    """Mean absolute contribution of each source to each label, from metrics.json's part."""
    import plotly.graph_objects as go

    table = contributions_table(part)
    names = list(part["sources"])
    labels = list(dict.fromkeys(table["label"]))
    size = {label: rows["mean_absolute"].sum() for label, rows in table.groupby("label")}
    shown = sorted(labels, key=lambda label: -size[label])[:MAX_BARS]
    figure = go.Figure()
    for name, colour in source_colours(names).items():
        own = table[table["source"] == name].set_index("label")
        figure.add_bar(
            x=[own["mean_absolute"].get(label) for label in shown],
            y=[shorten(label) for label in shown],
            name=system_name(name),
            orientation="h",
            marker_color=colour,
        )
    title = "How much each source moves each label"
    figure.update_layout(
        title={"text": title, "font": {"size": 16}},
        barmode="group",
        height=170 + 28 * len(shown) * max(len(names), 1) // 2 + 20 * len(shown),
        margin={"l": 8, "r": 16, "t": 84, "b": 48},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )
    figure.update_xaxes(title="Mean size of the contribution (log-odds)")
    figure.update_yaxes(autorange="reversed", automargin=True)
    decided = ", ".join(
        f"{system_name(name)} decides {source['decides']:.0%}"
        for name, source in part["sources"].items()
    )
    reading = f"On {part['rows']:,} texts: {decided}."
    return Chart(figure, title, reading, f"Bar chart. {reading}", table)


def contributions_table(part: Mapping[str, Any]) -> pd.DataFrame:
    """One row a source and label: source, label, mean_absolute, mean_signed."""
    rows = [
        {"source": name, "label": label, **means}
        for name, source in part["sources"].items()
        for label, means in source["labels"].items()
    ]
    return pd.DataFrame(rows).astype({"mean_absolute": float, "mean_signed": float})
