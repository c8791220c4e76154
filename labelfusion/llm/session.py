"""What a run lends to its LLM sources: one cache, one meter, opened together and closed together.

Knows where in a workspace they are. Opens nothing for sources that ask nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labelfusion.config import CostConfig, LLMConfig, RunConfig
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.examples import TrainingTexts
from labelfusion.types import LabelSpace, Rows
from labelfusion.workspace import Workspace


def asks(entry: LLMConfig) -> bool:
    """Whether scoring this source asks a model: then its answers are worth keeping."""
    return entry.provider != "recorded"


def over_network(entry: LLMConfig) -> bool:
    """Whether scoring this source is mostly waiting, so that this machine can work meanwhile."""
    return asks(entry) and entry.provider != "local"


@contextmanager
def scoring_session(
    config: RunConfig, workspace: Workspace, run: str = ""
) -> Iterator[ScoringContext]:
    """A context with the workspace's answer cache and a meter under the config's budget.

    Raises ConfigError: the cache or the ledger cannot be opened as configured.
    """
    if not any(asks(entry) for entry in config.llm):
        yield ScoringContext(run=run)
        return
    from labelfusion.cache import open_cache
    from labelfusion.costs import open_meter
    from labelfusion.llm.rate import KeptPaces

    cache = open_cache(config.cache, workspace.cache)
    try:
        yield ScoringContext(
            cache=cache,
            meter=open_meter(workspace.root, run, config.costs),
            stop_when_spent=config.costs.budget.when_spent == "stop",
            run=run,
            paces=KeptPaces(),
            batches=workspace.cache / "batches",
        )
    finally:
        cache.close()


def check_entry(
    entry: LLMConfig, space: LabelSpace, costs: CostConfig, training: TrainingTexts | None = None
) -> None:
    """Raise LabelFusionError unless the source can be asked.

    Model, key, template, examples, form of the answer, and a price where there is a budget. Sends
    nothing. A recorded source is checked by reading it (`score_rows`).
    """
    if not asks(entry):
        return
    from labelfusion.costs import check_price
    from labelfusion.llm.plan import make_plan
    from labelfusion.llm.providers import REMOTE, model_name, provider_key

    model = model_name(entry)
    if entry.provider in REMOTE:
        provider_key(entry)
    check_price(costs, entry.provider, model, entry.base_url)
    make_plan(entry, model, Rows([], []), space, ScoringContext(training=training))
