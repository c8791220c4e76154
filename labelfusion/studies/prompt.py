"""Prompt variants on the same texts: how right, how sure and how dear each is.

Texts come from the test part, examples from the training part. Scores are taken as they come:
nothing is calibrated or fused, so the figures are the prompt's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from labelfusion import __version__
from labelfusion.config import ExamplesConfig, LLMConfig, PromptConfig, RunConfig
from labelfusion.costs import CostLine, cost_of_run
from labelfusion.data import load_dataset, make_split
from labelfusion.errors import ConfigError, InputError
from labelfusion.evaluation.comparison import mcnemar_exact
from labelfusion.evaluation.intervals import wilson_interval
from labelfusion.evaluation.metrics import evaluate, exact_match
from labelfusion.fusion.decisions import default_rule
from labelfusion.llm import check_entry
from labelfusion.llm.keys import digest
from labelfusion.llm.providers import REMOTE
from labelfusion.pipeline import training_texts
from labelfusion.runs import SignalStore
from labelfusion.studies.asking import Asker, Job, data_digest, estimated
from labelfusion.studies.cells import Cell, Row
from labelfusion.studies.options import Options, Place
from labelfusion.studies.plots import Plot, Series, dots
from labelfusion.studies.samples import nested_order
from labelfusion.studies.statistics import CONFIDENCE
from labelfusion.studies.systems import packed, unpacked
from labelfusion.studies.words import METRIC_NAMES, share
from labelfusion.studies.writing import Findings
from labelfusion.tasks import signal_evidence, task_for
from labelfusion.types import Signal

CONFIGURED, ZERO_SHOT, UNDESCRIBED = "configured", "zero-shot", "no descriptions"
BUILT_IN = (CONFIGURED, ZERO_SHOT, UNDESCRIBED, "static:8", "stratified:8", "knn:4", "knn:8")
SHOWN = (
    *("source", "variant", "accuracy", "macro_f1", "nll", "coverage"),
    *("mcnemar_p", "usd_per_1000", "usd"),
)
_STRATEGIES = get_args(ExamplesConfig.model_fields["strategy"].annotation)


class PromptStudy:
    """See `labelfusion.studies.study.Study`."""

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        self.config, self.asker = config, Asker(config, place)
        entries = [entry for entry in config.llm if entry.provider in REMOTE]
        if not entries:
            raise InputError(
                "Prompts can be compared only where an LLM can be asked",
                where="config llm",
                expected=f"an entry with provider {', '.join(REMOTE)}",
                found=", ".join(entry.provider for entry in config.llm) or "no entry",
                remedy="Add such an entry; recorded scores stay as their prompt made them",
            )
        self.dataset = load_dataset(config.data)
        split = make_split(self.dataset, config.data, config.seed)
        order = nested_order(self.dataset.targets[split.test], config.seed)
        self.positions = np.sort(split.test[order[: options.rows]])
        self.training = training_texts(self.dataset, split)
        self.rule = default_rule(task_for(self.dataset.space), self.dataset.targets[split.train])
        names = options.variants or BUILT_IN
        self.jobs = {
            (entry.name, name): job
            for entry in entries
            for name, job in self._jobs(entry, names).items()
        }
        for job in self.jobs.values():
            check_entry(job.entry, job.dataset.space, config.costs, self.training)
        space = self.dataset.space
        self.store = SignalStore(place.folder / "signals", self.dataset.ids, space.names)

    def _jobs(self, entry: LLMConfig, names: Sequence[str]) -> dict[str, Job]:
        """A job a variant; of built-in ones that come to the same prompt, the first."""
        found: dict[str, Job] = {}
        for name in names:
            prompt = variant(name, entry.prompt)
            dataset = self.dataset
            if name == UNDESCRIBED:
                dataset = replace(dataset, space=replace(dataset.space, descriptions={}))
            asked = entry.model_copy(update={"prompt": prompt})
            job = Job(asked, dataset, self.positions, self.training)
            if job.key not in {other.key for other in found.values()}:
                found[name] = job
        return found

    def tell_cost(self) -> None:
        self.asker.tell_cost(list(self.jobs.values()))

    def cells(self) -> list[Cell]:
        return [
            Cell({"source": source, "variant": name}, {"job": job.key})
            for (source, name), job in self.jobs.items()
        ]

    def division(self) -> None:
        """One process asks, under one budget, and that is all of the work."""

    def fingerprint(self) -> str:
        return digest([__version__, data_digest(self.dataset), self.positions.tolist()])

    def run(self, cell: Cell) -> Sequence[Row]:
        job = self.jobs[str(cell.values["source"]), str(cell.values["variant"])]
        before = self._cost()
        (signal,) = self.asker.scores([job], self.store)
        after = self._cost()
        expected = estimated([job], self.config).expected.usd
        return [
            self._measured(signal.take(self.positions))
            | {
                "usd": _number(after.usd - before.usd),
                "requests": after.requests - before.requests,
                "texts_asked": after.texts - before.texts,
                "usd_per_1000": _number(expected, 1000 / len(self.positions)),
            }
        ]

    def _cost(self) -> CostLine:
        return cost_of_run(self.asker.place.workspace.root, self.asker.run)

    def _measured(self, signal: Signal) -> dict[str, Any]:
        """Metrics over the rows that were answered; the others count as wrong in `right`."""
        task, targets = task_for(self.dataset.space), self.dataset.targets[self.positions]
        rows = signal.present
        z = signal_evidence(task, signal)[rows]
        decisions = self.rule.decide(z, task)
        right = np.zeros(len(rows), dtype=bool)
        right[rows] = exact_match(targets[rows], decisions)
        low, high = wilson_interval(np.array([right.sum()]), np.array([rows.sum()]), CONFIDENCE)
        found = evaluate(targets[rows], task.probabilities(z), decisions, self.dataset.space)
        interval = {"accuracy_low": float(low[0]), "accuracy_high": float(high[0])}
        about = {"coverage": signal.coverage, "test_rows": len(rows), "right": packed(right)}
        return found | interval | about

    def report(self, cells: pd.DataFrame) -> Findings:
        table = cells.drop(columns=["right"])
        records = cells.to_dict("records")
        table["mcnemar_p"] = [_against_first(records, record) for record in records]
        names = [f"{row['source']}: {row['variant']}" for row in table.to_dict("records")]
        return Findings(
            f"Prompts on {self.dataset.name}",
            [
                f"Each variant scored the same {len(self.positions)} texts of the test part; "
                "examples are of the training part. Scores are taken as they came. Prices of 1,000 "
                "texts are estimates without the answer cache.",
            ],
            [_sentence(row) for row in table.to_dict("records")],
            table,
            SHOWN,
            _plots(table, names),
        )


def _against_first(records: Sequence[Mapping[Any, Any]], record: Mapping[Any, Any]) -> float:
    """Exact McNemar p of a variant against the first one of its source, on the same texts."""
    first = next(r for r in records if r["source"] == record["source"])
    a, b = (unpacked(each["right"], each["test_rows"]) for each in (first, record))
    return mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum()))


def variant(name: str, prompt: PromptConfig) -> PromptConfig:
    """The configured prompt with one thing changed, as `name` says. Raises ConfigError."""
    if name in (CONFIGURED, UNDESCRIBED):
        return prompt
    if name == ZERO_SHOT:
        return prompt.model_copy(update={"examples": ExamplesConfig()})
    strategy, colon, count = name.rpartition(":")
    if colon and strategy in _STRATEGIES and count.isdigit() and 1 <= int(count) <= 64:
        examples = ExamplesConfig.model_validate({"strategy": strategy, "count": int(count)})
        return prompt.model_copy(update={"examples": examples})
    if Path(name).is_file():
        return prompt.model_copy(update={"template": str(Path(name).resolve())})
    raise ConfigError(
        "A prompt variant cannot be used",
        where="--variant",
        expected=f"{CONFIGURED}, {ZERO_SHOT}, {UNDESCRIBED}, STRATEGY:COUNT (strategies: "
        f"{', '.join(_STRATEGIES[1:])}; 1 to 64) or the path of a template",
        found=name,
    )


def _number(usd: Decimal | None, factor: float = 1.0) -> float | None:
    return None if usd is None else float(usd) * factor


def _sentence(row: Mapping[str, Any]) -> str:
    price = row["usd_per_1000"]
    money = "price unknown" if price is None or np.isnan(price) else f"${price:.3g} per 1,000 texts"
    return (
        f"{row['source']}, {row['variant']}: accuracy {share(row['accuracy'])} "
        f"({share(row['accuracy_low'])} to {share(row['accuracy_high'])}), log-loss "
        f"{share(row['nll'])}, {100 * row['coverage']:.0f} % answered, {money}; exact McNemar "
        f"against the first variant p = {row['mcnemar_p']:.2g}."
    )


def _plots(table: pd.DataFrame, names: list[str]) -> list[Plot]:
    places = [float(i) for i in range(len(table))]
    loss = Series("nll", places, table["nll"].astype(float).tolist())
    price = Series("usd", places, table["usd_per_1000"].astype(float).tolist())
    drawn = [
        ("accuracy", dots(table, "accuracy"), "with 95 % Wilson intervals"),
        ("nll", loss, "lower is better"),
        ("usd", price, "estimated, without the answer cache"),
    ]
    words = METRIC_NAMES | {"usd": "US dollars per 1,000 texts"}
    return [
        Plot(
            f"prompt-{stem}",
            f"{words[stem]} by prompt",
            words[stem],
            "",
            [series],
            f"On the same texts, {reading}.",
            kind="dots",
            names=names,
        )
        for stem, series, reading in drawn
    ]
