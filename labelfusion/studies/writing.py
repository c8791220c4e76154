"""A study's folder: table, summary, figures and a README that says what it found.

Knows names and formats of files. Does not know what was computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.files import write_atomically, write_json, write_text
from labelfusion.studies.pages import page
from labelfusion.studies.plots import Plot
from labelfusion.studies.svg import svg

PAGE = "figures.html"


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        title: what it is a study of.
        about: what was done, in sentences.
        reading: what to take from it, in sentences.
        table: one row a system (and size): means, deviations and intervals over seeds.
        shown: the columns of `table` that the README and the terminal show.
        plots: the figures.
        details: more that goes into summary.json, JSON-ready.
    """

    title: str
    about: Sequence[str]
    reading: Sequence[str]
    table: pd.DataFrame
    shown: Sequence[str]
    plots: Sequence[Plot]
    details: Mapping[str, Any] = field(default_factory=dict)

    def short(self) -> pd.DataFrame:
        """The shown columns; `accuracy` reads "0.957 ± 0.012" where there is a deviation."""
        columns = [column for column in self.shown if column in self.table]
        return pd.DataFrame({column: _cells(self.table, column) for column in columns})


def _cells(table: pd.DataFrame, column: str) -> list[str]:
    name = f"{column}_sd"
    deviations = table[name].tolist() if name in table else [np.nan] * len(table)
    return [_cell(value, sd) for value, sd in zip(table[column], deviations, strict=True)]


def _cell(value: Any, deviation: Any) -> str:
    if not isinstance(value, float | np.floating):
        return str(value)
    if not np.isfinite(value):
        return "–"
    words = f"{value:.4g}" if abs(value) >= 1 else f"{value:.3f}"
    return f"{words} ± {deviation:.3f}" if np.isfinite(deviation) else words


def write_study(
    folder: Path, kind: str, command: str, findings: Findings, cells: pd.DataFrame
) -> list[Path]:
    """Write everything but cells.jsonl; returns the paths of the figures."""
    figures = [folder / f"{plot.stem}.svg" for plot in findings.plots]
    for path, plot in zip(figures, findings.plots, strict=True):
        write_text(path, svg(plot))
    write_text(folder / PAGE, page(findings.title, findings.plots, findings.reading))
    table = findings.table
    write_atomically(folder / "table.csv", lambda path: table.to_csv(path, index=False))
    write_json(folder / "summary.json", _summary(kind, command, findings, cells))
    write_text(folder / "README.md", readme(command, findings))
    return [folder / PAGE, *figures]


def _summary(kind: str, command: str, findings: Findings, cells: pd.DataFrame) -> dict[str, Any]:
    return {
        "kind": kind,
        "title": findings.title,
        "command": command,
        "cells": len(cells),
        "reading": list(findings.reading),
        "table": findings.table.to_dict("records"),
        **findings.details,
    }


def readme(command: str, findings: Findings) -> str:
    """README.md of a study."""
    pictures = [f"![{plot.title}]({plot.stem}.svg)\n\n{plot.reading}\n" for plot in findings.plots]
    parts = [
        f"# {findings.title}\n",
        " ".join(findings.about) + "\n",
        f"```\n{command}\n```\n",
        "The same command goes on with what is missing and draws everything again.\n",
        "## Reading\n",
        "\n".join(f"- {line}" for line in findings.reading) + "\n",
        "## Figures\n",
        *pictures,
        f"The same figures to zoom into: [{PAGE}]({PAGE}).\n",
        "## Table\n",
        "Mean ± standard deviation over seeds; intervals are in table.csv.\n",
        markdown(findings.short()),
        "Every cell is a line of cells.jsonl.\n",
    ]
    return "\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(_safe(cell) for cell in row) + " |" for row in rows) + "\n"


def _safe(cell: object) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")
