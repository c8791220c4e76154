"""Score the rows of a file with a config's LLM sources, without training anything.

The table it makes can be read again as recorded scores. Knows files and sources, no fusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pandas as pd

from labelfusion.classifier import score_llm
from labelfusion.config import DataConfig, LLMConfig, RunConfig
from labelfusion.costs import CostLine, cost_of_run
from labelfusion.data import Table, load_dataset, make_split, read_rows
from labelfusion.errors import ConfigError, InputError
from labelfusion.llm import asks, check_entry, scoring_session
from labelfusion.pipeline import training_texts
from labelfusion.types import LabelSpace, OnEvent, Rows, Signal, ignore_event
from labelfusion.workspace import Workspace


@dataclass(frozen=True)
class ScoredFile:
    """Scores of a file's rows.

    Attributes:
        frame: id and text columns, `<source>_<label>` (empty where missing), `<source>_present`.
        signals: by source, over the file's rows.
        cost: what was asked and paid for it, under the name `run` in the ledger.
    """

    frame: pd.DataFrame
    signals: Mapping[str, Signal]
    run: str
    cost: CostLine


def score_file(
    config: RunConfig, path: Path, workspace: Workspace, *, on_event: OnEvent = ignore_event
) -> ScoredFile:
    """Ask the config's LLMs about the rows of `path`; the labels are those of `config.data`.

    Every answer is in the cache the moment it arrives, so that asking again after an interruption
    asks only for the rest. A budget per run holds for this one file.

    Raises LabelFusionError as `labelfusion.llm.score_rows` does, and InputError for a file that
    cannot be read; before anything is sent where that can be known.
    """
    entries = [entry for entry in config.llm if asks(entry)]
    if not entries:
        raise ConfigError(
            "There is no LLM to ask",
            where="config llm",
            found=", ".join(entry.provider for entry in config.llm) or "no entry",
            remedy="Add an llm entry with a provider that is asked, e.g. openai or local",
        )
    dataset = load_dataset(config.data)
    training = training_texts(dataset, make_split(dataset, config.data, config.seed))
    table, rows = read_rows(path, config.data)
    for entry in entries:
        check_entry(entry, dataset.space, config.costs, training)
    frame = _kept_columns(table, rows, config.data)
    _check_columns(frame, entries, dataset.space, table.name)
    run = f"score-{datetime.now():%Y%m%d-%H%M%S-%f}-{path.stem}"
    with scoring_session(config, workspace, run) as context:
        lent = replace(context, training=training)
        signals = {
            entry.name: score_llm(entry, rows, dataset.space, config, on_event, context=lent)
            for entry in entries
        }
    made = [_signal_columns(signal, dataset.space) for signal in signals.values()]
    cost = cost_of_run(workspace.root, run)
    return ScoredFile(pd.concat([frame, *made], axis=1), signals, run, cost)


def _kept_columns(table: Table, rows: Rows, data: DataConfig) -> pd.DataFrame:
    """The id and text columns; ids of their own where rows could not be found again without."""
    names = list(dict.fromkeys(data.text_columns))
    if data.id_column in table.columns:
        return table.frame.filter([data.id_column, *names]).reset_index(drop=True)
    frame = table.frame.filter(names).reset_index(drop=True)
    if len(names) > 1:
        frame.insert(0, data.id_column or "id", list(rows.ids))
    return frame


def _check_columns(
    frame: pd.DataFrame, entries: list[LLMConfig], space: LabelSpace, name: str
) -> None:
    made = [column for entry in entries for column in score_columns(entry.name, space)]
    both = [column for column in frame.columns if column in made]
    if both or len(set(made)) < len(made):
        raise InputError(
            "Columns of the scores would have one name twice",
            where=name,
            found=", ".join(both or sorted({c for c in made if made.count(c) > 1})),
            remedy="Set another llm name in the config, or rename the column",
        )


def score_columns(source: str, space: LabelSpace) -> list[str]:
    """`<source>_<label>` in the order of the labels, then `<source>_present`."""
    return [*(f"{source}_{label}" for label in space.names), f"{source}_present"]


def _signal_columns(signal: Signal, space: LabelSpace) -> pd.DataFrame:
    columns = [*signal.scores.T, signal.present]
    return pd.DataFrame(dict(zip(score_columns(signal.source, space), columns, strict=True)))
