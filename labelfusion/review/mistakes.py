"""The table of mistakes: each row with what was said of it and by whom, for people to read.

Knows ReviewRows. Judges nothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from labelfusion.review.rows import ReviewRows


def mistakes(rows: ReviewRows) -> pd.DataFrame:
    """The rows on which fusion and data differ, the surest mistakes first; see `row_table`."""
    wrong = np.flatnonzero(~rows.right)
    return row_table(rows, wrong[np.argsort(-rows.confidence[wrong], kind="stable")])


def row_table(rows: ReviewRows, at: np.ndarray) -> pd.DataFrame:
    """The rows at positions `at`, in that order.

    Returns:
        id, row, split, text (where known), gold, predicted, confidence, right, quadrant; for each
        source its answer, p_<source> (its probability of the fusion's surest label) and
        contribution_<source> (to that label, in log-odds); data_<column> of the file.
    """
    top = rows.probabilities[at].argmax(axis=1)
    columns: dict[str, object] = {
        "id": rows.ids[at],
        "row": rows.row_numbers[at],
        "split": rows.split[at],
    }
    if rows.texts is not None:
        columns["text"] = [rows.texts[i] for i in at]
    columns |= {
        "gold": rows.gold_names[at],
        "predicted": rows.decided_names[at],
        "confidence": rows.confidence[at],
        "right": rows.right[at],
        "quadrant": rows.quadrants[at],
    }
    for source, answer in rows.answers.items():
        p = answer.probabilities[at, top]
        columns[source] = rows.answer_names(source)[at]
        columns[f"p_{source}"] = np.where(rows.answered(source)[at], p, np.nan)
    for s, source in enumerate(rows.sources if rows.contributions is not None else ()):
        assert rows.contributions is not None
        columns[f"contribution_{source}"] = rows.contributions[at, s, top]
    columns |= {f"data_{name}": rows.metadata[name].to_numpy()[at] for name in rows.metadata}
    return pd.DataFrame(columns)
