"""A finished run's rows, as review looks at them: gold, fused, and what each source says alone.

Test rows are predicted by the final model, training rows out of fold, so no row's own label had a
say in its prediction. Reads run folders and the data file. Finds and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from labelfusion.errors import RunError
from labelfusion.fusion.model import FusionModel
from labelfusion.types import LABEL_SEPARATOR, Dataset, LabelSpace, Prediction

if TYPE_CHECKING:
    from labelfusion.runs import Run

ABSENT = "absent"


@dataclass(frozen=True)
class ReviewRows:
    """n predicted rows of a run.

    Attributes:
        ids, row_numbers, split: (n,) id, line of the data file, and "test" or "train".
        gold, decided: (n, k) bool, the labels of the data and those of the fusion.
        probabilities: (n, k) fused.
        sources: names of the S sources, in the order of contributions.
        answers: what each source with a stored signal says by itself, calibrated.
        informed: (n,) bool, at least one source said something.
        contributions: (n, S, k) Shapley values in fused log-odds, or None.
        texts: n texts, or None where the data file is gone or another one.
        metadata: the file's other columns (n rows; no columns without the file).
    """

    space: LabelSpace
    ids: np.ndarray
    row_numbers: np.ndarray
    split: np.ndarray
    gold: np.ndarray
    decided: np.ndarray
    probabilities: np.ndarray
    sources: tuple[str, ...]
    answers: Mapping[str, Prediction]
    informed: np.ndarray
    contributions: np.ndarray | None
    texts: tuple[str, ...] | None
    metadata: pd.DataFrame

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def right(self) -> np.ndarray:
        """(n,) bool: the fusion has exactly the labels of the data."""
        return (self.gold == self.decided).all(axis=1)

    @cached_property
    def gold_names(self) -> np.ndarray:
        """(n,) labels of the data, joined by "|"."""
        return np.array(self.space.joined(self.gold), dtype=object)

    @cached_property
    def decided_names(self) -> np.ndarray:
        """(n,) labels of the fusion, joined by "|"."""
        return np.array(self.space.joined(self.decided), dtype=object)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(n,) probability of what was decided; multi-label: of its least sure label."""
        if not self.space.multi_label:
            return self.probabilities[np.arange(len(self)), self.decided.argmax(axis=1)]
        return np.where(self.decided, self.probabilities, 1 - self.probabilities).min(axis=1)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) characters of each text; zeros without texts."""
        return np.array([len(text) for text in self.texts or [""] * len(self)])

    def answered(self, source: str) -> np.ndarray:
        """(n,) bool: the source has an answer of its own."""
        answer = self.answers[source]
        return answer.present[:, answer.sources.index(source)]

    def verdicts(self, source: str) -> np.ndarray:
        """(n,) "right", "wrong" or "absent": the source by itself against the data's labels."""
        right = (self.answers[source].decisions == self.gold).all(axis=1)
        return np.where(self.answered(source), np.where(right, "right", "wrong"), ABSENT)

    def answer_names(self, source: str) -> np.ndarray:
        """(n,) labels that the source by itself gives; "absent" where it has no answer."""
        return self._answer_names[source]

    @cached_property
    def _answer_names(self) -> dict[str, np.ndarray]:
        named = {}
        for source, answer in self.answers.items():
            names = np.array(self.space.joined(answer.decisions), dtype=object)
            named[source] = np.where(self.answered(source), names, ABSENT)
        return named

    @cached_property
    def quadrants(self) -> np.ndarray:
        """(n,) e.g. "ml right, llm wrong"; "" without the answers of any source."""
        said = np.full(len(self), "", dtype=object)
        for source in self.answers:
            mark = np.where(said == "", "", ", ").astype(object)
            said = said + mark + f"{source} " + self.verdicts(source).astype(object)
        return said

    def position(self, row_id: str) -> int | None:
        """Where the row with this id is, or None."""
        found = np.flatnonzero(self.ids == row_id)
        return int(found[0]) if len(found) else None


def review_rows(run: Run, dataset: Dataset | None = None) -> ReviewRows:
    """The rows of a finished run.

    Args:
        run: the run.
        dataset: the data it was made from, for texts and metadata; without it there are none.

    Raises:
        RunError: the run is not finished or damaged, or its rows are not those of `dataset`.
    """
    table, task = run.predictions, run.metrics["task"]
    space = LabelSpace(tuple(task["labels"]), task["multi_label"])
    ids = table["id"].to_numpy(dtype=object)
    sources = tuple(name for name in run.config.source_names if f"{name}_present" in table)
    present = table[[f"{name}_present" for name in sources]].to_numpy(dtype=bool)
    taken = None if dataset is None else dataset.take(_positions(dataset, ids, run.id))
    return ReviewRows(
        space=space,
        ids=ids,
        row_numbers=table["row"].to_numpy(dtype=int),
        split=table["split"].to_numpy(dtype=object),
        gold=_indicators(table["gold"].tolist(), space),
        decided=_indicators(table["prediction"].tolist(), space),
        probabilities=table[[f"p_{name}" for name in space.names]].to_numpy(dtype=float),
        sources=sources,
        answers=_answers(run, space, ids),
        informed=np.asarray(present.any(axis=1)),
        contributions=_contributions(table, sources, space),
        texts=None if taken is None else taken.texts,
        metadata=pd.DataFrame(index=range(len(ids))) if taken is None else taken.metadata,
    )


def _positions(dataset: Dataset, ids: np.ndarray, run_id: str) -> np.ndarray:
    found = pd.Index(dataset.ids.astype(object)).get_indexer(pd.Index(ids))
    if (found < 0).any():
        raise RunError(
            "The data does not hold a row of the run",
            where=run_id,
            expected=f"id {ids[int(np.argmax(found < 0))]!r} in {dataset.name}",
            remedy="Give the data file that the run was made from",
        )
    return found


def _indicators(joined: list[str], space: LabelSpace) -> np.ndarray:
    """(n, k) bool of labels joined by LABEL_SEPARATOR."""
    codes, unique = pd.factorize(np.array(joined, dtype=object))
    rows = np.zeros((len(unique), len(space)), dtype=bool)
    for i, text in enumerate(unique):
        rows[i, [space.index(name) for name in split_names(text, space.names)]] = True
    return rows[codes]


@lru_cache(maxsize=4096)
def split_names(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that were joined by "|"; a name may hold that mark itself. Raises RunError."""
    found = _split(text, names) if text else ()
    if found is None:
        raise RunError(
            "A stored row has labels that the run does not know",
            expected=", ".join(names),
            found=repr(text),
            remedy="Repeat the run",
        )
    return found


def _split(text: str, names: tuple[str, ...]) -> tuple[str, ...] | None:
    if text in names:
        return (text,)
    for name in sorted(names, key=len, reverse=True):
        if text.startswith(name + LABEL_SEPARATOR):
            rest = _split(text[len(name) + 1 :], names)
            if rest is not None:
                return (name, *rest)
    return None


def _answers(run: Run, space: LabelSpace, ids: np.ndarray) -> dict[str, Prediction]:
    """Each stored signal's own prediction, as metrics.json measures it."""
    if not run.signals:
        return {}
    rows = pd.Index(run.splits["id"]).get_indexer(pd.Index(ids))
    model = FusionModel.load(run.folder.model, space)
    return {name: model.predict_alone(run.signals[name].take(rows)) for name in model.sources}


def _contributions(
    table: pd.DataFrame, sources: tuple[str, ...], space: LabelSpace
) -> np.ndarray | None:
    columns = [f"contribution_{source}_{name}" for source in sources for name in space.names]
    if not set(columns) <= set(table.columns):
        return None
    return table[columns].to_numpy(dtype=float).reshape(len(table), len(sources), len(space))
