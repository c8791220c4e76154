"""Rows scored with a config's LLM sources, a chunk at a time, without training anything.

The tables it makes can be read again as recorded scores. Knows tables and sources, no fusion;
`labelfusion.scale` takes files through it.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from labelfusion.classifier import score_llm
from labelfusion.config import DataConfig, LLMConfig, RunConfig
from labelfusion.data import Table
from labelfusion.errors import ConfigError, InputError
from labelfusion.llm import ScoringContext, asks
from labelfusion.types import LabelSpace, OnEvent, Rows, Signal


def asked_entries(config: RunConfig) -> list[LLMConfig]:
    """The sources that ask a model. Raises ConfigError if there is none."""
    entries = [entry for entry in config.llm if asks(entry)]
    if not entries:
        raise ConfigError(
            "There is no LLM to ask",
            where="config llm",
            found=", ".join(entry.provider for entry in config.llm) or "no entry",
            remedy="Add an llm entry with a provider that is asked, e.g. openai or local",
        )
    return entries


def score_table(
    table: Table,
    rows: Rows,
    config: RunConfig,
    space: LabelSpace,
    context: ScoringContext,
    on_event: OnEvent,
) -> tuple[pd.DataFrame, dict[str, Signal]]:
    """Ask the config's LLMs about rows; returns the table of their scores, and the signals.

    Its columns: id and text, `<source>_<label>` (empty where missing), `<source>_present`. Raises
    as `labelfusion.llm.score_rows` does.
    """
    signals = {
        entry.name: score_llm(entry, rows, space, config, on_event, context=context)
        for entry in asked_entries(config)
    }
    made = [_signal_columns(signal, space) for signal in signals.values()]
    return pd.concat([_kept_columns(table, rows, config.data), *made], axis=1), signals


def check_score_columns(
    columns: Iterable[str], config: RunConfig, space: LabelSpace, name: str
) -> None:
    """Raise InputError where two columns of the scores of a file would have one name."""
    data = config.data
    kept = [c for c in columns if c in (data.id_column, *data.text_columns)]
    made = [c for entry in asked_entries(config) for c in score_columns(entry.name, space)]
    both = [column for column in kept if column in made]
    if both or len(set(made)) < len(made):
        raise InputError(
            "Columns of the scores would have one name twice",
            where=name,
            found=", ".join(both or sorted({c for c in made if made.count(c) > 1})),
            remedy="Set another llm name in the config, or rename the column",
        )


def _kept_columns(table: Table, rows: Rows, data: DataConfig) -> pd.DataFrame:
    """The id and text columns; ids of their own where rows could not be found again without."""
    names = list(dict.fromkeys(data.text_columns))
    if data.id_column in table.columns:
        return table.frame.filter([data.id_column, *names]).reset_index(drop=True)
    frame = table.frame.filter(names).reset_index(drop=True)
    if len(names) > 1:
        frame.insert(0, data.id_column or "id", list(rows.ids))
    return frame


def score_columns(source: str, space: LabelSpace) -> list[str]:
    """`<source>_<label>` in the order of the labels, then `<source>_present`."""
    return [*(f"{source}_{label}" for label in space.names), f"{source}_present"]


def _signal_columns(signal: Signal, space: LabelSpace) -> pd.DataFrame:
    columns = [*signal.scores.T, signal.present]
    return pd.DataFrame(dict(zip(score_columns(signal.source, space), columns, strict=True)))
