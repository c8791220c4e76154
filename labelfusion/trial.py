"""LLM sources tried on little: five texts, one prompt, one cheap call.

For looking before paying: what is sent, what comes back, what it cost. Knows no page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from labelfusion.classifier import score_llm
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.costs import CostLine, cost_of_run
from labelfusion.data import load_dataset, make_split
from labelfusion.errors import InputError, did_you_mean
from labelfusion.llm import ScoringContext, asks, check_entry, scoring_session
from labelfusion.llm.providers import REMOTE
from labelfusion.llm.providers.base import Prompt, Reply
from labelfusion.llm.remote import ProviderCheck, check_provider, preview_prompt
from labelfusion.pipeline import rows_at, scored_rows, training_texts
from labelfusion.types import Dataset, OnEvent, Rows, Signal, ignore_event
from labelfusion.workspace import Workspace

TRIAL_TEXTS = 5


@dataclass(frozen=True)
class Trial:
    """A few texts asked about for good: the answers are kept for the run.

    Attributes:
        rows: the texts, n.
        signal: their scores, (n, k); a text without a usable answer is missing.
        exchanges: each prompt with its reply as it came; none for texts that were in the cache.
        cost: requests, tokens and money of this trial alone; None for a source that asks nobody.
    """

    rows: Rows
    signal: Signal
    exchanges: Sequence[tuple[Prompt, Reply]]
    cost: CostLine | None


def try_texts(
    config: RunConfig,
    entry: LLMConfig,
    workspace: Workspace,
    *,
    dataset: Dataset | None = None,
    count: int = TRIAL_TEXTS,
    on_event: OnEvent = ignore_event,
) -> Trial:
    """Score the first `count` rows that the run would score, by one entry of the config.

    Raises LabelFusionError as `labelfusion.llm.score_rows` does.
    """
    dataset = dataset or load_dataset(config.data)
    split = make_split(dataset, config.data, config.seed)
    rows = rows_at(dataset, np.sort(scored_rows(split))[:count])
    training = training_texts(dataset, split)
    check_entry(entry, dataset.space, config.costs, training)
    exchanges: list[tuple[Prompt, Reply]] = []
    one, run = config.model_copy(update={"llm": [entry]}), _run_name("try")
    with scoring_session(one, workspace, run) as context:
        lent = replace(
            context, training=training, on_reply=lambda *both: exchanges.append((both[0], both[1]))
        )
        signal = score_llm(
            entry, rows, dataset.space, one, on_event, context=lent, must_match=False
        )
    cost = cost_of_run(workspace.root, run) if asks(entry) else None
    return Trial(rows, signal, exchanges, cost)


def _run_name(what: str) -> str:
    """What the ledger calls it; a name of its own, so that a budget per run begins anew."""
    return f"{what}-{datetime.now():%Y%m%d-%H%M%S-%f}"


def show_prompt(config: RunConfig, entry: LLMConfig, row_number: int) -> Prompt:
    """The prompt as it is sent for the row of that number in the data file, and its neighbours.

    Sends nothing and needs no key. Only the ids in it differ, which are drawn anew each time.

    Raises InputError: there is no such row, or the source is sent no prompt.
    """
    if entry.provider not in REMOTE:
        raise InputError(
            f"Source {entry.name} is sent no prompt",
            where=f"llm {entry.name}",
            found=f"provider {entry.provider}",
            expected=f"one of {', '.join(REMOTE)}",
        )
    dataset = load_dataset(config.data)
    found = np.flatnonzero(dataset.row_numbers == row_number)
    if not len(found):
        numbers = dataset.row_numbers
        raise InputError(
            f"There is no row {row_number}",
            where=dataset.name,
            expected=f"a row as a spreadsheet counts them, {numbers.min()} to {numbers.max()}",
        )
    split = make_split(dataset, config.data, config.seed)
    others = scored_rows(split)
    rows = rows_at(dataset, np.concatenate([found, others[others != found[0]]]))
    lent = ScoringContext(training=training_texts(dataset, split))
    return preview_prompt(entry, rows, dataset.space, 0, lent)


def find_entry(config: RunConfig, name: str | None) -> LLMConfig:
    """The LLM entry of that name; for None the first that is sent prompts. Raises InputError."""
    names = [entry.name for entry in config.llm]
    if name is None:
        chosen = next((entry for entry in config.llm if entry.provider in REMOTE), None)
    else:
        chosen = next((entry for entry in config.llm if entry.name == name), None)
    if chosen is None:
        raise InputError(
            "The config has no such LLM source",
            where="config llm",
            found=name or "no entry that is sent prompts",
            remedy=did_you_mean(name or "", names),
        )
    return chosen


def check_sources(config: RunConfig, workspace: Workspace) -> Mapping[str, ProviderCheck]:
    """One cheap call to each LLM source, by name: whether key, model and address work."""
    found: dict[str, ProviderCheck] = {}
    for entry in config.llm:
        found[entry.name] = (
            _call(entry, config, workspace) if entry.provider in REMOTE else _look(entry)
        )
    return found


def _call(entry: LLMConfig, config: RunConfig, workspace: Workspace) -> ProviderCheck:
    one = config.model_copy(update={"llm": [entry]})
    with scoring_session(one, workspace, _run_name("check")) as context:
        # Without the cache: an old answer would say nothing about today.
        return check_provider(entry, replace(context, cache=None))


def _look(entry: LLMConfig) -> ProviderCheck:
    """Whether the file or folder of a source that asks nobody is there."""
    place = Path((entry.path if entry.provider == "recorded" else entry.model) or "")
    if place.exists() and os.access(place, os.R_OK):
        return ProviderCheck(True, f"{place} is there", 0.0)
    return ProviderCheck(False, f"{place} is not there, or cannot be read", 0.0)
