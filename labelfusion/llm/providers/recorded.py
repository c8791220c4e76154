"""Scores made elsewhere, read from a CSV, TSV, JSONL or Parquet file by id, else by text.

Knows the file's layout and nothing about who made the scores. What the numbers are is told by
`entry.kind`. A row without scores is missing: it is never filled in, and nothing is guessed from
the numbers themselves.

Layout: an id column or a text column, and one column a label, named `<label>`, `<name>_<label>`
(the entry's name), `llm_<label>` or `p_<label>`; where several of these are complete, a prefixed
one goes first, as bare label columns may be the labels themselves. The order of columns is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from labelfusion.config import LLMConfig
from labelfusion.data import Table, read_table
from labelfusion.errors import InputError
from labelfusion.llm.context import ScoringContext
from labelfusion.types import Event, LabelSpace, OnEvent, Rows, Signal, SignalKind

# Probabilities written with few digits may leave 0..1 by rounding; more than this is an error.
_ROUNDING = 1e-6
_EXPECTED = {
    "probabilities": "a number from 0 to 1",
    "logits": "a finite number",
    "hard": "0 or 1",
}


def score(
    entry: LLMConfig, rows: Rows, space: LabelSpace, *, on_event: OnEvent, context: ScoringContext
) -> Signal:
    """The recorded scores of `rows`, (n, k) in the order of `space`.

    Raises InputError: the file cannot be read, lacks a label's column, holds a cell that is no
    score, gives one id two different scores, or matches none of the rows.
    """
    path = Path(entry.path or "")
    on_event(Event("llm", "start", f"Reading recorded scores from {path.name}", total=len(rows)))
    recorded = _recorded(entry, space)
    if not len(rows):
        return Signal.missing(entry.name, 0, len(space), str(path.name))
    position = recorded.match(rows, context)
    found = position >= 0
    taken = np.where(found[:, None], recorded.scores[position], np.nan)
    has_score = found & recorded.present[position]
    taken[~has_score] = np.nan
    on_event(_done(entry, int(has_score.sum()), len(rows)))
    return Signal(entry.name, taken, entry.kind, has_score, f"recorded scores from {path.name}")


def _recorded(entry: LLMConfig, space: LabelSpace) -> _Recorded:
    """The file's scores; those of the last file are kept, as rows may come chunk by chunk."""
    path = Path(entry.path or "").expanduser()
    try:
        stat = path.stat()
        version = (stat.st_size, stat.st_mtime_ns)
    except OSError:
        version = (0, 0)  # reading it says what is wrong
    return _read(str(path), version, entry.name, entry.kind, space.names)


@lru_cache(maxsize=1)
def _read(
    path: str, version: tuple[int, int], name: str, kind: SignalKind, names: tuple[str, ...]
) -> _Recorded:
    del version
    table = read_table(path)
    scores, present = _numbers(table, _score_columns(table, name, names), kind)
    return _Recorded(table, scores, present)


def _done(entry: LLMConfig, n_found: int, total: int) -> Event:
    return Event(
        "llm",
        "done",
        f"{n_found} of {total} rows have recorded scores",
        done=n_found,
        total=total,
        unit="texts",
        data={"source": entry.name, "done": n_found, "cached": 0, "failed": total - n_found},
    )


def _score_columns(table: Table, source: str, names: Sequence[str]) -> list[str]:
    """The column of each label, in the order of `names`."""
    prefixes = list(dict.fromkeys([f"{source}_", "llm_", "p_", ""]))
    known = set(table.frame.columns)
    complete = [p for p in prefixes if all(p + name in known for name in names)]
    if complete:
        return [complete[0] + name for name in names]
    nearest = max(prefixes, key=lambda p: sum(p + name in known for name in names))
    absent = [name for name in names if nearest + name not in known]
    raise InputError(
        f"The recorded scores lack a column for {len(absent)} of {len(names)} labels",
        where=table.name,
        expected="one column a label: "
        + ", ".join(nearest + name for name in absent[:5])
        + (" …" if len(absent) > 5 else ""),
        found=f"columns {', '.join(table.columns[:20])}",
        remedy="Rename or add the columns; prefixes "
        + ", ".join(p for p in prefixes if p)
        + " are understood",
    )


def _numbers(
    table: Table, columns: Sequence[str], kind: SignalKind
) -> tuple[np.ndarray, np.ndarray]:
    """(m, k) scores and (m,) present: a row whose score cells are all empty is not present."""
    cells = table.frame[list(columns)].apply(lambda column: column.str.strip())
    empty = np.asarray(cells == "")
    present = ~np.all(empty, axis=1)
    scores = cells.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    wrong = ~_valid(scores, kind) & present[:, None]
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            "A recorded score cannot be used",
            where=table.place(row, columns[column]),
            expected=f"{_EXPECTED[kind]} (kind: {kind})",
            found=repr(cells.iloc[row, column]) if not empty[row, column] else "an empty cell",
            remedy="Correct the cell, empty all scores of the row, or set llm kind to what "
            "the numbers are",
        )
    return (np.clip(scores, 0, 1) if kind == "probabilities" else scores), present


def _valid(scores: np.ndarray, kind: SignalKind) -> np.ndarray:
    if kind == "logits":
        return np.isfinite(scores)
    if kind == "hard":
        return (scores == 0) | (scores == 1)
    return (scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)


class _Recorded:
    """A file's (m, k) scores and (m,) presence, with what finds rows in it."""

    def __init__(self, table: Table, scores: np.ndarray, present: np.ndarray) -> None:
        self.table, self.scores, self.present = table, scores, present
        self._positions: dict[str, Mapping[str, int]] = {}
        self._repeats: dict[str, list[int]] = {}

    def match(self, rows: Rows, context: ScoringContext) -> np.ndarray:
        """(n,) position in the table of each row, -1 where it has none."""
        by_id = _first_column(self.table, context.id_columns)
        by_text = _first_column(self.table, context.text_columns)
        for column, wanted in ((by_id, rows.ids), (by_text, rows.texts)):
            if column is None:
                continue
            position = self._look_up(column, wanted)
            if (position >= 0).any():
                self._check_repeats(column, wanted)
                if column == by_id and by_text:
                    _check_same_texts(self.table, by_text, rows, position)
                return position
        if context.must_match:
            raise _no_match(self.table, rows, context, by_id or by_text)
        return np.full(len(rows), -1)

    def _look_up(self, column: str, wanted: Sequence[str]) -> np.ndarray:
        if column not in self._positions:
            pairs = reversed(list(enumerate(self.table.frame[column])))
            self._positions[column] = {key: i for i, key in pairs}
        positions = self._positions[column]
        return np.array([positions.get(str(key), -1) for key in wanted], dtype=int)

    def _check_repeats(self, column: str, wanted: Sequence[str]) -> None:
        """A key that is asked for and has two different rows of scores cannot be answered."""
        keys = self.table.frame[column]
        if column not in self._repeats:
            self._repeats[column] = np.flatnonzero(keys.duplicated(keep=False)).tolist()
        asked = set(map(str, wanted)) if self._repeats[column] else set()
        first: dict[str, int] = {}
        for i in self._repeats[column]:
            key = keys.iloc[i]
            earlier = first.setdefault(key, i)
            if key in asked and not self._same(i, earlier):
                raise InputError(
                    f"Two rows with the same {column} have different scores",
                    where=self.table.place(i, column),
                    found=f"{_short(key)}, first seen in row {self.table.row_numbers[earlier]}",
                    remedy="Keep one of the rows",
                )

    def _same(self, i: int, j: int) -> bool:
        alike = np.array_equal(self.scores[i], self.scores[j], equal_nan=True)
        return alike and self.present[i] == self.present[j]


def _first_column(table: Table, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.frame.columns), None)


def _check_same_texts(table: Table, column: str, rows: Rows, position: np.ndarray) -> None:
    """Ids that match by accident (two files that both count from 1) show in their texts."""
    for i in np.flatnonzero(position >= 0).tolist():
        recorded = " ".join(table.frame[column].iloc[position[i]].split())
        # `in`, as the text of a row may be several columns joined.
        if recorded not in " ".join(rows.texts[i].split()):
            raise InputError(
                f"The recorded scores of id {str(rows.ids[i])!r} are for another text",
                where=table.place(int(position[i]), column),
                expected=_short(rows.texts[i]),
                found=_short(recorded),
                remedy="Use the ids of the data, or remove the id column to match by text",
            )


def _no_match(table: Table, rows: Rows, context: ScoringContext, column: str | None) -> InputError:
    if column is None:
        wanted = " or ".join((*context.id_columns, *context.text_columns))
        found = f"columns {', '.join(table.columns[:20])}"
        return InputError(
            "The recorded scores have neither an id nor a text column",
            where=table.name,
            expected=wanted,
            found=found,
            remedy="Rename the column that holds the ids",
        )
    keys = table.frame[column]
    return InputError(
        "No row of the data is in the recorded scores",
        where=f"{table.name}, column {column!r}",
        expected=f"ids such as {', '.join(_short(str(i)) for i in list(rows.ids)[:3])}",
        found=", ".join(_short(key) for key in keys[:3]) if len(keys) else "no rows",
        remedy="Use the same ids in both files, or add a text column",
    )


def _short(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
