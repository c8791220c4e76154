"""What a run's LLM sources will cost and whether the budget allows it, before anything is sent.

Puts data, prompts, cache, prices and budget together. Sends nothing and needs no key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal

from labelfusion.config import BudgetConfig, RunConfig
from labelfusion.costs import Estimate, PriceBook, estimate, format_usd, price_snapshot
from labelfusion.costs.prices import FREE_PROVIDERS
from labelfusion.data import load_dataset, make_split, read_rows
from labelfusion.llm import TrainingTexts, scoring_session
from labelfusion.llm.remote import plan_costs
from labelfusion.pipeline import rows_at, scored_rows, training_texts
from labelfusion.predict_file import run_examples
from labelfusion.runs import Run
from labelfusion.types import Dataset, LabelSpace, Rows
from labelfusion.workspace import Workspace

# Nothing is ever spent under this name, so a run budget is seen as a new run sees it.
_NEW_RUN = "estimate"

Verdict = Literal["no budget", "fits", "may run out", "runs out", "price unknown"]


@dataclass(frozen=True)
class BudgetVerdict:
    """Whether the budget will do. `left` is in US dollars, None without a budget."""

    verdict: Verdict
    left: Decimal | None
    sentence: str


@dataclass(frozen=True)
class RunEstimate:
    """What scoring costs.

    Attributes:
        rows: how many rows each source scores; its texts are fewer where rows repeat a text.
        estimate: per source that is billed, and in all.
        free_sources: names of the sources that ask nobody who is paid.
        prices: which price list was used, with the last day on which it says it was checked.
    """

    rows: int
    estimate: Estimate
    free_sources: tuple[str, ...]
    prices: str
    budget: BudgetVerdict


def estimate_run(
    config: RunConfig, workspace: Workspace, *, run: str = _NEW_RUN, dataset: Dataset | None = None
) -> RunEstimate:
    """Estimate the LLM scoring of a run; texts that the cache holds are taken off.

    Args:
        run: id of a run that is to be resumed: what it has spent is taken off its budget.
        dataset: the config's data if it has been read already.

    Raises LabelFusionError for data or a config that cannot be used.
    """
    dataset = dataset or load_dataset(config.data)
    split = make_split(dataset, config.data, config.seed)
    rows = rows_at(dataset, scored_rows(split))
    training = training_texts(dataset, split)
    return _estimate_rows(config, rows, dataset.space, workspace, run, training)


def estimate_file(
    run: Run, path: Path, workspace: Workspace, *, budget_usd: float | None = None
) -> RunEstimate:
    """Estimate the labelling of a file with every text sent to the LLM sources.

    Args:
        budget_usd: for this file, in place of the run's own budget.

    Loads no model. Raises LabelFusionError for a file that cannot be used.
    """
    config = run.config.model_copy(deep=True)
    config.costs.budget.run_usd = budget_usd
    _, rows = read_rows(path, config.data)
    task = run.metrics["task"]
    space = LabelSpace(tuple(task["labels"]), task["multi_label"], config.data.labels)
    return _estimate_rows(config, rows, space, workspace, _NEW_RUN, run_examples(run))


def _estimate_rows(
    config: RunConfig,
    rows: Rows,
    space: LabelSpace,
    workspace: Workspace,
    run: str,
    training: TrainingTexts | None,
) -> RunEstimate:
    book = PriceBook.of(config.costs)
    billed = [entry for entry in config.llm if entry.provider not in FREE_PROVIDERS]
    with scoring_session(config, workspace, run) as context:
        lent = replace(context, training=training)
        plans = [plan_costs(entry, rows, space, prices=book, context=lent) for entry in billed]
        left = None if context.meter is None else context.meter.spend().left
    return RunEstimate(
        len(rows),
        estimated := estimate(plans, left),
        tuple(entry.name for entry in config.llm if entry not in billed),
        _prices(),
        judge(estimated, left, config.costs.budget),
    )


def judge(estimated: Estimate, left: Decimal | None, budget: BudgetConfig) -> BudgetVerdict:
    """What the budget will do to a run of that estimate."""
    if left is None:
        return BudgetVerdict("no budget", None, "No budget is set.")
    unknown = [s.model for s in estimated.sources if s.expected.usd is None]
    if unknown:
        return BudgetVerdict(
            "price unknown",
            left,
            f"A budget is set and the price of {', '.join(unknown)} is unknown, so the run will "
            "not start: set costs.prices, or remove the budget.",
        )
    expected = sum((s.expected.usd or Decimal(0) for s in estimated.sources), Decimal(0))
    at_most = sum((s.at_most.usd or Decimal(0) for s in estimated.sources), Decimal(0))
    have = f"{format_usd(left)} of the budget is left"
    if at_most <= left:
        return BudgetVerdict("fits", left, f"{have}: enough in any case.")
    consequence = (
        "the run stops and can be resumed once the budget is raised"
        if budget.when_spent == "stop"
        else "the rows that have no scores then stay missing and the run goes on"
    )
    if expected <= left:
        return BudgetVerdict(
            "may run out",
            left,
            f"{have}: enough for what is expected; should it run out, {consequence}.",
        )
    return BudgetVerdict(
        "runs out", left, f"{have}, less than what is expected. When it is spent, {consequence}."
    )


def _prices() -> str:
    snapshot = price_snapshot()
    checked = f", prices checked up to {snapshot.checked}" if snapshot.checked else ""
    return f"genai-prices {snapshot.version}{checked}"
