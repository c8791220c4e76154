"""Small static figures as SVG text, for documents that load nothing.

Knows axes, lines, bands, dots and intervals. Every text it is given is escaped. Knows no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

INK, GRID = "#333333", "#dddddd"
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46
ROW = 30
CHARACTER = 6.5  # width of a character of the font, in pixels, about


@dataclass(frozen=True)
class Axis:
    """Limits of an axis, its title with unit, and whether its numbers read as per cent."""

    title: str
    low: float
    high: float
    percent: bool = False

    @staticmethod
    def around(title: str, values: Sequence[float], percent: bool = False) -> Axis:
        """An axis that holds all finite values, with a little room; per cent stays within 0..1."""
        finite = np.asarray(values, dtype=float)
        finite = finite[np.isfinite(finite)]
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
        room = (high - low or abs(high) or 1.0) * 0.08
        low, high = float(low - room), float(high + room)
        return (
            Axis(title, max(low, 0.0), min(high, 1.0), True) if percent else Axis(title, low, high)
        )

    def ticks(self) -> list[tuple[float, str]]:
        """About five round values within the limits, with their text."""
        step = _round_step((self.high - self.low) / 5)
        values = np.arange(np.ceil(self.low / step - 1e-9), self.high / step + 1e-9) * step
        return [(float(v), self._text(float(v), step)) for v in values]

    def _text(self, value: float, step: float) -> str:
        scaled, unit = (100 * value, 100 * step) if self.percent else (value, step)
        digits = max(0, -int(np.floor(np.log10(unit) + 1e-9)))
        return f"{scaled + 0.0:.{digits}f}{' %' if self.percent else ''}"


def _round_step(rough: float) -> float:
    power = 10 ** np.floor(np.log10(rough))
    return float(power * min((m for m in (1, 2, 5, 10) if m * power >= rough * 0.999), default=10))


@dataclass
class Plot:
    """A figure under construction; coordinates are data, sizes are pixels."""

    x: Axis
    y: Axis
    width: int = 460
    height: int = 320
    left: int = LEFT
    parts: list[str] = field(default_factory=list)

    def _at(self, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
        wide, tall = self.width - self.left - RIGHT, self.height - TOP - BOTTOM
        across = (np.asarray(xs, float) - self.x.low) / ((self.x.high - self.x.low) or 1)
        up = (np.asarray(ys, float) - self.y.low) / ((self.y.high - self.y.low) or 1)
        points = zip(self.left + wide * across, TOP + tall * (1 - up), strict=True)
        return [(round(float(a), 1), round(float(b), 1)) for a, b in points]

    def line(
        self, xs: Sequence[float], ys: Sequence[float], colour: str, *, dashed: bool = False
    ) -> None:
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        points = " ".join(f"{a},{b}" for a, b in self._at(xs, ys))
        self.parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        )

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str
    ) -> None:
        outline = [*self._at(xs, high), *self._at(xs, low)[::-1]]
        points = " ".join(f"{a},{b}" for a, b in outline)
        self.parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.22"/>')

    def dots(
        self, xs: Sequence[float], ys: Sequence[float], colour: str, radius: float = 4
    ) -> None:
        self.parts += [
            f'<circle cx="{a}" cy="{b}" r="{radius}" fill="{colour}"/>' for a, b in self._at(xs, ys)
        ]

    def segment(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """A straight line between two points, such as an interval."""
        (x1, y1), (x2, y2) = self._at([start[0], end[0]], [start[1], end[1]])
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="2"/>'
        )

    def svg(self, alt: str, *, names: Sequence[str] = ()) -> str:
        """The figure with its axes; `names` stand at y = 0, 1, … in place of numbers."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" role="img" '
            f'xmlns="http://www.w3.org/2000/svg"><title>{escape(alt)}</title>'
            f"{self._x_axis()}{self._y_axis(names)}{''.join(self.parts)}</svg>"
        )

    def _x_axis(self) -> str:
        bottom = self.height - BOTTOM
        parts = []
        for value, text in self.x.ticks():
            ((x, _),) = self._at([value], [self.y.low])
            parts.append(_rule(x, TOP, x, bottom) + _text(x, bottom + 16, text, "middle"))
        return "".join(parts) + _text(self.width / 2, self.height - 8, self.x.title, "middle")

    def _y_axis(self, names: Sequence[str]) -> str:
        named = [(float(i), name) for i, name in enumerate(names)] or self.y.ticks()
        parts = []
        for value, text in named:
            ((_, y),) = self._at([self.x.low], [value])
            rule = "" if names else _rule(self.left, y, self.width - RIGHT, y)
            parts.append(rule + _text(self.left - 8, y + 4, text, "end"))
        middle = (TOP + self.height - BOTTOM) / 2
        title = _text(14, middle, self.y.title, "middle", f' transform="rotate(-90 14 {middle})"')
        return "".join(parts) + (title if self.y.title else "")


def intervals(
    rows: Sequence[tuple[str, float, float, float, str]], title: str, alt: str, *, percent: bool
) -> str:
    """Rows of (name, value, low, high, colour) below each other; a NaN limit is not drawn."""
    limits = [number for _, *numbers, _ in rows for number in numbers]
    across = Axis.around(title, limits, percent)
    widest = max((len(name) for name, *_ in rows), default=0)
    left = int(min(300, 20 + CHARACTER * widest))
    height = TOP + BOTTOM + ROW * len(rows)
    plot = Plot(across, Axis("", len(rows) - 0.5, -0.5), width=640, height=height, left=left)
    for i, (_, value, low, high, colour) in enumerate(rows):
        if np.isfinite(low) and np.isfinite(high):
            plot.segment((low, i), (high, i), colour)
        plot.dots([value], [i], colour, 6)
    return plot.svg(alt, names=[name for name, *_ in rows])


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{GRID}"/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{INK}" font-size="12"{more}>'
        f"{escape(text)}</text>"
    )
