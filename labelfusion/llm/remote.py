"""Sources behind an API: scored, estimated, previewed and checked, from ordinary code.

Puts key, provider, plan and scorer together and owns the event loop they run in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from labelfusion.config import LLMConfig
from labelfusion.costs import PriceBook, SourcePlan, TokenCounter
from labelfusion.errors import LabelFusionError, MissingKeyError
from labelfusion.llm.batch import BatchScorer
from labelfusion.llm.cancellation import Cancellation
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.plan import Plan, make_plan, text_tokens
from labelfusion.llm.providers import make_batches, make_provider, model_name, provider_key
from labelfusion.llm.providers.base import Prompt
from labelfusion.llm.scorer import Scorer, cached_scores
from labelfusion.llm.sending import Sender
from labelfusion.llm.work import MAX_ROUNDS, Task
from labelfusion.types import LabelSpace, OnEvent, Rows, Signal, ignore_event

Result = TypeVar("Result")

# Seconds a request of some texts takes at today's providers, for the estimate's duration only.
_TYPICAL_LATENCY_S = 3.0
# Most batches end within an hour; providers promise a day.
_BATCH_LATENCY_S, _BATCH_TIMEOUT_S = 3600.0, 86_400.0


def score(
    entry: LLMConfig, rows: Rows, space: LabelSpace, *, on_event: OnEvent, context: ScoringContext
) -> Signal:
    """See `labelfusion.llm.score_rows`."""
    scoring = score_async(entry, rows, space, on_event=on_event, context=context)
    return run_blocking((context.cancellation or Cancellation()).covering(scoring))


async def score_async(
    entry: LLMConfig,
    rows: Rows,
    space: LabelSpace,
    *,
    on_event: OnEvent = ignore_event,
    context: ScoringContext,
) -> Signal:
    """`score` for an event loop. Cancelling it ends the requests under way at once."""
    model, key = model_name(entry), provider_key(entry)
    plan = make_plan(entry, model, rows, space, context)
    provider = make_provider(entry, key)
    try:
        pace = context.paces(entry.name) if context.paces else None
        sender = Sender(entry, provider, model, key=key, meter=context.meter, pace=pace)
        batches = make_batches(provider) if entry.batch else None
        if batches is not None:
            return await BatchScorer(plan, sender, batches, model, on_event, context).run()
        return await Scorer(plan, sender, model, on_event, context).run()
    finally:
        await provider.close()


def run_blocking(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine from ordinary code, also where a loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def plan_costs(
    entry: LLMConfig,
    rows: Rows,
    space: LabelSpace,
    *,
    prices: PriceBook,
    context: ScoringContext | None = None,
) -> SourcePlan:
    """What `labelfusion.costs.estimate` needs to know of a remote source.

    Sends nothing and needs no key.

    Raises ConfigError: the entry cannot be asked as it is configured.
    """
    context = context or ScoringContext()
    model = model_name(entry)
    plan = make_plan(entry, model, rows, space, context)
    todo = _uncached(plan, context)
    tokens = TokenCounter(entry.provider, model)
    expected, bounds = text_tokens(tokens, todo)
    ask, _ = plan.ask([Task("", {"text": ""}, _a_prefix(plan), 0)])
    around = (ask.prompt.system, ask.prompt.user, str(dict(ask.schema)) if ask.schema else "")
    return SourcePlan(
        source=entry.name,
        provider=entry.provider,
        model=model,
        price=prices.price(entry.provider, model, base_url=entry.base_url, batch=entry.batch),
        text_tokens=expected,
        text_bounds=bounds,
        prefix_tokens=sum(tokens.count(part) for part in around),
        prefix_bound=tokens.at_most(*around),
        output_tokens_per_text=plan.output_tokens_per_text(),
        max_output_tokens=entry.max_output_tokens,
        texts_per_request=1 if plan.letters else plan.texts_per_request,
        # What a batch leaves unanswered is asked about at once, for up to twice its price.
        max_attempts=entry.max_attempts * MAX_ROUNDS * (2 if entry.batch else 1),
        concurrency=max(1, len(todo)) if entry.batch else entry.concurrency,
        latency_s=_BATCH_LATENCY_S if entry.batch else _TYPICAL_LATENCY_S,
        timeout_s=_BATCH_TIMEOUT_S if entry.batch else entry.timeout_s,
        cached_texts=len(plan.tasks) - len(todo),
        tokens_estimated=tokens.estimated,
    )


def _uncached(plan: Plan, context: ScoringContext) -> list[Task]:
    if context.cache is None:
        return list(plan.tasks.values())
    names = plan.space.names
    answers = context.cache.get_many(list(plan.tasks))
    have = {key for key, answer in answers.items() if cached_scores(answer, names) is not None}
    return [task for key, task in plan.tasks.items() if key not in have]


def _a_prefix(plan: Plan) -> str:
    return max((task.prefix for task in plan.tasks.values()), key=len, default="")


def preview_prompt(
    entry: LLMConfig,
    rows: Rows,
    space: LabelSpace,
    row: int,
    context: ScoringContext | None = None,
) -> Prompt:
    """The prompt as it would be sent for the row at position `row` and its neighbours.

    Raises ConfigError: the entry cannot be asked as it is configured.
    """
    model = model_name(entry)
    plan = make_plan(entry, model, rows, space, context or ScoringContext())
    first = plan.tasks[plan.keys[row]]
    same = [t for t in plan.tasks.values() if t is not first and t.prefix == first.prefix]
    together = [] if first.alone else [t for t in same if not t.alone]
    ask, _ = plan.ask([first, *together[: plan.texts_per_request - 1]])
    return ask.prompt


@dataclass(frozen=True)
class ProviderCheck:
    """Whether a provider answered one cheap question, in one sentence, and in how many seconds."""

    works: bool
    message: str
    latency_s: float


def check_provider(entry: LLMConfig, context: ScoringContext | None = None) -> ProviderCheck:
    """Ask about one short text, to see that key, model and address work."""
    space = LabelSpace(("yes", "no"), multi_label=False)
    rows = Rows(["1"], ["Is this a question?"])
    patient = entry.model_copy(update={"max_attempts": 1})
    started = time.monotonic()
    try:
        signal = score(
            patient, rows, space, on_event=ignore_event, context=context or ScoringContext()
        )
    except MissingKeyError as error:
        return ProviderCheck(False, str(error), 0.0)
    except LabelFusionError as error:
        return ProviderCheck(False, str(error), time.monotonic() - started)
    works = bool(signal.present.all())
    message = f"{signal.origin} answers" if works else "it answered, but not in the form asked for"
    return ProviderCheck(works, message, time.monotonic() - started)
