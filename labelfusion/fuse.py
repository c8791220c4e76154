"""Fuse scores that two tables already hold: fit on one, measure on the other.

Knows columns `<prefix><label>` of 0/1 gold and `<source>_<label>` of scores. Trains no encoder and
asks no LLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.config import DataConfig, FusionConfig
from labelfusion.data import Table, read_table
from labelfusion.data.labels import read_labels
from labelfusion.errors import ConfigError, InputError, did_you_mean
from labelfusion.evaluation.metrics import evaluate
from labelfusion.fusion.model import FusionModel
from labelfusion.score_kinds import detect_kind
from labelfusion.types import SIGNAL_KINDS, LabelSpace, Prediction, Signal

HEADLINE = ("accuracy", "macro_f1", "nll")


@dataclass(frozen=True)
class _Part:
    """The labelled rows of one table: targets (n, k), and scores (n, k) by source."""

    space: LabelSpace
    targets: np.ndarray
    scores: Mapping[str, np.ndarray]


def fuse_tables(
    train: Path,
    test: Path,
    sources: Sequence[str],
    *,
    label_prefix: str = "y_",
    multi_label: bool = False,
    config: FusionConfig | None = None,
    kinds: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit on the rows of `train`, measure on those of `test`; returns a JSON-ready dict.

    Gold columns are `<label_prefix><label>`, in the order of the training table; a row whose gold
    is empty is left out. A row whose cells of a source are all empty is missing for that source.

    Args:
        kinds: what a source's numbers are; detected for the others, and said in the result.

    Returns:
        sources.<name>.{kind, kind_reason, accuracy, macro_f1, nll}, fusion.{…}, chosen, reason,
        candidates, n_train, n_test.

    Raises:
        InputError: a file, column or cell cannot be used.
        ConfigError: an unknown kind, method or source in `kinds`.
    """
    _check_kinds(kinds or {}, sources)
    table = read_table(train)
    labels = _labels(table, label_prefix)
    fitted_on = _part(table, labels, sources, label_prefix, multi_label)
    measured_on = _part(read_table(test), labels, sources, label_prefix, multi_label)
    found = {name: _kind(name, kinds or {}, fitted_on, measured_on) for name in sources}
    signals, test_signals = (
        {name: _signal(name, part.scores[name], found[name][0]) for name in sources}
        for part in (fitted_on, measured_on)
    )
    space = fitted_on.space
    model = FusionModel.fit(signals, fitted_on.targets, space=space, config=config, seed=seed)
    alone = {
        name: {"kind": found[name][0], "kind_reason": found[name][1]}
        | _figures(measured_on, model.predict_alone(test_signals[name]))
        for name in sources
    }
    choice = model.choice.to_dict()
    return {
        "sources": alone,
        "fusion": _figures(measured_on, model.predict(test_signals)),
        "chosen": choice["chosen"],
        "reason": choice["reason"],
        "candidates": choice["candidates"],
        "n_train": len(fitted_on.targets),
        "n_test": len(measured_on.targets),
    }


def _check_kinds(kinds: Mapping[str, str], sources: Sequence[str]) -> None:
    for name, kind in kinds.items():
        if name not in sources:
            raise ConfigError(
                f"A kind is told for {name!r}, which is no source",
                expected=f"one of {', '.join(sources)}",
                remedy=did_you_mean(name, sources),
            )
        if kind not in SIGNAL_KINDS:
            raise ConfigError(
                f"The kind of {name!r} is unknown",
                expected=" | ".join(SIGNAL_KINDS),
                found=kind,
                remedy=did_you_mean(kind, SIGNAL_KINDS),
            )


def _labels(table: Table, prefix: str) -> list[str]:
    labels = [c.removeprefix(prefix) for c in table.columns if c.startswith(prefix) and c != prefix]
    if len(labels) < 2:
        raise InputError(
            "The gold columns are not there",
            where=table.name,
            expected=f"a column {prefix}<label> of 0 and 1 for each of two or more labels",
            found=f"the columns {', '.join(table.columns[:20])}",
            remedy="Name the prefix of the gold columns with --label-prefix",
        )
    return labels


def _part(
    table: Table, labels: Sequence[str], sources: Sequence[str], prefix: str, multi_label: bool
) -> _Part:
    columns = [prefix + label for label in labels]
    gold = DataConfig(label_columns=columns, multi_label=multi_label)
    space, targets, labelled = read_labels(table, gold)
    if not labelled.any():
        raise InputError("No row has a label", where=table.name, expected="0 or 1 in gold columns")
    scores = {name: _scores(table, name, labels)[labelled] for name in sources}
    return _Part(replace(space, names=tuple(labels)), targets[labelled], scores)


def _scores(table: Table, source: str, labels: Sequence[str]) -> np.ndarray:
    """(n, k) scores of a source; a row whose cells are all empty is NaN. Raises InputError."""
    columns = [f"{source}_{label}" for label in labels]
    cells = np.array(
        [[cell.strip() for cell in table.cells(column, "score column")] for column in columns]
    ).T
    absent = (cells == "").all(axis=1)
    scores = np.full(cells.shape, np.nan)
    for i in np.flatnonzero(~absent):
        for j, column in enumerate(columns):
            scores[i, j] = _number(cells[i, j], table.place(int(i), column))
    return scores


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(
            "A score cannot be used",
            where=where,
            expected="a finite number, or nothing in all of the source's cells of the row",
            found=repr(str(cell)) if cell else "an empty cell",
            remedy="Correct the cell, or empty all of the source's cells in this row",
        )
    return value


def _kind(name: str, told: Mapping[str, str], *parts: _Part) -> tuple[Any, str]:
    scores = np.concatenate([part.scores[name] for part in parts])
    kind, reason = detect_kind(scores, parts[0].space.multi_label)
    if name not in told:
        return kind, f"detected: {reason}"
    if told[name] != "logits" and kind == "logits":
        raise InputError(
            f"Scores of {name!r} are not {told[name]}",
            expected="numbers from 0 to 1",
            found=reason,
            remedy=f"Give --kind {name}=logits, or correct the scores",
        )
    return told[name], "told"


def _signal(name: str, scores: np.ndarray, kind: Any) -> Signal:
    return Signal(name, scores, kind, np.isfinite(scores[:, 0]))


def _figures(part: _Part, prediction: Prediction) -> dict[str, float]:
    metrics = evaluate(part.targets, prediction.probabilities, prediction.decisions, part.space)
    return {name: metrics[name] for name in HEADLINE}
