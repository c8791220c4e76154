"""What is wrong or worth knowing about a Dataset before it is used.

Reports and never changes data. Each finding is one sentence, the rows and what to do about them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from labelfusion.data.duplicates import DuplicateGroups, duplicate_groups, normalised
from labelfusion.types import Dataset, Split

Severity = Literal["info", "warning", "error"]

# Four characters a word-piece is an estimate for English; other scripts need more pieces.
CHARACTERS_PER_PIECE = 4
MAX_PIECES = 256
MAX_CHARACTERS = 20_000
FEW_EXAMPLES = 10


@dataclass(frozen=True)
class Finding:
    """One thing found in the data.

    Attributes:
        kind: A fixed name, e.g. "duplicate_text".
        severity: "error" stands in the way of training or of a fair test.
        message: One sentence.
        rows: Row numbers as a spreadsheet shows them.
        remedy: What to do, in the imperative.
    """

    kind: str
    severity: Severity
    message: str
    rows: tuple[int, ...]
    remedy: str

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "rows": list(self.rows),
            "remedy": self.remedy,
        }


def find_problems(dataset: Dataset, split: Split | None = None) -> list[Finding]:
    """Everything found in the data, errors first. Leakage needs a split, or the user's own."""
    filled = np.flatnonzero([bool(text.strip()) for text in dataset.texts])
    groups = duplicate_groups(dataset, filled)
    checks: list[Callable[[], list[Finding]]] = [
        lambda: _empty(dataset),
        lambda: _duplicates(dataset, groups),
        lambda: _conflicts(dataset),
        lambda: _leakage(dataset, split),
        lambda: _labels(dataset),
        lambda: _similar_labels(dataset),
        lambda: _lengths(dataset),
        lambda: _not_text(dataset),
        lambda: _unlabelled(dataset),
    ]
    found = [finding for check in checks for finding in check()]
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding.severity])


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _finding(
    dataset: Dataset, kind: str, severity: Severity, message: str, rows: np.ndarray, remedy: str
) -> Finding:
    numbers = tuple(int(row) for row in dataset.row_numbers[rows])
    return Finding(kind, severity, message, numbers, remedy)


def _empty(dataset: Dataset) -> list[Finding]:
    rows = np.flatnonzero([not text.strip() for text in dataset.texts])
    if not len(rows):
        return []
    message = f"{_count(len(rows), 'row has', 'rows have')} no text and cannot be used."
    return [
        _finding(
            dataset, "empty_text", "warning", message, rows, "Fill in the text or delete the row."
        )
    ]


def _duplicates(dataset: Dataset, groups: DuplicateGroups) -> list[Finding]:
    rows = groups.rows[~groups.first]
    if not len(rows):
        return []
    message = (
        f"{_count(len(rows), 'row repeats', 'rows repeat')} the text of an earlier row "
        "(case and spaces aside)."
    )
    remedy = "Nothing needs to be done: with data.deduplicate only the first is used."
    return [_finding(dataset, "duplicate_text", "warning", message, rows, remedy)]


def _conflicts(dataset: Dataset) -> list[Finding]:
    labelled = np.flatnonzero(dataset.labelled)
    if not len(labelled):
        return []
    groups = duplicate_groups(dataset, labelled)
    rows = groups.rows[groups.conflicting]
    if not len(rows):
        return []
    texts = len(np.unique(groups.group[groups.conflicting]))
    message = (
        f"{_count(texts, 'text occurs', 'texts occur')} with different labels "
        f"({len(rows):,} rows); data.deduplicate leaves these rows out."
    )
    remedy = "Decide which label is right, and correct the other rows."
    return [_finding(dataset, "conflicting_labels", "warning", message, rows, remedy)]


def _leakage(dataset: Dataset, split: Split | None) -> list[Finding]:
    if split is not None:
        train, test = split.train, split.test
    elif dataset.split is not None:
        train, test = (
            np.flatnonzero((dataset.split == part) & dataset.labelled) for part in ("train", "test")
        )
    else:
        return []
    known = {normalised(dataset.texts[i]) for i in train}
    rows = np.array([i for i in test if normalised(dataset.texts[i]) in known], dtype=np.int64)
    if not len(rows):
        return []
    message = (
        f"{_count(len(rows), 'test row has', 'test rows have')} a text that is also in the "
        "training rows, so the test flatters the model."
    )
    remedy = "Remove these texts from one of the two parts."
    return [_finding(dataset, "leakage", "error", message, rows, remedy)]


def _labels(dataset: Dataset) -> list[Finding]:
    if not dataset.labelled.any():
        return []
    counts = dataset.targets[dataset.labelled].sum(axis=0)
    found = [
        finding
        for j, count in enumerate(counts.tolist())
        if count < FEW_EXAMPLES
        for finding in [_rare_label(dataset, j, count)]
    ]
    if (counts > 0).sum() == 1 and not dataset.space.multi_label:
        name = dataset.space.names[int(counts.argmax())]
        message = f"Every labelled row has the label {name!r}, so there is nothing to learn."
        found.append(Finding("single_label", "error", message, (), "Add rows of another label."))
    return found


def _rare_label(dataset: Dataset, label: int, count: int) -> Finding:
    name = dataset.space.names[label]
    rows = np.flatnonzero(dataset.targets[:, label])
    if count == 0:
        message = f"No row has the label {name!r}, so it cannot be learned."
        remedy = "Label some rows with it, or leave it out."
        return _finding(dataset, "label_without_example", "warning", message, rows, remedy)
    if count == 1:
        message = f"The label {name!r} has one example, so it cannot be trained and tested."
    else:
        message = f"The label {name!r} has {count} examples: its figures will be uncertain."
    remedy = f"Label at least {FEW_EXAMPLES} rows with it, or merge it with another label."
    severity: Severity = "error" if count == 1 else "warning"
    return _finding(dataset, "rare_label", severity, message, rows, remedy)


def _similar_labels(dataset: Dataset) -> list[Finding]:
    by_name: dict[str, list[int]] = {}
    for j, name in enumerate(dataset.space.names):
        by_name.setdefault(normalised(name), []).append(j)
    found = []
    for members in by_name.values():
        if len(members) > 1:
            names = ", ".join(repr(dataset.space.names[j]) for j in members)
            rarest = min(members, key=lambda j: int(dataset.targets[:, j].sum()))
            rows = np.flatnonzero(dataset.targets[:, rarest])
            message = f"The labels {names} differ only in case or spaces and count as different."
            remedy = "Write them the same way if they mean the same."
            found.append(_finding(dataset, "similar_labels", "warning", message, rows, remedy))
    return found


def _lengths(dataset: Dataset) -> list[Finding]:
    lengths = np.array([len(text) for text in dataset.texts])
    found = []
    rows = np.flatnonzero(lengths > MAX_CHARACTERS)
    if len(rows):
        message = (
            f"{_count(len(rows), 'text has', 'texts have')} more than {MAX_CHARACTERS:,} "
            "characters, which LLMs are slow and expensive to read."
        )
        remedy = "Shorten them, or check that a cell does not hold several texts."
        found.append(_finding(dataset, "very_long_text", "warning", message, rows, remedy))
    rows = np.flatnonzero(
        (lengths > MAX_PIECES * CHARACTERS_PER_PIECE) & (lengths <= MAX_CHARACTERS)
    )
    if len(rows):
        message = (
            f"{_count(len(rows), 'text is', 'texts are')} probably longer than {MAX_PIECES} "
            f"word-pieces (about {MAX_PIECES * CHARACTERS_PER_PIECE:,} characters); the encoder "
            "reads the beginning only."
        )
        remedy = "Put what matters first, or raise ml.max_tokens if the encoder can read more."
        found.append(_finding(dataset, "long_text", "info", message, rows, remedy))
    return found


def _not_text(dataset: Dataset) -> list[Finding]:
    rows = np.flatnonzero([_wordless(text) for text in dataset.texts])
    if not len(rows):
        return []
    message = (
        f"{_count(len(rows), 'text has', 'texts have')} no words (digits and signs only, or one "
        "letter)."
    )
    remedy = "Check that the right column is the text, and delete rows that mean nothing."
    return [_finding(dataset, "not_text", "warning", message, rows, remedy)]


def _wordless(text: str) -> bool:
    if not text.strip():
        return False
    # One ideograph is a word, one Latin letter is not.
    return (len(text.strip()) == 1 and text.isascii()) or not any(c.isalpha() for c in text)


def _unlabelled(dataset: Dataset) -> list[Finding]:
    rows = np.flatnonzero(
        ~dataset.labelled & np.array([bool(text.strip()) for text in dataset.texts], dtype=bool)
    )
    if not len(rows):
        return []
    message = f"{_count(len(rows), 'row has', 'rows have')} no label yet."
    remedy = "Nothing needs to be done: they are kept for labelling and prediction."
    return [_finding(dataset, "unlabelled", "info", message, rows, remedy)]
