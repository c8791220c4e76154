"""What a figure of a study shows, whoever draws it (`svg`, `pages`).

Knows series of numbers and words. Does not know pixels, files or how they came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from labelfusion.studies.words import METRIC_NAMES

# Okabe and Ito (2008): apart for colour-blind readers, on light and dark backgrounds.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C8C8C", "#7F6000",
)  # fmt: skip
# Of the range of the values: how far intervals may go beyond it, and what is left empty.
MOST_BEYOND, MARGIN = 0.5, 0.05
DASHES = ("", "6 4", "2 3")


@dataclass(frozen=True)
class Series:
    """One line (numeric x, ascending), or one set of dots (`names` in place of x).

    Attributes:
        low, high: ends of the interval of each y; NaN where there is none. Empty: no intervals.
        look: number of its `style`, where another figure has the same series; else its place.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    look: int | None = None

    @property
    def has_interval(self) -> bool:
        return len(self.low) == len(self.y) > 0 and bool(np.isfinite(self.low).any())


@dataclass(frozen=True)
class Plot:
    """A figure: `lines` over a numeric x, or `dots`, one horizontal line for each of `names`.

    For dots, x of a series holds positions in `names` and y the values, drawn along the width.
    """

    stem: str
    title: str
    x_title: str
    y_title: str
    series: Sequence[Series]
    reading: str
    kind: Literal["lines", "dots"] = "lines"
    log_x: bool = False
    names: Sequence[str] = ()


def style(series: Series, i: int) -> tuple[str, str]:
    """Colour and dash pattern of the i-th series: no two of the first 24 look the same."""
    i = i if series.look is None else series.look
    return COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]


def lines(table: pd.DataFrame, x: str, y: str, by: str) -> list[Series]:
    """A series for each value of `by` in a table of `over_seeds`."""
    found = []
    for name, group in table.groupby(by, sort=False):
        group = group.sort_values(x)
        columns = group[[x, y, f"{y}_low", f"{y}_high"]].astype(float)
        along, mean, low, high = columns.to_numpy().T.tolist()
        found.append(Series(str(name), along, mean, low, high))
    return found


def dots(table: pd.DataFrame, y: str, name: str = "") -> Series:
    """One set of dots, a row of a table of `over_seeds` each."""
    y_, low, high = (
        table[column].astype(float).tolist() for column in (y, f"{y}_low", f"{y}_high")
    )
    return Series(name or y, list(map(float, range(len(table)))), y_, low, high)


def dots_plot(stem: str, title: str, table: pd.DataFrame, metric: str, note: str = "") -> Plot:
    """A metric of every system of a table of `over_seeds`, a row of dots each."""
    return Plot(
        f"{stem}-{metric}",
        title,
        f"{METRIC_NAMES[metric]} on the test rows",
        "",
        [dots(table, metric)],
        f"Mean over seeds with 95 % t intervals over seeds{note}.",
        kind="dots",
        names=list(table["system"]),
    )


def figures_span(plot: Plot) -> tuple[float, float]:
    """The range that is drawn: every value, and of the intervals what does not dwarf the values.

    An interval from two seeds can be ten times as wide as all that there is to see.
    """
    values = _finite([s.y for s in plot.series])
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = MOST_BEYOND * ((high - low) or abs(high) or 1.0)
    ends = _finite([part for s in plot.series for part in (s.low, s.high)])
    lowest, highest = ends.min(initial=low), ends.max(initial=high)
    return max(float(lowest), low - room), min(float(highest), high + room)


def _finite(parts: Sequence[Sequence[float]]) -> np.ndarray:
    values = np.concatenate([np.asarray(part, float) for part in parts])
    return values[np.isfinite(values)]
