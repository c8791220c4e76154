"""The values that flow through LabelFusion: frozen and plain, they need no model.

Knows shapes and invariants. Does not know files, encoders, LLMs or how anything is fitted.
Arrays are numpy; `n` is rows, `k` labels, `d` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from labelfusion.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SignalKind = Literal["probabilities", "logits", "hard"]
LABEL_SEPARATOR = "|"
SIGNAL_KINDS: tuple[SignalKind, ...] = ("probabilities", "logits", "hard")


@dataclass(frozen=True)
class LabelSpace:
    """The labels, in their fixed order, and whether a text may have several (or none) of them.

    `descriptions` holds one line a label for LLM prompts; labels without one are simply absent.
    """

    names: tuple[str, ...]
    multi_label: bool
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            repeated = sorted({n for n in self.names if self.names.count(n) > 1})
            raise InputError("Label names repeat", found=", ".join(repeated), remedy="Rename them")
        if not self.names:
            raise InputError("There are no labels", remedy="Name at least one label")

    def __len__(self) -> int:
        return len(self.names)

    def joined(self, decisions: np.ndarray) -> list[str]:
        """(n, k) indicators -> the names of each row's labels, joined by "|"; "" for none."""
        names = np.asarray(self.names, dtype=object)
        return [LABEL_SEPARATOR.join(names[row]) for row in decisions.astype(bool)]

    def index(self, name: str) -> int:
        """Position of `name`. Raises InputError for a label that is not in the space."""
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(
                f"Unknown label {name!r}", expected=f"one of {', '.join(self.names)}"
            ) from None


@dataclass(frozen=True)
class Dataset:
    """Texts with their (possibly absent) labels.

    Attributes:
        ids: (n,) unique strings.
        texts: n strings.
        targets: (n, k) int8 indicators; rows that are not labelled are all 0.
        labelled: (n,) bool.
        space: the labels.
        split: (n,) str, the user's own split ("train", "test" or "" for neither), or None.
        row_numbers: (n,) int, line of the row as a spreadsheet shows it (the header is row 1).
        metadata: the other columns, n rows, default index.
        name: what to call the data in messages (usually the file's name).
    """

    ids: np.ndarray
    texts: tuple[str, ...]
    targets: np.ndarray
    labelled: np.ndarray
    space: LabelSpace
    split: np.ndarray | None
    row_numbers: np.ndarray
    metadata: pd.DataFrame
    name: str = "data"

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Dataset:
        """The rows at integer positions `rows`, in that order."""
        return replace(
            self,
            ids=self.ids[rows],
            texts=tuple(self.texts[i] for i in rows),
            targets=self.targets[rows],
            labelled=self.labelled[rows],
            split=None if self.split is None else self.split[rows],
            row_numbers=self.row_numbers[rows],
            metadata=self.metadata.iloc[rows].reset_index(drop=True),
        )


@dataclass(frozen=True)
class Split:
    """Integer positions into a Dataset. Disjoint; dropped rows are in none.

    `predict`: rows without a label that the run labels, because it has no rows to be tested on.
    """

    train: np.ndarray
    test: np.ndarray
    predict: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))


@dataclass(frozen=True)
class Signal:
    """What one source says about n texts.

    Attributes:
        source: the source's name ("ml", "llm", …), unique within a run.
        scores: (n, k) float64 in the order of the LabelSpace; rows not present are NaN.
        kind: what the numbers are. It is always told by the producer and never guessed here.
        present: (n,) bool. A missing row is missing: never zeros, never a uniform row.
        origin: where it came from (model, prompt version, file), for people.
    """

    source: str
    scores: np.ndarray
    kind: SignalKind
    present: np.ndarray
    origin: str = ""

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.present.shape != self.scores.shape[:1]:
            raise InputError(
                f"Signal {self.source!r} has shapes that do not fit",
                expected="scores (n, k) and present (n,)",
                found=f"{self.scores.shape} and {self.present.shape}",
            )
        if self.kind not in SIGNAL_KINDS:
            raise InputError(
                f"Signal {self.source!r} has an unknown kind",
                expected=" | ".join(SIGNAL_KINDS),
                found=str(self.kind),
            )
        if not np.isfinite(self.scores[self.present]).all():
            row = int(np.flatnonzero(~np.isfinite(self.scores).all(axis=1) & self.present)[0])
            raise InputError(
                f"Signal {self.source!r} has a score that is not a finite number",
                where=f"row position {row}",
                remedy="Mark the row as missing instead",
            )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def coverage(self) -> float:
        """Share of rows that are present, 0..1 (1 for no rows)."""
        return float(self.present.mean()) if len(self) else 1.0

    def take(self, rows: np.ndarray) -> Signal:
        """The rows at integer positions `rows`, in that order."""
        return replace(self, scores=self.scores[rows], present=self.present[rows])

    @staticmethod
    def missing(source: str, n: int, k: int, origin: str = "") -> Signal:
        """A signal that says nothing about any of n rows."""
        return Signal(
            source, np.full((n, k), np.nan), "probabilities", np.zeros(n, dtype=bool), origin
        )


@dataclass(frozen=True)
class Prediction:
    """Fused output for n texts.

    Attributes:
        space: the labels.
        probabilities: (n, k); rows sum to 1 for multi-class, each entry on its own otherwise.
        decisions: (n, k) bool, the labels given after the decision rule.
        sources: names of the S sources of the model, in order.
        present: (n, S) bool, which sources a row's prediction used. A row with none is the prior.
        contributions: (n, S, k) exact Shapley values in fused log-odds, or None if not asked for.
    """

    space: LabelSpace
    probabilities: np.ndarray
    decisions: np.ndarray
    sources: tuple[str, ...]
    present: np.ndarray
    contributions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    def labels(self) -> list[tuple[str, ...]]:
        """The names decided for each row (exactly one a row for multi-class)."""
        names = np.asarray(self.space.names, dtype=object)
        return [tuple(names[row]) for row in self.decisions]


EventStatus = Literal["start", "progress", "done", "note"]


@dataclass(frozen=True)
class Event:
    """Something that happened in long work, for whoever watches it.

    `stage` is one of `STAGES`; `done`/`total` count what `unit` names; `data` is JSON-ready.
    """

    stage: str
    status: EventStatus
    message: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    data: Mapping[str, object] = field(default_factory=dict)


STAGES: tuple[str, ...] = ("check", "split", "ml", "llm", "fusion", "evaluate", "save")
OnEvent = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """The OnEvent for callers that do not watch."""


@dataclass(frozen=True)
class Rows:
    """Texts to be scored, with the ids that recorded scores and caches are looked up by."""

    ids: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Rows:
        """The rows at integer positions `rows`, in that order."""
        at: list[int] = rows.tolist()
        return Rows([self.ids[i] for i in at], [self.texts[i] for i in at])
