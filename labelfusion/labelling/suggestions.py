"""What the models say of the texts that people are to label, made once and kept.

```
labels/<dataset>/suggestions/
  <by>.parquet   id, text, source, suggested, p_<label>…: a row a source and text
  <by>.lock      held while they are made
  <by>.log       what the process that makes them says; gone once they are there
```
`by` is a run's id, or "llm" for an LLM asked without any model. Knows scoring and the classifier.
Sends nothing to a provider unless `suggest_by_llm` is called, whose money goes the way of every
other request: estimate, budget, ledger, cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from labelfusion import jobs
from labelfusion.classifier import FusedClassifier, score_llm
from labelfusion.config import RunConfig
from labelfusion.costing import BudgetVerdict, judge
from labelfusion.costs import Estimate, PriceBook, estimate
from labelfusion.costs.prices import FREE_PROVIDERS
from labelfusion.data import load_dataset
from labelfusion.errors import InputError
from labelfusion.files import write_parquet
from labelfusion.labelling.acquisition import draw
from labelfusion.labelling.apply import keys_of
from labelfusion.labelling.journal import text_hash
from labelfusion.labelling.state import Key, match_rows
from labelfusion.llm import asks, check_entry, scoring_session
from labelfusion.llm.remote import plan_costs
from labelfusion.pipeline import rows_at
from labelfusion.queueing import held
from labelfusion.runs import Run
from labelfusion.tasks import signal_evidence, task_for
from labelfusion.types import LABEL_SEPARATOR, Dataset, LabelSpace, OnEvent, Signal, ignore_event
from labelfusion.workspace import Workspace

FUSION = "fusion"
LLM = "llm"
# A process that has been started says nothing before it has come up.
COMING_UP_S = 60.0


@dataclass(frozen=True)
class Suggestions:
    """Probabilities for the rows of a data set, over its label space as people label it.

    Attributes:
        by: the run's id, or "llm".
        sources: (n, k) by source name, NaN rows where it says nothing; without the fusion.
        fused: (n, k), what is suggested; NaN rows where nothing is.
        decided: (n, k) bool, the labels suggested.
    """

    by: str
    space: LabelSpace
    sources: Mapping[str, np.ndarray]
    fused: np.ndarray
    decided: np.ndarray

    def labels(self, row: int) -> tuple[str, ...]:
        """The labels suggested for a row; () where none is."""
        return tuple(
            name for name, on in zip(self.space.names, self.decided[row], strict=True) if on
        )

    @property
    def confidence(self) -> np.ndarray:
        """(n,) probability of the least sure decision of each row; NaN where there is none."""
        p = np.where(self.decided, self.fused, 1 - self.fused)
        if not self.space.multi_label:
            p = np.where(self.decided, self.fused, np.inf)
        least = p.min(axis=1)
        return np.where(np.isfinite(least), least, np.nan)


def folder_of(workspace: Workspace, dataset: str) -> Path:
    return workspace.labels / dataset / "suggestions"


def made_by(workspace: Workspace, dataset: str) -> list[str]:
    """Whose suggestions there are, the newest first."""
    found = folder_of(workspace, dataset).glob("[!.]*.parquet")
    return [p.stem for p in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)]


def read_suggestions(
    workspace: Workspace, name: str, by: str, dataset: Dataset, space: LabelSpace
) -> Suggestions:
    """Kept suggestions for the rows of `dataset`, whichever version of it they were made for.

    Raises InputError: there are none.
    """
    path = folder_of(workspace, name) / f"{by}.parquet"
    if not path.is_file():
        raise InputError("There are no such suggestions", where=name, found=by)
    frame = pd.read_parquet(path)
    rows = {key: i for i, key in enumerate(keys_of(dataset))}
    parts = {
        str(source): _aligned(part, rows, len(dataset), space)
        for source, part in frame.groupby("source", sort=False)
    }
    fused, decided = parts.pop(FUSION)
    return Suggestions(by, space, {source: p for source, (p, _) in parts.items()}, fused, decided)


def _aligned(
    part: pd.DataFrame, rows: Mapping[tuple[str, str], int], n: int, space: LabelSpace
) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) probabilities and decisions over `space` of one source's rows of the file."""
    columns = [f"p_{name}" for name in space.names]
    known = [column for column in columns if column in part.columns]
    scores = part.reindex(columns=columns).to_numpy(dtype=float)
    if len(known) < len(columns):
        # A label the model does not know yet: it gives it no probability.
        scores[:, [column not in part.columns for column in columns]] = 0.0
    marks = [set(labels) for labels in part["suggested"]]
    keys = list(zip(part["id"], part["text"], strict=True))
    places = match_rows(keys, rows)
    fused, decided = np.full((n, len(space)), np.nan), np.zeros((n, len(space)), dtype=bool)
    for key, values, given in zip(keys, scores, marks, strict=True):
        for i in places.get(key, ()):
            fused[i], decided[i] = values, [name in given for name in space.names]
    return fused, decided


def keep(
    workspace: Workspace,
    name: str,
    by: str,
    keys: Sequence[Key],
    space: LabelSpace,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Path:
    """Write suggestions for the m texts of `keys`.

    Args:
        space: the labels that the (m, k) probabilities and decisions of each of `parts` are over.
    """
    frames = [
        _part_frame(source, keys, scores, decided, space)
        for source, (scores, decided) in parts.items()
    ]
    path = folder_of(workspace, name) / f"{by}.parquet"
    write_parquet(path, pd.concat(frames, ignore_index=True))
    return path


def _part_frame(
    source: str, keys: Sequence[Key], scores: np.ndarray, decided: np.ndarray, space: LabelSpace
) -> pd.DataFrame:
    present = [int(i) for i in np.flatnonzero(~np.isnan(scores).any(axis=1))]
    names = np.asarray(space.names, dtype=object)
    values: dict[str, object] = {
        "id": [keys[i][0] for i in present],
        "text": [keys[i][1] for i in present],
        "source": [source] * len(present),
        "suggested": [list(names[decided[i]]) for i in present],
    }
    values |= {f"p_{name}": scores[present, j] for j, name in enumerate(space.names)}
    return pd.DataFrame(values)


def unlabelled(dataset: Dataset) -> np.ndarray:
    """Positions of the rows with a text and no label in the data."""
    return np.array(
        [i for i, text in enumerate(dataset.texts) if text and not dataset.labelled[i]], dtype=int
    )


def suggest_by_run(
    run: Run, workspace: Workspace, name: str, dataset: Dataset, on_event: OnEvent = ignore_event
) -> Path:
    """Let a finished run's model label the unlabelled rows, and keep what it says.

    Of the rows the run was trained and tested on, what it said of them unseen is kept too, for
    finding label errors. LLM sources speak only where their scores are recorded: nothing is asked
    or paid for. Raises LabelFusionError: the run has no model, or its encoder cannot be loaded.
    """
    classifier = run.model(workspace.cache)
    space, positions = classifier.space, unlabelled(dataset)
    rows = rows_at(dataset, positions)
    signals = classifier.encode(rows, on_event)
    for entry in run.config.llm:
        if not asks(entry):
            signals[entry.name] = score_llm(
                entry, rows, space, run.config, on_event, must_match=False
            )
    seen_keys, seen = _out_of_fold(run, space)
    parts = {
        source: _with_nothing(_calibrated(classifier, signal), len(seen_keys))
        for source, signal in signals.items()
    }
    fused = classifier.predict(rows, signals, on_event=on_event, contributions=False)
    known = fused.present.any(axis=1, keepdims=True)
    new = np.where(known, fused.probabilities, np.nan), fused.decisions
    parts[FUSION] = np.concatenate([new[0], seen[0]]), np.concatenate([new[1], seen[1]])
    keys = keys_of(dataset)
    return keep(workspace, name, run.id, [*(keys[i] for i in positions), *seen_keys], space, parts)


def _out_of_fold(run: Run, space: LabelSpace) -> tuple[list[Key], tuple[np.ndarray, np.ndarray]]:
    """What the run's fusion said of its labelled rows without having seen their labels."""
    rows = run.predictions
    by_id = {key[0]: key for key in keys_of(load_dataset(run.config.data))}
    rows = rows.loc[rows["id"].isin(list(by_id)), :]
    scores = rows[[f"p_{name}" for name in space.names]].to_numpy(dtype=float)
    decided = indicators(rows["prediction"].tolist(), space).astype(bool)
    return [by_id[i] for i in rows["id"]], (scores, decided)


def indicators(cells: Sequence[str], space: LabelSpace) -> np.ndarray:
    """(n, k) int8 of cells as `LabelSpace.joined` writes them."""
    position = {name: j for j, name in enumerate(space.names)}
    found = np.zeros((len(cells), len(space)), dtype=np.int8)
    for i, cell in enumerate(cells):
        whole = cell in position or not space.multi_label
        for name in [cell] if whole else cell.split(LABEL_SEPARATOR):
            if name:
                found[i, position[name]] = 1
    return found


def _with_nothing(part: tuple[np.ndarray, np.ndarray], more: int) -> tuple[np.ndarray, np.ndarray]:
    """`part` with `more` rows of which it says nothing."""
    scores, decided = part
    none = np.full((more, scores.shape[1]), np.nan)
    return np.concatenate([scores, none]), np.concatenate([decided, none > 0])


def _calibrated(classifier: FusedClassifier, signal: Signal) -> tuple[np.ndarray, np.ndarray]:
    alone = classifier.fusion.predict_alone(signal)
    return np.where(signal.present[:, None], alone.probabilities, np.nan), alone.decisions


def _alone(signal: Signal, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """What one source says by itself: uncalibrated probabilities, and the labels at one half."""
    task = task_for(space)
    p = task.probabilities(signal_evidence(task, signal))
    z = np.where(np.isnan(p), 0.0, signal_evidence(task, signal))
    return p, task.decide(z, np.zeros(len(space)), at_least_one=False)


def to_ask(dataset: Dataset, seed: int, count: int) -> np.ndarray:
    """Up to `count` unlabelled positions for an LLM, drawn at random: a larger count holds them."""
    positions = unlabelled(dataset)
    order = draw([text_hash(dataset.texts[i]) for i in positions], seed, "llm")
    return np.sort(positions[np.argsort(order, kind="stable")][:count])


def estimate_llm(
    config: RunConfig,
    workspace: Workspace,
    dataset: Dataset,
    space: LabelSpace,
    positions: np.ndarray,
) -> tuple[Estimate, BudgetVerdict]:
    """What asking the config's LLM about the rows at `positions` costs. Sends nothing."""
    billed = [entry for entry in config.llm if entry.provider not in FREE_PROVIDERS]
    rows, book = rows_at(dataset, positions), PriceBook.of(config.costs)
    with scoring_session(config, workspace, "estimate") as context:
        plans = [plan_costs(entry, rows, space, prices=book, context=context) for entry in billed]
        left = None if context.meter is None else context.meter.spend().left
    estimated = estimate(plans, left)
    return estimated, judge(estimated, left, config.costs.budget)


def suggest_by_llm(
    config: RunConfig,
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    space: LabelSpace,
    positions: np.ndarray,
    on_event: OnEvent = ignore_event,
) -> Path:
    """Ask the config's first LLM about the rows at `positions` without any model, and keep it.

    Recorded scores are read and cost nothing. Every answer is in the cache the moment it arrives.
    Raises LabelFusionError as `labelfusion.llm.score_rows` does.
    """
    entry = config.llm[0]
    check_entry(entry, space, config.costs)
    rows = rows_at(dataset, positions)
    run = f"suggest-{datetime.now():%Y%m%d-%H%M%S-%f}"
    with scoring_session(config, workspace, run) as context:
        signal = score_llm(entry, rows, space, config, on_event, context=context)
    scores, decided = _alone(signal, space)
    parts = {signal.source: (scores, decided), FUSION: (scores, decided)}
    keys = keys_of(dataset)
    return keep(workspace, name, LLM, [keys[i] for i in positions], space, parts)


@dataclass(frozen=True)
class Making:
    """Suggestions under way: `state` is working or failed, `message` the last that was said."""

    state: str
    message: str


def start(workspace: Workspace, dataset: str, by: str, more: Sequence[str] = ()) -> None:
    """Make suggestions in a process of its own, which outlives whoever started it.

    Does nothing while such suggestions are being made. `by`: a run's id or "llm"; `more`: further
    arguments of `labelfusion labels`.
    """
    before = how_far(workspace, dataset, by)
    if before and before.state == "working":
        return
    log = folder_of(workspace, dataset) / f"{by}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    arguments = ["labels", dataset, "--suggest", by, *more, "--workspace", str(workspace.root)]
    jobs.launch(arguments, log)


@contextmanager
def making(workspace: Workspace, dataset: str, by: str) -> Iterator[None]:
    """Held by the process that makes suggestions; its log goes once they are there.

    Raises InputError: another process makes them.
    """
    lock = folder_of(workspace, dataset) / f"{by}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with held(lock) as mine:
        if not mine:
            raise InputError("Another process is making these suggestions", where=by)
        yield
        lock.with_suffix(".log").unlink(missing_ok=True)


def how_far(workspace: Workspace, dataset: str, by: str) -> Making | None:
    """What became of `start`; None where nothing is under way, or the suggestions are there."""
    log = folder_of(workspace, dataset) / f"{by}.log"
    if not log.is_file():
        return None
    said = log.read_text("utf-8", errors="replace").strip().splitlines()
    with held(log.with_suffix(".lock")) as idle:
        coming_up = time.time() - log.stat().st_mtime < COMING_UP_S and not said
        state = "working" if coming_up or not idle else "failed"
    return Making(state, said[-1] if said else "")
