"""What scoring will cost, before anything is sent: expected, and at most.

Takes numbers only, so it knows neither prompts nor providers. Expected is the plan without trouble.
At most is a bound, not a forecast: every text asked about `max_attempts` times, each time alone, at
the longest prompt and the longest answer. A budget that is set bounds it further.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from labelfusion.costs.prices import Price, Usage


@dataclass(frozen=True)
class SourcePlan:
    """How one LLM source will be asked.

    Attributes:
        price: of the model; None if it is unknown.
        text_tokens: expected tokens of each text that is to be asked about: duplicates and texts in
            the cache taken off.
        text_bounds: upper bounds of the same.
        prefix_tokens: expected tokens that every request carries beside its texts.
        prefix_bound: upper bound of the same.
        cached_prefix_tokens: the part of the prefix that the provider's prompt cache is expected to
            serve once it is warm, 0 if it has none or the prefix is too short for it.
        output_tokens_per_text: expected.
        max_output_tokens: of a request; what the provider is told to stop at.
        max_attempts: how often a text is asked about at most, retries and repairs counted.
        cached_texts: texts answered from the answer cache.
        latency_s: expected seconds of a request; `timeout_s`: seconds at most.
        requests_per_second: the provider's rate limit, None if unknown.
        tokens_estimated: True if the token counts do not come from the model's own tokenizer.
    """

    source: str
    provider: str
    model: str
    price: Price | None
    text_tokens: Sequence[int]
    text_bounds: Sequence[int]
    prefix_tokens: int
    prefix_bound: int
    output_tokens_per_text: float
    max_output_tokens: int
    texts_per_request: int
    max_attempts: int
    concurrency: int
    latency_s: float
    timeout_s: float
    cached_texts: int = 0
    cached_prefix_tokens: int = 0
    requests_per_second: float | None = None
    tokens_estimated: bool = True


@dataclass(frozen=True)
class Amount:
    """Requests, tokens (input includes cached), US dollars (None: unknown) and seconds."""

    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    usd: Decimal | None
    seconds: float


@dataclass(frozen=True)
class SourceEstimate:
    """The estimate of one source."""

    source: str
    provider: str
    model: str
    texts: int
    cached_texts: int
    expected: Amount
    at_most: Amount
    tokens_estimated: bool
    price_origin: str | None


@dataclass(frozen=True)
class Estimate:
    """Per source and in all. Sources are taken to run one after another; waits that a provider
    imposes come on top of the seconds."""

    sources: tuple[SourceEstimate, ...]
    expected: Amount
    at_most: Amount


def estimate(plans: Sequence[SourcePlan], budget_left: Decimal | None = None) -> Estimate:
    """Estimate a run. `budget_left` (US dollars) caps what it costs at most, as the Meter does."""
    sources = tuple(
        SourceEstimate(
            plan.source,
            plan.provider,
            plan.model,
            texts=len(plan.text_tokens),
            cached_texts=plan.cached_texts,
            expected=_expected(plan),
            at_most=_at_most(plan),
            tokens_estimated=plan.tokens_estimated,
            price_origin=plan.price and plan.price.origin,
        )
        for plan in plans
    )
    at_most = _total([source.at_most for source in sources], budget_left)
    return Estimate(sources, _total([source.expected for source in sources], None), at_most)


def _expected(plan: SourcePlan) -> Amount:
    size = plan.texts_per_request
    requests = [plan.text_tokens[i : i + size] for i in range(0, len(plan.text_tokens), size)]
    usages = [
        Usage(
            plan.prefix_tokens + sum(tokens),
            round(plan.output_tokens_per_text * len(tokens)),
            # The first requests leave together, before any of them has warmed the cache.
            min(plan.cached_prefix_tokens, plan.prefix_tokens) if i >= plan.concurrency else 0,
        )
        for i, tokens in enumerate(requests)
    ]
    price = plan.price
    usd = None if price is None else sum((price.cost(usage) for usage in usages), Decimal(0))
    seconds = math.ceil(len(requests) / plan.concurrency) * plan.latency_s
    if plan.requests_per_second:
        seconds = max(seconds, len(requests) / plan.requests_per_second)
    return Amount(
        len(requests),
        sum(usage.input_tokens for usage in usages),
        sum(usage.cached_input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        usd,
        seconds,
    )


def _at_most(plan: SourcePlan) -> Amount:
    requests = len(plan.text_bounds) * plan.max_attempts
    input_tokens = requests * plan.prefix_bound + plan.max_attempts * sum(plan.text_bounds)
    seconds = math.ceil(requests / plan.concurrency) * plan.timeout_s
    usd = None if plan.price is None else _usd_at_most(plan, plan.price, requests, input_tokens)
    return Amount(requests, input_tokens, 0, requests * plan.max_output_tokens, usd, seconds)


def _usd_at_most(plan: SourcePlan, price: Price, requests: int, input_tokens: int) -> Decimal:
    """Every token at the rate of the largest request: prices may rise with the prompt's length."""
    longest = sorted(plan.text_bounds, reverse=True)[: plan.texts_per_request]
    largest = plan.prefix_bound + sum(longest)
    fee = price.at_most(0, 0)
    prompt = price.at_most(largest, 0)
    answer = price.at_most(largest, plan.max_output_tokens) - prompt
    per_token = (prompt - fee) / max(largest, 1)
    return input_tokens * per_token + requests * (fee + answer)


def _total(amounts: Sequence[Amount], budget_left: Decimal | None) -> Amount:
    known = [amount.usd for amount in amounts if amount.usd is not None]
    usd = sum(known, Decimal(0)) if len(known) == len(amounts) else None
    if usd is not None and budget_left is not None:
        usd = min(usd, budget_left)
    return Amount(
        sum(amount.requests for amount in amounts),
        sum(amount.input_tokens for amount in amounts),
        sum(amount.cached_input_tokens for amount in amounts),
        sum(amount.output_tokens for amount in amounts),
        usd,
        sum(amount.seconds for amount in amounts),
    )
