"""Cells: the pieces a study is done in, and the file that keeps each one the moment it is done.

Knows keys and JSON lines. Does not know what a cell computes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from labelfusion.files import json_ready, to_json
from labelfusion.llm.keys import digest
from labelfusion.runs.run import read_jsonl

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One piece of a study, e.g. one method on one subset with one seed.

    Attributes:
        values: what tells it from the other cells; columns of the study's table.
        inputs: what else its result depends on, JSON-ready; in the key, not in the table.
    """

    values: Mapping[str, str | int | float]
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def key(self, fingerprint: str) -> str:
        """The key of its result, where `fingerprint` stands for all that the cells share."""
        return digest([fingerprint, json_ready(self.values), json_ready(self.inputs)])

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.values.items())


class CellLog:
    """Finished cells as JSON lines: `{key, values, rows, seconds}`, never rewritten.

    A line that a kill left half-written is passed over, so the cell under way is all that is lost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each finished cell, by its key."""
        return {str(line["key"]): line["rows"] for line in read_jsonl(self.path) if "rows" in line}

    def append(self, key: str, cell: Cell, rows: Sequence[Row], seconds: float) -> None:
        """Keep a finished cell; on return it is on disk."""
        line = {"key": key, "values": cell.values, "rows": rows, "seconds": round(seconds, 3)}
        with self.path.open("ab+") as file:
            if _torn(file):
                file.write(b"\n")
            file.write(to_json(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _torn(file: Any) -> bool:
    """Whether the file ends in the middle of a line."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def only(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows that have these values in these columns."""
    for column, value in values.items():
        frame = frame.loc[frame[column] == value, :]
    return frame


def largest(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest size."""
    return only(frame, size=frame["size"].max())


def as_frame(cells: Sequence[Cell], rows: Mapping[str, Sequence[Row]], of: str) -> pd.DataFrame:
    """One row for each row of each of `cells`: its values, then what was measured."""
    keyed = [(cell, rows.get(cell.key(of), ())) for cell in cells]
    return pd.DataFrame([dict(cell.values) | dict(row) for cell, found in keyed for row in found])
