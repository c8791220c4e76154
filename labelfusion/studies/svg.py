"""A plot as a static SVG of a few kilobytes: for a README, a paper, a place without scripts.

Knows plots and pixels. The page that can be zoomed is `pages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from labelfusion.studies.plots import MARGIN, Plot, Series, figures_span, style

WIDTH, LEFT, TOP, BOTTOM, LEGEND = 820, 64, 48, 52, 210
LINES_HEIGHT, DOT_ROW = 440, 26
INK, FAINT = "#222222", "#DDDDDD"
MAX_TICKS = 8


@dataclass(frozen=True)
class _Axis:
    """Values low..high on pixels start..end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, v = (np.log(x) if self.log else x for x in (self.low, self.high, value))
        return float(self.start + (self.end - self.start) * (v - low) / ((high - low) or 1.0))

    def within(self, value: float) -> float:
        """The same, no further than the axis goes."""
        return self.at(min(max(value, self.low), self.high))


def svg(plot: Plot) -> str:
    """The plot as an SVG document."""
    draw = _dots if plot.kind == "dots" else _lines
    height, parts = draw(plot)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13" role="img" '
        f'aria-label="{escape(plot.title)}. {escape(plot.reading)}">'
    )
    frame = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    title = _text(LEFT, 24, plot.title, size=16)
    return "\n".join([head, frame, title, *parts, "</svg>"]) + "\n"


def _lines(plot: Plot) -> tuple[int, list[str]]:
    x = np.unique([value for series in plot.series for value in series.x])
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
    across = _Axis(low, high, LEFT + 12, WIDTH - LEGEND - 12, plot.log_x and low > 0)
    up = _vertical(plot)
    ticks = x.tolist() if len(x) <= MAX_TICKS else nice_ticks(low, high)
    parts = [_tick_x(across.at(t), LINES_HEIGHT - BOTTOM, t) for t in ticks]
    parts += [_tick_y(up.at(t), t, WIDTH - LEGEND) for t in nice_ticks(up.low, up.high)]
    for i, series in enumerate(plot.series):
        parts += _line(series, across, up, i, len(plot.series))
        parts += _legend(i, series)
    return LINES_HEIGHT, parts + _axis_titles(plot, WIDTH - LEGEND, LINES_HEIGHT)


def _vertical(plot: Plot) -> _Axis:
    low, high = figures_span(plot)
    margin = MARGIN * ((high - low) or 1.0)
    return _Axis(low - margin, high + margin, LINES_HEIGHT - BOTTOM, TOP)


def _line(series: Series, across: _Axis, up: _Axis, i: int, n: int) -> list[str]:
    colour, dash = style(series, i)
    points = [
        (across.at(x), up.at(y)) for x, y in zip(series.x, series.y, strict=True) if np.isfinite(y)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dash}"/>'
    ]
    if len(series.x) <= MAX_TICKS:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
    if series.has_interval:
        # Side by side, so that the intervals of systems at one size can be told apart.
        shift = 3.0 * (i - (n - 1) / 2)
        for x, low, high in zip(series.x, series.low, series.high, strict=True):
            if np.isfinite(low):
                at = across.at(x) + shift
                parts.append(_rule(at, up.within(low), at, up.within(high), colour, 1.2, 0.45))
    return parts


def _dots(plot: Plot) -> tuple[int, list[str]]:
    names, several = list(plot.names), len(plot.series) > 1
    left = min(340, 30 + round(7.2 * max(map(len, names), default=0)))
    low, high = figures_span(plot)
    margin = MARGIN * ((high - low) or 1.0)
    right = WIDTH - (LEGEND if several else 24)
    across = _Axis(low - margin, high + margin, left, right)
    height = TOP + DOT_ROW * len(names) + BOTTOM
    parts = [_tick_x(across.at(t), height - BOTTOM, t) for t in nice_ticks(across.low, across.high)]
    for row, name in enumerate(names):
        y = _row(row)
        parts += [_rule(left, y, right, y, FAINT), _text(left - 10, y + 4, name, anchor="end")]
    for i, series in enumerate(plot.series):
        parts += _marks(series, across, i, len(plot.series))
        parts += _legend(i, series) if several else []
    middle = (left + right) / 2
    return height, [*parts, _text(middle, height - 12, plot.x_title, anchor="middle")]


def _marks(series: Series, across: _Axis, i: int, n: int) -> list[str]:
    colour, _ = style(series, i)
    parts = []
    for j, (row, value) in enumerate(zip(series.x, series.y, strict=True)):
        if not np.isfinite(value):
            continue
        y = _row(row) + 7.0 * (i - (n - 1) / 2) / max(n - 1, 1)
        if series.has_interval and np.isfinite(series.low[j]):
            ends = across.within(series.low[j]), across.within(series.high[j])
            parts.append(_rule(ends[0], y, ends[1], y, colour, 2.5, 0.6))
        parts.append(f'<circle cx="{across.at(value):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
    return parts


def _row(row: float) -> float:
    return TOP + DOT_ROW * (row + 0.5)


def nice_ticks(low: float, high: float) -> list[float]:
    """At most MAX_TICKS round numbers within low..high, 1, 2 or 5 times a power of ten apart."""
    span = (high - low) or 1.0
    power = 10.0 ** np.floor(np.log10(span / MAX_TICKS))
    step = next(power * s for s in (1, 2, 5, 10, 20) if span / (power * s) <= MAX_TICKS - 1)
    first = np.ceil(low / step)
    count = int(np.floor(high / step) - first) + 1
    return [float(np.round((first + i) * step, 12)) for i in range(count)]


def _tick_x(x: float, bottom: float, value: float) -> str:
    words = _text(x, bottom + 18, f"{value:,.10g}", anchor="middle")
    return _rule(x, TOP, x, bottom, FAINT) + words


def _tick_y(y: float, value: float, right: float) -> str:
    return _rule(LEFT, y, right, y, FAINT) + _text(LEFT - 8, y + 4, f"{value:,.10g}", anchor="end")


def _axis_titles(plot: Plot, right: float, height: float) -> list[str]:
    return [
        _text((LEFT + right) / 2, height - 12, plot.x_title, anchor="middle"),
        _text(LEFT, TOP - 8, plot.y_title, size=12),
    ]


def _legend(i: int, series: Series) -> list[str]:
    colour, dash = style(series, i)
    x, y = WIDTH - LEGEND + 14, TOP + 10 + 20 * i
    return [_rule(x, y, x + 24, y, colour, 2, 1.0, dash), _text(x + 32, y + 4, series.name)]


def _rule(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    colour: str,
    width: float = 1.0,
    opacity: float = 1.0,
    dash: str = "",
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}" stroke-opacity="{opacity:g}" stroke-dasharray="{dash}"/>'
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{INK}">{escape(words)}</text>'
    )
