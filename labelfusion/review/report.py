"""A run's review in one go, as tables and a short text: what `labelfusion review` writes.

Knows runs and files. What is in the tables is found elsewhere in this package.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from labelfusion.data import load_dataset
from labelfusion.errors import InputError
from labelfusion.files import (
    check_writable,
    sha256,
    spreadsheet_safe,
    write_atomically,
    write_text,
)
from labelfusion.review.issues import label_issues
from labelfusion.review.mistakes import mistakes
from labelfusion.review.rows import ReviewRows, review_rows
from labelfusion.review.slices import find_slices, slice_candidates

if TYPE_CHECKING:
    from labelfusion.runs import Run

NO_TEXTS = (
    "The data file has been moved or changed since the run, so there are no texts, and no slices "
    "by words, length or columns."
)


@dataclass(frozen=True)
class Review:
    """What was found; `looked_at` counts the slices that were compared."""

    run: str
    rows: ReviewRows
    mistakes: pd.DataFrame
    slices: pd.DataFrame
    issues: pd.DataFrame
    looked_at: int

    def summary(self, shown: int) -> str:
        """The findings in a few lines, with the first `shown` of each kind."""
        n, wrong = len(self.rows), len(self.mistakes)
        lines = [f"{self.run}: fusion is wrong on {wrong} of {n} texts ({wrong / n:.1%})."]
        lines += [NO_TEXTS] if self.rows.texts is None else []
        lines.append(f"{len(self.slices)} of {self.looked_at} slices are worse than the rest:")
        lines += [slice_sentence(row) for row in self.slices.head(shown).to_dict("records")]
        lines.append(f"{len(self.issues)} labels are suspected, of {self._texts()} texts:")
        lines += [issue_sentence(row) for row in self.issues.head(shown).to_dict("records")]
        return "\n".join(lines)

    def to_dict(self, shown: int) -> dict[str, Any]:
        """Counts and the first `shown` of each kind, JSON-ready."""
        tables = {"slices": self.slices, "label_issues": self.issues, "mistakes": self.mistakes}
        return {
            "run": self.run,
            "rows": len(self.rows),
            "slices_looked_at": self.looked_at,
            "texts_known": self.rows.texts is not None,
            "counts": {name: len(table) for name, table in tables.items()},
            **{name: table.head(shown).to_dict("records") for name, table in tables.items()},
        }

    def _texts(self) -> int:
        return len(set(self.issues["id"]))


def slice_sentence(row: dict[Any, Any]) -> str:
    """A slice in a line."""
    return (
        f"  {row['slice']}: {row['errors']} of {row['rows']} wrong ({row['error']:.1%}), "
        f"{100 * row['excess']:+.1f} points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f}) "
        "against the rest"
    )


def issue_sentence(row: dict[Any, Any]) -> str:
    """A suspected label in a line."""
    return (
        f"  row {row['row']} ({row['id']}): {row['gold'] or 'no label'}, "
        f"rather {row['suggested'] or 'no label'} (margin {row['margin']:.2f})"
    )


def review_run(run: Run) -> Review:
    """Everything there is to find in a finished run. Raises RunError or InputError."""
    data = run.config.data if _data_is_there(run) else None
    rows = review_rows(run, load_dataset(data) if data else None)
    candidates = slice_candidates(rows)
    return Review(
        run=run.id,
        rows=rows,
        mistakes=mistakes(rows),
        slices=find_slices(rows, candidates),
        issues=label_issues(rows).drop(columns="position"),
        looked_at=len(candidates.names),
    )


def _data_is_there(run: Run) -> bool:
    """Whether the run's data file is still the one it was made from."""
    path = Path(run.config.data.path or "")
    return path.is_file() and sha256(path) == run.status.data.get("sha256")


def write_review(review: Review, out: Path, *, force: bool, excel_safe: bool = False) -> list[Path]:
    """Write the tables and the summary into `out`; returns their paths.

    `excel_safe`: the tables hold no cell that a spreadsheet runs as a formula.
    Raises InputError: a file is there already and `force` is not given, or `out` cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder cannot be made", where=str(out), found=error.strerror or str(error)
        ) from None
    tables = {
        "mistakes.csv": review.mistakes,
        "slices.csv": review.slices.assign(also=review.slices["also"].map("; ".join)),
        "label_issues.csv": review.issues,
    }
    paths = [out / name for name in (*tables, "summary.txt")]
    for path in paths:
        check_writable(path, force=force)
    for name, table in tables.items():
        safe = spreadsheet_safe(table) if excel_safe else table
        write_atomically(out / name, _csv_writer(safe))
    write_text(out / "summary.txt", review.summary(20) + "\n")
    return paths


def _csv_writer(table: pd.DataFrame) -> Any:
    return lambda path: table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)
