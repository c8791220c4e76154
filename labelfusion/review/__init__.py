"""Review of a finished run: where it errs, which labels look wrong, and mending them.

    rows.py         a run's rows: gold, fused, what each source says alone
    words.py        texts as a sparse matrix of words
    mistakes.py     the table of mistakes
    slices.py       groups of rows that are worse than the rest
    issues.py       suspected label errors
    nearest.py      the training texts most like a text
    verdicts.py     what people said of labels: a journal, never rewritten
    corrections.py  a new version of the data set, and training again on it

Nothing here changes data in place. No torch or sklearn is imported.
"""

from labelfusion.review.issues import label_issues, label_margin
from labelfusion.review.mistakes import mistakes, row_table
from labelfusion.review.nearest import Neighbours, nearest, neighbours
from labelfusion.review.rows import ReviewRows, review_rows
from labelfusion.review.slices import Candidates, find_slices, slice_candidates

__all__ = [
    "Candidates",
    "Neighbours",
    "ReviewRows",
    "find_slices",
    "label_issues",
    "label_margin",
    "mistakes",
    "nearest",
    "neighbours",
    "review_rows",
    "row_table",
    "slice_candidates",
]
