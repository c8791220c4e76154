"""Label the rows of a file with a finished run's model.

Puts reading, scoring and the classifier together, and writes the result as a table. Does not train.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from labelfusion.classifier import score_llm, score_sent
from labelfusion.config import CostConfig, LLMConfig, RunConfig
from labelfusion.data import Table, load_dataset, make_split, read_rows
from labelfusion.errors import InputError
from labelfusion.explain import deciding_sources, explanation_table
from labelfusion.files import check_writable, write_atomically
from labelfusion.fusion.routing import Override
from labelfusion.llm import ScoringContext, TrainingTexts, scoring_session
from labelfusion.pipeline import training_texts
from labelfusion.runs import Run
from labelfusion.runs.save import prediction_frame
from labelfusion.shift import Drift, Unlike
from labelfusion.types import LabelSpace, OnEvent, Prediction, Rows, Signal, ignore_event
from labelfusion.workspace import Workspace

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class LabelledRows:
    """What a run's model says of n rows.

    Attributes:
        signals: what each source said; LLM sources that were not asked about a row are missing.
        sent: (n,) bool, the rows the LLM sources were asked about.
        prior: (k,) log-odds that contributions start from.
        unlike, drift: the rows beside the training texts; None for a run that kept none of these.
    """

    table: Table
    rows: Rows
    signals: dict[str, Signal]
    sent: np.ndarray
    prediction: Prediction
    prior: np.ndarray
    unlike: Unlike | None
    drift: Drift | None


def label_rows(
    run: Run,
    path: Path,
    *,
    scores: Path | None = None,
    routing: Override = "saved",
    contributions: bool = True,
    workspace: Workspace | None = None,
    on_event: OnEvent = ignore_event,
    ledger_name: str | None = None,
    costs: CostConfig | None = None,
) -> LabelledRows:
    """Read a file, score its rows and label them.

    Args:
        scores: recorded scores of the first LLM source for these rows; they must hold some of
            them. Without it a recorded source is looked up in the run's own file of scores.
        routing: which texts the LLM sources are asked about: those the run's saved policy sends,
            "always" all, or "never" any, which asks and pays nothing.
        workspace: where embeddings, LLM answers and the ledger are kept.
        ledger_name: what the ledger books it under, and counts the budget by; the run's id if
            absent.
        costs: budget and prices in place of the run's own.

    Raises LabelFusionError for input that cannot be used.
    """
    config = run.config
    table, rows = read_rows(path, config.data)
    workspace = workspace or Workspace.at()
    classifier = run.model(workspace.cache)
    signals = classifier.encode(rows, on_event)
    sent = classifier.route(rows, signals, override=routing)
    asked = config.model_copy(
        update={"llm": _entries(config, scores), "costs": costs or config.costs}
    )
    with scoring_session(asked, workspace, ledger_name or run.id) as context:
        context = replace(context, training=run_examples(run))
        signals |= _llm_signals(sent, rows, classifier.space, asked, scores, on_event, context)
    prediction = classifier.predict(rows, signals, on_event=on_event, contributions=contributions)
    selected = bool(sent.any()) and not bool(sent.all())
    compared = classifier.compare(rows, signals, prediction, selected=selected, on_event=on_event)
    unlike, drift = compared or (None, None)
    prior = classifier.fusion.prior_log_odds()
    return LabelledRows(table, rows, signals, sent, prediction, prior, unlike, drift)


def result_table(labelled: LabelledRows) -> pd.DataFrame:
    """The file's columns, then prediction, p_<label>, <source>_present, contributions if asked for,
    unlike_training (bool) and unlike_training_reason.

    The last two are absent for a run that kept nothing of its training texts.
    Raises InputError where the file has such columns already.
    """
    made = prediction_frame(labelled.prediction)
    if labelled.unlike is not None:
        made["unlike_training"] = labelled.unlike.flagged
        made["unlike_training_reason"] = list(labelled.unlike.reasons)
    return _joined(labelled.table.frame, made, labelled.table.name)


def explained_table(labelled: LabelledRows) -> pd.DataFrame:
    """One row a text and label: id, then the columns of `labelfusion.explain.explanation_table`,
    and decided_by. Needs a prediction with contributions."""
    prediction = labelled.prediction
    table = explanation_table(prediction, labelled.prior)
    k = len(prediction.space)
    table["text"] = np.repeat(np.asarray(labelled.rows.texts, dtype=object), k)
    table.insert(0, "id", np.repeat(np.asarray(labelled.rows.ids, dtype=object), k))
    table["decided_by"] = np.repeat(np.asarray(deciding_sources(prediction), dtype=object), k)
    return table


def _entries(config: RunConfig, scores: Path | None) -> list[LLMConfig]:
    entries = list(config.llm)
    if scores is not None:
        entries[:1] = [_recorded(entries, scores)]
    return entries


def run_examples(run: Run) -> TrainingTexts | None:
    """The training rows of the run, if its prompts show examples."""
    if all(entry.prompt.examples.strategy == "none" for entry in run.config.llm):
        return None
    dataset = load_dataset(run.config.data)
    return training_texts(dataset, make_split(dataset, run.config.data, run.config.seed))


def _llm_signals(
    sent: np.ndarray,
    rows: Rows,
    space: LabelSpace,
    config: RunConfig,
    scores: Path | None,
    on_event: OnEvent,
    context: ScoringContext,
) -> dict[str, Signal]:
    found = {}
    for entry in config.llm:
        ask = partial(
            score_llm,
            entry,
            space=space,
            config=config,
            on_event=on_event,
            context=context,
            must_match=scores is not None and entry is config.llm[0],
        )
        found[entry.name] = score_sent(sent, rows, space, ask, entry.name)
    return found


def _recorded(entries: list[LLMConfig], scores: Path) -> LLMConfig:
    if not entries:
        raise InputError(
            "The run has no LLM source, so scores have no use",
            where=str(scores),
            remedy="Leave --scores out",
        )
    return entries[0].model_copy(update={"provider": "recorded", "path": str(scores)})


def _joined(given: pd.DataFrame, made: pd.DataFrame, name: str) -> pd.DataFrame:
    both = [column for column in made.columns if column in given.columns]
    if both:
        raise InputError(
            "The file already has columns that the prediction would write",
            where=name,
            found=", ".join(both[:5]),
            remedy="Rename or remove them",
        )
    return pd.concat([given.reset_index(drop=True), made], axis=1)


def check_output(path: Path, *, force: bool) -> None:
    """Raise InputError unless a table may be written to `path`."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            "The kind of the output file is unknown",
            where=str(path),
            expected=f"a name that ends with {', '.join(SUFFIXES)}",
            found=path.suffix or "no ending",
        )
    check_writable(path, force=force)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as its name's ending says, atomically and with every digit."""
    suffix = path.suffix.lower()

    def write(to: Path) -> None:
        if suffix == ".parquet":
            frame.to_parquet(to, index=False)
        elif suffix == ".jsonl":
            frame.to_json(to, orient="records", lines=True, force_ascii=False, double_precision=15)
        else:
            frame.to_csv(to, index=False, sep="\t" if suffix == ".tsv" else ",")

    write_atomically(path, write)
