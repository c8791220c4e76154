"""Scores made elsewhere, read from a CSV, TSV, JSONL or Parquet file by id, else by text.

Knows the file's layout and nothing about who made the scores. What the numbers are is told by
`entry.kind`. A row without scores is missing: it is never filled in, and nothing is guessed from
the numbers themselves.

Layout: an id column or a text column, and one column a label, named `<label>`, `<name>_<label>`
(the entry's name), `llm_<label>` or `p_<label>`; where several of these are complete, a prefixed
one goes first, as bare label columns may be the labels themselves. The order of columns is free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from labelfusion.config import LLMConfig
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
    sheet = _read_sheet(path)
    columns = _score_columns(sheet, entry, space)
    scores, present = _numbers(sheet, columns, entry.kind)
    if not len(rows):
        return Signal.missing(entry.name, 0, len(space), str(path.name))
    position = _match(sheet, rows, context, scores, present)
    found = position >= 0
    taken = np.where(found[:, None], scores[position], np.nan)
    has_score = found & present[position]
    taken[~has_score] = np.nan
    on_event(_done(entry, int(has_score.sum()), len(rows)))
    return Signal(entry.name, taken, entry.kind, has_score, f"recorded scores from {path.name}")


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


@dataclass(frozen=True)
class _Sheet:
    """A file as strings: m rows, "" for an empty cell, and the row numbers a person would see."""

    path: Path
    frame: pd.DataFrame
    row_numbers: np.ndarray

    def cell(self, row: int, column: str) -> str:
        return f"{self.path.name}, row {self.row_numbers[row]}, column {column!r}"


def _read_sheet(path: Path) -> _Sheet:
    try:
        frame, first_row = _read_frame(path)
    except OSError as error:
        raise InputError(
            "The file of recorded scores cannot be read",
            where=str(path),
            found=error.strerror or str(error),
            remedy="Correct llm path",
        ) from None
    except ValueError as error:
        # pandas' parser errors, bad UTF-8, bad JSON and pyarrow's errors are all ValueErrors.
        raise InputError(
            "The file of recorded scores cannot be parsed",
            where=str(path),
            expected="CSV, TSV, JSONL or Parquet by its extension, text in UTF-8",
            found=" ".join(str(error).split()),
        ) from None
    frame.columns = [str(column).strip() for column in frame.columns]
    repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
    if repeated:
        raise InputError("Columns repeat", where=str(path), found=", ".join(repeated))
    return _Sheet(path, frame.reset_index(drop=True), np.arange(len(frame)) + first_row)


def _read_frame(path: Path) -> tuple[pd.DataFrame, int]:
    """The file's cells as strings, and the row number of its first row of data."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _as_strings(pd.read_parquet(path)), 2
    if suffix in (".jsonl", ".ndjson"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("a line that is not a JSON object")
        return _as_strings(pd.DataFrame(records, dtype=object)), 1
    separator = "\t" if suffix in (".tsv", ".tab") else ","
    # No header for pandas: it would rename repeated columns instead of showing them. Blank lines
    # stay, so that row numbers are those of the file.
    cells = pd.read_csv(
        path,
        sep=separator,
        header=None,
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
        encoding="utf-8-sig",
    ).fillna("")
    return cells.iloc[1:].set_axis(cells.iloc[0], axis="columns"), 2


def _as_strings(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(object).where(frame.notna(), "").astype(str)


def _score_columns(sheet: _Sheet, entry: LLMConfig, space: LabelSpace) -> list[str]:
    """The column of each label, in the order of `space`."""
    prefixes = list(dict.fromkeys([f"{entry.name}_", "llm_", "p_", ""]))
    known = set(sheet.frame.columns)
    complete = [p for p in prefixes if all(p + name in known for name in space.names)]
    if complete:
        return [complete[0] + name for name in space.names]
    nearest = max(prefixes, key=lambda p: sum(p + name in known for name in space.names))
    absent = [name for name in space.names if nearest + name not in known]
    raise InputError(
        f"The recorded scores lack a column for {len(absent)} of {len(space)} labels",
        where=str(sheet.path),
        expected="one column a label: "
        + ", ".join(nearest + name for name in absent[:5])
        + (" …" if len(absent) > 5 else ""),
        found=f"columns {', '.join(list(sheet.frame.columns)[:20])}",
        remedy="Rename or add the columns; prefixes "
        + ", ".join(p for p in prefixes if p)
        + " are understood",
    )


def _numbers(
    sheet: _Sheet, columns: Sequence[str], kind: SignalKind
) -> tuple[np.ndarray, np.ndarray]:
    """(m, k) scores and (m,) present: a row whose score cells are all empty is not present."""
    cells = sheet.frame[list(columns)].apply(lambda column: column.str.strip())
    empty = np.asarray(cells == "")
    present = ~np.all(empty, axis=1)
    scores = cells.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    wrong = ~_valid(scores, kind) & present[:, None]
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            "A recorded score cannot be used",
            where=sheet.cell(row, columns[column]),
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


def _match(
    sheet: _Sheet, rows: Rows, context: ScoringContext, scores: np.ndarray, present: np.ndarray
) -> np.ndarray:
    """(n,) position in the sheet of each row, -1 where it has none."""
    by_id = _first_column(sheet, context.id_columns)
    by_text = _first_column(sheet, context.text_columns)
    for column, wanted in ((by_id, rows.ids), (by_text, rows.texts)):
        if column is None:
            continue
        position = _look_up(sheet, column, wanted)
        if (position >= 0).any():
            _check_repeats(sheet, column, wanted, scores, present)
            if column == by_id and by_text:
                _check_same_texts(sheet, by_text, rows, position)
            return position
    if context.must_match:
        raise _no_match(sheet, rows, context, by_id or by_text)
    return np.full(len(rows), -1)


def _first_column(sheet: _Sheet, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in sheet.frame.columns), None)


def _look_up(sheet: _Sheet, column: str, wanted: Sequence[str]) -> np.ndarray:
    positions: Mapping[str, int] = {
        key: i for i, key in reversed(list(enumerate(sheet.frame[column])))
    }
    return np.array([positions.get(str(key), -1) for key in wanted], dtype=int)


def _check_repeats(
    sheet: _Sheet, column: str, wanted: Sequence[str], scores: np.ndarray, present: np.ndarray
) -> None:
    """A key that is asked for and has two different rows of scores cannot be answered."""
    keys = sheet.frame[column]
    asked = set(map(str, wanted))
    first: dict[str, int] = {}
    for i in np.flatnonzero(keys.duplicated(keep=False)).tolist():
        key = keys.iloc[i]
        earlier = first.setdefault(key, i)
        same = present[i] == present[earlier] and np.array_equal(
            scores[i], scores[earlier], equal_nan=True
        )
        if key in asked and not same:
            raise InputError(
                f"Two rows with the same {column} have different scores",
                where=sheet.cell(i, column),
                found=f"{_short(key)}, first seen in row {sheet.row_numbers[earlier]}",
                remedy="Keep one of the rows",
            )


def _check_same_texts(sheet: _Sheet, column: str, rows: Rows, position: np.ndarray) -> None:
    """Ids that match by accident (two files that both count from 1) show in their texts."""
    for i in np.flatnonzero(position >= 0).tolist():
        recorded = " ".join(sheet.frame[column].iloc[position[i]].split())
        # `in`, as the text of a row may be several columns joined.
        if recorded not in " ".join(rows.texts[i].split()):
            raise InputError(
                f"The recorded scores of id {str(rows.ids[i])!r} are for another text",
                where=sheet.cell(int(position[i]), column),
                expected=_short(rows.texts[i]),
                found=_short(recorded),
                remedy="Use the ids of the data, or remove the id column to match by text",
            )


def _no_match(sheet: _Sheet, rows: Rows, context: ScoringContext, column: str | None) -> InputError:
    if column is None:
        wanted = " or ".join((*context.id_columns, *context.text_columns))
        found = f"columns {', '.join(list(sheet.frame.columns)[:20])}"
        return InputError(
            "The recorded scores have neither an id nor a text column",
            where=str(sheet.path),
            expected=wanted,
            found=found,
            remedy="Rename the column that holds the ids",
        )
    keys = sheet.frame[column]
    return InputError(
        "No row of the data is in the recorded scores",
        where=f"{sheet.path}, column {column!r}",
        expected=f"ids such as {', '.join(_short(str(i)) for i in list(rows.ids)[:3])}",
        found=", ".join(_short(key) for key in keys[:3]) if len(keys) else "no rows",
        remedy="Use the same ids in both files, or add a text column",
    )


def _short(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
