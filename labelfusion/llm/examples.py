"""Few-shot examples: which labelled training texts a prompt shows.

Draws from the training rows a run lends and from nothing else. A text that is scored never sees
its own label: its example is left out and the next one takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from labelfusion.config import ExamplesConfig
from labelfusion.errors import ConfigError
from labelfusion.types import LabelSpace


@dataclass(frozen=True)
class Example:
    """A labelled text as the prompt shows it."""

    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class TrainingTexts:
    """The labelled rows examples may come from.

    Attributes:
        ids: m ids.
        texts: m texts.
        targets: (m, k) indicators in the order of the LabelSpace.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    targets: np.ndarray


class ExamplePicker:
    """Chooses the examples of one source.

    `strategy`: "static" the first rows, "stratified" the labels in turn, "knn" the most similar
    training texts by TF-IDF cosine, most similar last.

    Raises ConfigError: examples are asked for and there are no training texts.
    """

    def __init__(
        self, config: ExamplesConfig, space: LabelSpace, training: TrainingTexts | None
    ) -> None:
        if config.strategy != "none" and (training is None or not len(training.texts)):
            raise ConfigError(
                "Few-shot examples need labelled training texts",
                where="prompt.examples.strategy",
                found=config.strategy,
                remedy="Label some texts first, or set the strategy to none",
            )
        self._config, self._space = config, space
        self._training = training or TrainingTexts((), (), np.zeros((0, len(space))))

    def shared(self, text: str) -> tuple[Example, ...]:
        """The examples in the prefix of `text`: the same for every text that is none of them."""
        if self._config.strategy not in ("static", "stratified"):
            return ()
        chosen = [i for i in self._order if self._training.texts[i] != text]
        return tuple(self._example(i) for i in chosen[: self._config.count])

    def nearest(self, texts: Sequence[str]) -> list[tuple[Example, ...]]:
        """The examples of each text alone (kNN), most similar last; () for other strategies."""
        if self._config.strategy != "knn" or not texts:
            return [()] * len(texts)
        return [
            tuple(self._example(i) for i in self._neighbours(text, similarity))
            for text, similarity in zip(texts, self._similarities(texts), strict=True)
        ]

    def _neighbours(self, text: str, similarity: np.ndarray) -> list[int]:
        ranked = np.argsort(-similarity, kind="stable").tolist()
        others = [i for i in ranked if self._training.texts[i] != text]
        return others[: self._config.count][::-1]

    def _similarities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, m) cosine similarities."""
        vectoriser, vectors = self._index
        return (vectoriser.transform(texts) @ vectors.T).toarray()

    @cached_property
    def _index(self) -> tuple[Any, Any]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Character n-grams need no language, no tokenizer and no minimum length.
        vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        return vectoriser, vectoriser.fit_transform(self._training.texts)

    @cached_property
    def _order(self) -> list[int]:
        """Training rows in the order they are taken as examples; repeated texts once."""
        seen: dict[str, int] = {}
        for i, text in enumerate(self._training.texts):
            seen.setdefault(text, i)
        rows = list(seen.values())
        if self._config.strategy == "static":
            return rows[: self._config.count + 1]
        return self._in_turn(rows)[: self._config.count + 1]

    def _in_turn(self, rows: list[int]) -> list[int]:
        """The first row of every label, then the second of every label, and so on."""
        targets = self._training.targets[rows]
        queues = [[rows[i] for i in np.flatnonzero(column)] for column in targets.T]
        without = [rows[i] for i in np.flatnonzero(~targets.any(axis=1))]
        order: dict[int, None] = {}
        for turn in range(max(map(len, [*queues, without]), default=0)):
            order |= {queue[turn]: None for queue in [*queues, without] if turn < len(queue)}
        return list(order)

    def _example(self, row: int) -> Example:
        names = self._space.names
        chosen = np.flatnonzero(self._training.targets[row])
        return Example(self._training.texts[row], tuple(names[i] for i in chosen))
