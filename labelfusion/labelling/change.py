"""What a training with more labels changed: two runs on the same test texts.

Reads finished runs, and the suggestions the earlier one made for texts that were audited since.
Trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.errors import RunError
from labelfusion.evaluation import SystemOutput, bootstrap_metrics, compare_systems, evaluate
from labelfusion.evaluation.intervals import percentile_interval
from labelfusion.evaluation.metrics import exact_match
from labelfusion.labelling.gain import CurvePoint
from labelfusion.labelling.suggestions import FUSION, indicators
from labelfusion.runs import Run
from labelfusion.tasks import task_for
from labelfusion.types import LABEL_SEPARATOR, LabelSpace

METRICS = ("accuracy", "macro_f1", "nll")


@dataclass(frozen=True)
class Change:
    """Before and after on the same test texts.

    Attributes:
        before, after: ids of the runs.
        labels: training labels of each.
        texts: how many test texts both have answered without having been trained on them.
        table: metric, before, after, difference, low, high (paired bootstrap interval).
        sentence: the verdict on the primary metric, in words.
        changed: id, gold, before, after of the texts whose labels differ.
    """

    before: str
    after: str
    labels: tuple[int, int]
    texts: int
    table: pd.DataFrame
    sentence: str
    changed: pd.DataFrame


def what_changed(before: Run, after: Run, suggested: pd.DataFrame | None = None) -> Change:
    """Compare the fusions of two finished runs on the test texts of `after`.

    Args:
        suggested: what `before` said of texts that had no label then (id, prediction, p_<label>):
            where they were audited since, it counts as its answer.

    Raises RunError: a run is not finished, or the two have no test text in common.
    """
    space = _common_space(before, after)
    new = _test_rows(after)
    old = _answers(before, suggested)
    ids = new.index.intersection(old.index, sort=False)
    if not len(ids):
        raise RunError(
            "The runs have no test text in common",
            found=f"{before.id} and {after.id}",
            remedy="Compare runs of the same data set",
        )
    gold = indicators(new.loc[ids, "gold"].tolist(), space)
    systems = {"after": _system(new.loc[ids], space), "before": _system(old.loc[ids], space)}
    changed = pd.DataFrame(
        {
            "gold": new.loc[ids, "gold"],
            "before": old.loc[ids, "prediction"],
            "after": new.loc[ids, "prediction"],
        }
    ).rename_axis("id")
    table, sentence = _compared(gold, systems, space, after.config.evaluation, after.config.seed)
    labels = (before.metrics["n"]["train"], after.metrics["n"]["train"])
    differ = changed[changed["before"] != changed["after"]].reset_index()
    return Change(before.id, after.id, labels, len(ids), table, sentence, differ)


def _compared(
    gold: np.ndarray, systems: dict[str, SystemOutput], space: LabelSpace, config: Any, seed: int
) -> tuple[pd.DataFrame, str]:
    draws = bootstrap_metrics(gold, systems, space, draws=config.bootstrap_draws, seed=seed)
    figures = {
        name: evaluate(gold, system.probabilities, system.decisions, space)
        for name, system in systems.items()
    }
    rows = []
    for metric in METRICS:
        values = {name: figures[name][metric] for name in systems}
        low, high = percentile_interval(
            draws["after"][metric] - draws["before"][metric], config.confidence
        )
        difference = values["after"] - values["before"]
        rows.append((metric, values["before"], values["after"], difference, low, high))
    primary = task_for(space).primary_metric
    right = {name: exact_match(gold, system.decisions) for name, system in systems.items()}
    compared = compare_systems(
        "the model before",
        metric=primary,
        difference=figures["after"][primary] - figures["before"][primary],
        difference_draws=draws["after"][primary] - draws["before"][primary],
        fusion_right=right["after"],
        source_right=right["before"],
        confidence=config.confidence,
        fusion="the new model",
    )
    columns = ["metric", "before", "after", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns), compared["sentence"]


def _common_space(*runs: Run) -> LabelSpace:
    tasks = [run.metrics["task"] for run in runs]
    names = tuple(dict.fromkeys(name for task in tasks for name in task["labels"]))
    return LabelSpace(names, any(task["multi_label"] for task in tasks))


def _test_rows(run: Run) -> pd.DataFrame:
    rows = run.predictions
    return rows.loc[rows["split"] == "test", :].set_index("id")


def _system(rows: pd.DataFrame, space: LabelSpace) -> SystemOutput:
    """A run's answers over `space`; a label it did not know has probability 0."""
    p = rows.reindex(columns=[f"p_{name}" for name in space.names]).to_numpy(dtype=float)
    decided = indicators(rows["prediction"].tolist(), space).astype(bool)
    return SystemOutput(np.nan_to_num(p, nan=0.0), decided)


def suggested_rows(path: Any) -> pd.DataFrame:
    """What a run's kept suggestions say, as `what_changed` reads it, by row id."""
    frame = pd.read_parquet(path)
    frame = frame.loc[frame["source"] == FUSION, :].set_index("id")
    frame["prediction"] = [LABEL_SEPARATOR.join(labels) for labels in frame["suggested"]]
    return frame.drop(columns=["suggested", "source", "text"])


def curve_points(runs: Sequence[Run], suggested: Mapping[str, pd.DataFrame]) -> list[CurvePoint]:
    """The learning curve of finished runs on the test texts that all of them have answered.

    Args:
        suggested: by run id, what it said of texts that had no label then (`suggested_rows`).

    The run with the most labels comes first; one that has answered fewer than half of its test
    texts is left out.
    """
    ordered = sorted(runs, key=lambda run: run.metrics["n"]["train"], reverse=True)
    if not ordered:
        return []
    gold = _test_rows(ordered[0])["gold"]
    shared, kept = gold.index, []
    for run in ordered:
        answers = _answers(run, suggested.get(run.id))["prediction"]
        common = shared.intersection(answers.index, sort=False)
        if 2 * len(common) >= len(gold) and len(common):
            shared = common
            kept.append((run.metrics["n"]["train"], answers))
    return [
        CurvePoint(n, (answers.loc[shared] == gold.loc[shared]).to_numpy(dtype=bool))
        for n, answers in kept
    ]


def _answers(run: Run, suggested: pd.DataFrame | None) -> pd.DataFrame:
    """What a run said of texts it was not trained on, by row id."""
    found = pd.concat([part for part in (_test_rows(run), suggested) if part is not None])
    return found.loc[~found.index.duplicated(), :]
