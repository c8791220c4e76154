"""Rows labelled with a finished run's model, a chunk at a time, and what is written of them.

Puts scoring and the classifier together. Does not train; `labelfusion.scale` takes large files
through it.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from labelfusion.classifier import FusedClassifier, score_llm, score_sent
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.data import Table, load_dataset, make_split, read_rows
from labelfusion.errors import InputError
from labelfusion.explain import deciding_sources, explanation_table
from labelfusion.files import check_writable, spreadsheet_safe, write_atomically
from labelfusion.fusion.routing import Override, overridden
from labelfusion.llm import ScoringContext, TrainingTexts, scoring_session
from labelfusion.pipeline import training_texts
from labelfusion.runs import Run
from labelfusion.runs.save import prediction_frame
from labelfusion.shift import Drift, Reference, Tally, Unlike, drift_of
from labelfusion.types import LabelSpace, OnEvent, Prediction, Rows, Signal, ignore_event
from labelfusion.workspace import Workspace

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Wishes:
    """How rows are to be labelled.

    Attributes:
        routing: which texts the LLM sources are asked about: those the run's saved policy sends,
            "always" all, or "never" any, which asks and pays nothing.
        scores: recorded scores of the first LLM source for these rows; they must hold some of
            them. Without it a recorded source is looked up in the run's own file of scores.
        contributions: whether to compute them.
        drift_share: of the texts whose distances are kept for the whole file's comparison.
    """

    routing: Override = "saved"
    scores: Path | None = None
    contributions: bool = True
    drift_share: float = 1.0


@dataclass(frozen=True)
class Known:
    """Rows with what is known of them before anybody is asked; `sent`: (n,) bool, to be asked."""

    table: Table
    rows: Rows
    signals: dict[str, Signal]
    sent: np.ndarray


@dataclass(frozen=True)
class LabelledRows(Known):
    """What a run's model says of n rows.

    Attributes:
        signals: what each source said; LLM sources that were not asked about a row are missing.
        sent: (n,) bool, the rows the LLM sources were asked about.
        prior: (k,) log-odds that contributions start from.
        unlike, tally: the rows beside the training texts; None for a run that kept none of these.
        reference: these training texts.
    """

    prediction: Prediction
    prior: np.ndarray
    unlike: Unlike | None
    tally: Tally | None
    reference: Reference | None

    @property
    def drift(self) -> Drift | None:
        """The rows as a whole beside the training texts."""
        if self.tally is None or self.reference is None:
            return None
        return drift_of(self.reference, self.tally, self.prediction.space.names)


class Labeller:
    """A run's model at work on one chunk of rows after another."""

    def __init__(
        self,
        classifier: FusedClassifier,
        config: RunConfig,
        wishes: Wishes,
        context: ScoringContext,
    ) -> None:
        self._classifier, self._config = classifier, asked_config(config, wishes.scores)
        self._wishes, self._context = wishes, context
        self._prior = classifier.fusion.prior_log_odds()
        policy = overridden(classifier.routing, wishes.routing).policy
        # A tokenizer cannot be used by two threads at once.
        self._one_at_a_time = threading.Lock()
        # Texts are picked for being doubtful, whether or not that shows in one chunk of them.
        self._selects = policy not in ("always", "never")

    def encode(self, table: Table, rows: Rows, on_event: OnEvent = ignore_event) -> Known:
        """The part that asks nobody: encoder and routing. Safe beside `ask` in another thread."""
        with self._one_at_a_time:
            signals = self._classifier.encode(rows, on_event)
            sent = self._classifier.route(rows, signals, override=self._wishes.routing)
        return Known(table, rows, signals, sent)

    def ask(self, known: Known, on_event: OnEvent = ignore_event) -> LabelledRows:
        """The rest: LLM scores of the rows sent, and fusion."""
        rows, classifier = known.rows, self._classifier
        signals = dict(known.signals)
        for entry in self._config.llm:
            score = partial(self._score, entry, on_event)
            signals[entry.name] = score_sent(known.sent, rows, classifier.space, score, entry.name)
        with self._one_at_a_time:
            return self._fused(known, signals, on_event)

    def _fused(self, known: Known, signals: dict[str, Signal], on_event: OnEvent) -> LabelledRows:
        rows, classifier = known.rows, self._classifier
        prediction = classifier.predict(
            rows, signals, on_event=on_event, contributions=self._wishes.contributions
        )
        compared = classifier.compare(
            rows,
            signals,
            prediction,
            selected=self._selects,
            share=self._wishes.drift_share,
            on_event=on_event,
        )
        unlike, tally = compared or (None, None)
        return LabelledRows(
            known.table,
            rows,
            signals,
            known.sent,
            prediction,
            self._prior,
            unlike,
            tally,
            classifier.reference,
        )

    def _score(self, entry: LLMConfig, on_event: OnEvent, rows: Rows) -> Signal:
        return score_llm(
            entry,
            rows,
            self._classifier.space,
            self._config,
            on_event,
            context=self._context,
            must_match=False,
        )


def label_rows(
    run: Run,
    path: Path,
    wishes: Wishes | None = None,
    *,
    workspace: Workspace | None = None,
    on_event: OnEvent = ignore_event,
) -> LabelledRows:
    """Read a file that fits into memory, score its rows and label them.

    `workspace` is where embeddings, LLM answers and the ledger are kept; money is booked under the
    run's id. Raises LabelFusionError for input that cannot be used.
    """
    workspace, wishes = workspace or Workspace.at(), wishes or Wishes()
    table, rows = read_rows(path, run.config.data)
    classifier = run.model(workspace.cache)
    check_scores(run.config, wishes.scores, classifier.space, [rows])
    with scoring_session(run.config, workspace, run.id) as context:
        lent = replace(context, training=run_examples(run))
        labeller = Labeller(classifier, run.config, wishes, lent)
        return labeller.ask(labeller.encode(table, rows, on_event), on_event)


def asked_config(config: RunConfig, scores: Path | None) -> RunConfig:
    """The config with `scores` as the first LLM source, if given. Raises InputError."""
    if scores is None:
        return config
    if not config.llm:
        raise InputError(
            "The run has no LLM source, so scores have no use",
            where=str(scores),
            remedy="Leave --scores out",
        )
    entry = config.llm[0].model_copy(update={"provider": "recorded", "path": str(scores)})
    return config.model_copy(update={"llm": [entry, *config.llm[1:]]})


def check_scores(
    config: RunConfig, scores: Path | None, space: LabelSpace, chunks: Iterable[Rows]
) -> None:
    """Raise InputError unless `scores`, if given, hold some of the rows."""
    if scores is None:
        return
    asked = asked_config(config, scores)
    rows = Rows([], [])
    for rows in chunks:
        found = score_llm(asked.llm[0], rows, space, asked, must_match=False)
        if found.present.any():
            return
    score_llm(asked.llm[0], rows, space, asked, must_match=True)


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
    check_columns(labelled.table.columns, made.columns, labelled.table.name)
    return pd.concat([labelled.table.frame.reset_index(drop=True), made], axis=1)


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


def result_columns(classifier: FusedClassifier, *, contributions: bool) -> list[str]:
    """The columns that `result_table` adds to a file's own."""
    n_sources, k = len(classifier.source_names), len(classifier.space)
    none, shares = np.zeros((0, k)), np.zeros((0, n_sources, k))
    empty = Prediction(
        classifier.space,
        none,
        none.astype(bool),
        classifier.source_names,
        np.zeros((0, n_sources), dtype=bool),
        shares if contributions else None,
    )
    compared = ["unlike_training", "unlike_training_reason"] if classifier.reference else []
    return [*prediction_frame(empty).columns, *compared]


def check_columns(given: Iterable[str], made: Iterable[str], name: str) -> None:
    """Raise InputError where a file has columns already that would be added to it."""
    both = sorted(set(given) & set(made))
    if both:
        raise InputError(
            "The file already has columns that the prediction would write",
            where=name,
            found=", ".join(both[:5]),
            remedy="Rename or remove them",
        )


def run_examples(run: Run) -> TrainingTexts | None:
    """The training rows of the run, if its prompts show examples."""
    if all(entry.prompt.examples.strategy == "none" for entry in run.config.llm):
        return None
    dataset = load_dataset(run.config.data)
    return training_texts(dataset, make_split(dataset, run.config.data, run.config.seed))


def check_output(path: Path, *, force: bool) -> None:
    """Raise InputError unless a table may be written to `path`."""
    check_suffix(str(path))
    check_writable(path, force=force)


def check_suffix(name: str) -> None:
    """Raise InputError unless the ending names a kind of table that can be written."""
    suffix = Path(name).suffix
    if suffix.lower() not in SUFFIXES:
        raise InputError(
            "The kind of the output file is unknown",
            where=name,
            expected=f"a name that ends with {', '.join(SUFFIXES)}",
            found=suffix or "no ending",
        )


def write_table(
    path: Path, frame: pd.DataFrame, *, header: bool = True, excel_safe: bool = False
) -> None:
    """Write a table as its name's ending says, atomically and with every digit.

    Args:
        header: without it, CSV and TSV hold rows only, to be put below others.
        excel_safe: CSV and TSV hold no cell that a spreadsheet runs.
    """
    suffix = path.suffix.lower()

    def write(to: Path) -> None:
        if suffix == ".parquet":
            frame.to_parquet(to, index=False)
        elif suffix == ".jsonl":
            frame.to_json(to, orient="records", lines=True, force_ascii=False, double_precision=15)
        else:
            safe = spreadsheet_safe(frame) if excel_safe else frame
            quoting = csv.QUOTE_NONNUMERIC if excel_safe else csv.QUOTE_MINIMAL
            separator = "\t" if suffix == ".tsv" else ","
            safe.to_csv(to, index=False, sep=separator, header=header, quoting=quoting)

    write_atomically(path, write)
