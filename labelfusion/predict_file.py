"""Label the rows of a file with a finished run's model.

Puts reading, scoring and the classifier together, and writes the result as a table. Does not train.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from labelfusion.classifier import FusedClassifier, score_llm
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.data import load_dataset, make_split, read_rows
from labelfusion.errors import InputError
from labelfusion.files import check_writable, write_atomically
from labelfusion.llm import ScoringContext, TrainingTexts, scoring_session
from labelfusion.pipeline import training_texts
from labelfusion.runs import Run
from labelfusion.runs.save import prediction_frame
from labelfusion.types import OnEvent, Rows, Signal, ignore_event
from labelfusion.workspace import Workspace

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def predict_file(
    run: Run,
    path: Path,
    *,
    scores: Path | None = None,
    use_llm: bool = True,
    contributions: bool = False,
    workspace: Workspace | None = None,
    on_event: OnEvent = ignore_event,
) -> pd.DataFrame:
    """The file's columns, then prediction, p_<label>, <source>_present and contributions if asked.

    Args:
        scores: recorded scores of the first LLM source for these rows; they must hold some of
            them. Without it a recorded source is looked up in the run's own file of scores.
        use_llm: False leaves every LLM source missing, and asks and pays nothing.
        workspace: where embeddings, LLM answers and the ledger are kept.

    Raises LabelFusionError for input that cannot be used.
    """
    config = run.config
    table, rows = read_rows(path, config.data)
    workspace = workspace or Workspace.at()
    classifier = run.model(workspace.cache)
    signals: dict[str, Signal] = {}
    if use_llm:
        entries = _entries(config, scores)
        asked = config.model_copy(update={"llm": entries})
        with scoring_session(asked, workspace, run.folder.id) as context:
            context = replace(context, training=_examples(run))
            signals = _llm_signals(classifier, rows, asked, scores, on_event, context)
    prediction = classifier.predict(rows, signals, on_event=on_event, contributions=contributions)
    return _joined(table.frame, prediction_frame(prediction), table.name)


def _entries(config: RunConfig, scores: Path | None) -> list[LLMConfig]:
    entries = list(config.llm)
    if scores is not None:
        entries[:1] = [_recorded(entries, scores)]
    return entries


def _examples(run: Run) -> TrainingTexts | None:
    """The training rows of the run, if its prompts show examples."""
    if all(entry.prompt.examples.strategy == "none" for entry in run.config.llm):
        return None
    dataset = load_dataset(run.config.data)
    return training_texts(dataset, make_split(dataset, run.config.data, run.config.seed))


def _llm_signals(
    classifier: FusedClassifier,
    rows: Rows,
    config: RunConfig,
    scores: Path | None,
    on_event: OnEvent,
    context: ScoringContext,
) -> dict[str, Signal]:
    return {
        entry.name: score_llm(
            entry,
            rows,
            classifier.space,
            config,
            on_event,
            context=context,
            must_match=scores is not None and entry is config.llm[0],
        )
        for entry in config.llm
    }


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
