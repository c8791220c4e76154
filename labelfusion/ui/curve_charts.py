"""Precision-recall, ROC and threshold curves as figures. Knows no Streamlit and no run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from labelfusion.evaluation.curves import Curve
from labelfusion.ui.charts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    Chart,
    lay_out,
    show_legend,
    source_colours,
    system_name,
)
from labelfusion.ui.tables import FUSION

if TYPE_CHECKING:
    import plotly.graph_objects as go

UNIT = [-0.03, 1.03]
# Room for a legend of a line an entry, which is how it falls in half of a narrow page.
NARROW_LEGEND = 124


def precision_recall(curve: Curve, points: pd.DataFrame, share: float, what: str) -> Chart:
    """Precision over recall; `points` of each system's own decisions, `share` of right pairs."""
    figure = _curve(curve, points, "recall", "precision")
    figure.add_hline(y=share, line={"color": GREY, "dash": "dash"})
    reading = (
        f"Average precision {curve.area:.3f}; giving the label at random would have {share:.3f} "
        "(dashed)."
    )
    title = f"Precision and recall: {what}"
    return _unit_chart(figure, curve, title, ("recall", "precision"), reading)


def roc(curve: Curve, points: pd.DataFrame, what: str) -> Chart:
    """True over false positive rate, with each system's own decisions."""
    figure = _curve(curve, points, "false positive rate", "recall")
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": GREY, "dash": "dash"})
    reading = (
        f"Area {curve.area:.3f}: the chance that a text with the label has a higher probability "
        "than one without it."
    )
    axes = ("false positive rate", "true positive rate")
    return _unit_chart(figure, curve, f"ROC: {what}", axes, reading)


def _curve(curve: Curve, points: pd.DataFrame, x: str, y: str) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(
        x=curve.x,
        y=curve.y,
        mode="lines",
        line={"color": GREEN},
        name="Fusion at every threshold",
        hovertemplate=f"{x} %{{x:.1%}}, {y} %{{y:.1%}}<extra></extra>",
    )
    colours = source_colours(points["system"].tolist())
    for point in points.to_dict("records"):
        name = system_name(point["system"])
        figure.add_scatter(
            x=[point[x]],
            y=[point[y]],
            mode="markers",
            name=f"{name} as it decides",
            marker={
                "size": 12,
                "color": colours[point["system"]],
                "symbol": "circle" if point["system"] == FUSION else "diamond",
            },
            hovertemplate=f"{name}: {x} %{{x:.1%}}, {y} %{{y:.1%}}<extra></extra>",
        )
    return figure


def _unit_chart(
    figure: go.Figure, curve: Curve, title: str, axes: tuple[str, str], reading: str
) -> Chart:
    lay_out(figure, title, axes[0].capitalize(), 0)
    show_legend(figure, 480)
    figure.update_layout(margin={"t": NARROW_LEGEND})
    figure.update_xaxes(range=UNIT, tickformat=".0%")
    figure.update_yaxes(title=axes[1].capitalize(), autorange=False, range=UNIT, tickformat=".0%")
    table = pd.DataFrame({axes[0]: curve.x, axes[1]: curve.y, "threshold": curve.thresholds})
    return Chart(figure, title, reading, f"Curve. {reading}", table)


def threshold(table: pd.DataFrame, label: str, before: float, now: float) -> Chart:
    """Precision, recall and F1 of a label over its threshold, out of fold.

    `table` is a `threshold_curve`; `before` and `now` are the saved and the tried threshold.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, colour in (("precision", BLUE), ("recall", ORANGE), ("f1", PURPLE)):
        shown = "F1" if name == "f1" else name.capitalize()
        figure.add_scatter(
            x=table["threshold"],
            y=table[name],
            mode="lines",
            name=shown,
            line={"color": colour},
            hovertemplate=f"from %{{x:.2f}}: {shown} %{{y:.1%}}<extra></extra>",
        )
    figure.add_vline(x=before, line={"color": GREY, "dash": "dash"})
    figure.add_vline(x=now, line={"color": VERMILION})
    title = f"What the threshold of {label} changes, out of fold"
    lay_out(figure, title, "Threshold: the label is given from this probability on", 0)
    show_legend(figure, 400)
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(title="Share", range=UNIT, autorange=False, tickformat=".0%")
    # The middle of the best plateau: its edges are accidents of single rows.
    highest = np.flatnonzero(table["f1"] >= table["f1"].max() - 1e-12)
    best = table.iloc[int(highest[len(highest) // 2])]
    reading = (
        f"F1 is highest at {best['threshold']:.2f} ({100 * best['f1']:.1f} %); the saved threshold "
        f"is {before:.2f} (dashed), the one tried {now:.2f}."
    )
    return Chart(figure, title, reading, f"Three curves over the threshold. {reading}", table)
