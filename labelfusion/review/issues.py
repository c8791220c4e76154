"""Suspected label errors: rows whose label the fusion, which never saw it, speaks against.

Ranked by the fused margin of rows that the fusion was not fitted on: the probability of the given
label minus that of the best other one (Northcutt et al. 2021, "normalized margin"; here of the
fusion). Multi-label judges every label of a row by itself. Knows arrays. Changes nothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from labelfusion.review.rows import ABSENT, ReviewRows
from labelfusion.types import LabelSpace


def label_margin(space: LabelSpace, gold: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Margins from -1 (surely wrong) to 1 (surely right).

    Returns:
        Multi-class (n, 1): the gold label's probability minus the highest other one. Multi-label
        (n, k): of each label, the probability that it is as given minus that it is not.
    """
    if space.multi_label:
        return np.where(gold, 1.0, -1.0) * (2 * probabilities - 1)
    others = np.where(gold, -np.inf, probabilities).max(axis=1)
    return ((probabilities * gold).sum(axis=1) - others)[:, None]


def label_issues(rows: ReviewRows) -> pd.DataFrame:
    """The labels that the fusion speaks against, the most suspicious first.

    Returns:
        position (into `rows`), id, row, split, label (the one judged), gold, suggested (the row's
        labels if the fusion is believed), margin, then for each source its own answer, and
        p_<source>: its probability that `label` is as the data says; "absent" and NaN where it
        has no answer; then text, where texts are known.
    """
    margin = label_margin(rows.space, rows.gold, rows.probabilities)
    at, which = np.nonzero((margin < 0) & rows.informed[:, None])
    order = np.argsort(margin[at, which], kind="stable")
    at, which = at[order], which[order]
    judged = which if rows.space.multi_label else rows.gold[at].argmax(axis=1)
    table = pd.DataFrame(
        {
            "position": at,
            "id": rows.ids[at],
            "row": rows.row_numbers[at],
            "split": rows.split[at],
            "label": np.array(rows.space.names, dtype=object)[judged],
            "gold": rows.gold_names[at],
            "suggested": rows.space.joined(_suggested(rows, at, which)),
            "margin": margin[at, which],
        }
    )
    for source in rows.answers:
        table[source], table[f"p_{source}"] = _opinion(rows, source, at, judged)
    if rows.texts is not None:
        table["text"] = [rows.texts[i] for i in at]
    return table


def _suggested(rows: ReviewRows, at: np.ndarray, which: np.ndarray) -> np.ndarray:
    """(m, k) bool: the row's labels with the suspected one put right."""
    changed = rows.gold[at].copy()
    if rows.space.multi_label:
        changed[np.arange(len(at)), which] ^= True
        return changed
    return np.eye(len(rows.space), dtype=bool)[rows.probabilities[at].argmax(axis=1)]


def _opinion(
    rows: ReviewRows, source: str, at: np.ndarray, judged: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a source says of each suspect, and its probability that the label is as given."""
    p = rows.answers[source].probabilities[at, judged]
    p = np.where(rows.gold[at, judged], p, 1 - p)
    answer = rows.answer_names(source)[at]
    return answer, np.where(answer == ABSENT, np.nan, p)
