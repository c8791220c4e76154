"""Which source decided what: a prediction's contributions as tables, per text and over all texts.

The fused log-odds of every label are the prior's log-odds plus one contribution of each source
(exact Shapley values, `labelfusion.fusion.contributions`). Knows a Prediction with contributions.
Does not know files, runs or how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.errors import InputError
from labelfusion.types import Prediction

PRIOR = "prior"


def explanation_table(
    prediction: Prediction, prior: np.ndarray, labels: Sequence[Any] | np.ndarray | None = None
) -> pd.DataFrame:
    """One row a text and label; the numbers add up.

    Args:
        prediction: of n texts, with contributions.
        prior: (k,) log-odds, `FusionModel.prior_log_odds()`.
        labels: how the k labels are called; their names if absent.

    Returns:
        Columns text (position), label, probability, decided, prior, for each source
        `<source>_contribution` and `<source>_present`, and fused: log-odds, prior + contributions.

    Raises InputError for a prediction without contributions.
    """
    shares = _contributions(prediction)
    n, k = prediction.probabilities.shape
    frame: dict[str, Any] = {
        "text": np.repeat(np.arange(n), k),
        "label": np.tile(np.asarray(prediction.space.names if labels is None else labels), n),
        "probability": prediction.probabilities.ravel(),
        "decided": prediction.decisions.ravel(),
        "prior": np.tile(prior, n),
    }
    for s, name in enumerate(prediction.sources):
        frame[f"{name}_contribution"] = shares[:, s].ravel()
        frame[f"{name}_present"] = np.repeat(prediction.present[:, s], k)
    return pd.DataFrame(frame | {"fused": (prior + shares.sum(axis=1)).ravel()})


def deciding_sources(prediction: Prediction) -> list[str]:
    """Per text, the source whose contributions speak most for what was decided.

    Contributions to labels that were given count for it; where no label was given, those against
    the labels do. "prior" where no source speaks for the decision.
    """
    shares = _contributions(prediction)
    given = prediction.decisions
    direction = np.where(given.any(axis=1, keepdims=True), given.astype(float), -1.0)
    for_it = (shares * direction[:, None, :]).sum(axis=2)
    best = for_it.argmax(axis=1)
    spoken = for_it.max(axis=1) > 0
    return [prediction.sources[s] if yes else PRIOR for s, yes in zip(best, spoken, strict=True)]


def explanations(
    prediction: Prediction, prior: np.ndarray, ids: Sequence[str]
) -> list[dict[str, Any]]:
    """The same per text, JSON-ready: id, labels, decided_by, sources, and a part per label."""
    shares, deciders = _contributions(prediction), deciding_sources(prediction)
    fused = prior + shares.sum(axis=1)
    return [
        {
            "id": ids[i],
            "labels": list(given),
            "decided_by": deciders[i],
            "sources": [s for s, there in zip(prediction.sources, here, strict=True) if there],
            "explanation": [
                {
                    "label": label,
                    "probability": float(prediction.probabilities[i, j]),
                    "prior": float(prior[j]),
                    "contributions": {
                        name: float(shares[i, s, j]) for s, name in enumerate(prediction.sources)
                    },
                    "fused": float(fused[i, j]),
                }
                for j, label in enumerate(prediction.space.names)
            ],
        }
        for i, (given, here) in enumerate(zip(prediction.labels(), prediction.present, strict=True))
    ]


def global_contributions(prediction: Prediction) -> dict[str, Any]:
    """How much each source moves each label, over all texts on which it is present.

    Returns:
        {rows, sources{<source>: {rows, decides, mean_absolute, labels{<label>: {mean_absolute,
        mean_signed}}}}}: log-odds; `decides` is the share of all texts that the source decided,
        and the source's own `mean_absolute` is over its texts and all labels. None where a source
        is present on no text.

    Raises InputError for a prediction without contributions.
    """
    tally = ContributionTally()
    tally.add(prediction)
    return tally.to_dict()


class ContributionTally:
    """What `global_contributions` says, of predictions that come one after another."""

    def __init__(self) -> None:
        self._rows = 0
        self._sources: dict[str, _SourceSums] = {}

    def add(self, prediction: Prediction) -> None:
        """Count the texts of a prediction. Raises InputError if it holds no contributions."""
        shares = _contributions(prediction)
        deciders = np.array(deciding_sources(prediction), dtype=str)
        self._rows += len(prediction)
        for s, name in enumerate(prediction.sources):
            here = shares[prediction.present[:, s], s]
            sums = _SourceSums.of(here, int((deciders == name).sum()), prediction.space.names)
            self._sources[name] = self._sources[name] + sums if name in self._sources else sums

    def to_dict(self) -> dict[str, Any]:
        """As `global_contributions` returns it."""
        sources = {name: sums.means(self._rows) for name, sums in self._sources.items()}
        return {"rows": self._rows, "sources": sources}


@dataclass(frozen=True)
class _SourceSums:
    """Sums over the texts on which a source is present; `labels`: (k, 2), absolute and signed."""

    rows: int
    decided: int
    names: tuple[str, ...]
    absolute: float
    labels: np.ndarray

    @classmethod
    def of(cls, shares: np.ndarray, decided: int, names: Sequence[str]) -> _SourceSums:
        """Of (m, k) contributions."""
        labels = [(np.abs(column).sum(), column.sum()) for column in shares.T]
        return cls(
            len(shares), decided, tuple(names), float(np.abs(shares).sum()), np.array(labels)
        )

    def __add__(self, other: _SourceSums) -> _SourceSums:
        return _SourceSums(
            self.rows + other.rows,
            self.decided + other.decided,
            self.names,
            self.absolute + other.absolute,
            self.labels + other.labels,
        )

    def means(self, rows: int) -> dict[str, Any]:
        """`rows`: of all texts, those without the source too."""
        labels = {
            name: {
                "mean_absolute": _ratio(absolute, self.rows),
                "mean_signed": _ratio(signed, self.rows),
            }
            for name, (absolute, signed) in zip(self.names, self.labels.tolist(), strict=True)
        }
        return {
            "rows": self.rows,
            "mean_absolute": _ratio(self.absolute, self.rows * len(self.names)),
            "labels": labels,
            "decides": _ratio(self.decided, rows),
        }


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _contributions(prediction: Prediction) -> np.ndarray:
    if prediction.contributions is None:
        raise InputError(
            "The prediction holds no contributions",
            remedy="Predict with contributions=True",
        )
    return prediction.contributions
