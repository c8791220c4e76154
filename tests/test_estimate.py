import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.config import PriceConfig
from labelfusion.costs import PriceBook, SourcePlan, Usage, estimate, to_json

BOOK = PriceBook({"m": PriceConfig(input_per_million=1, output_per_million=10)})
PLAN = SourcePlan(
    source="llm",
    provider="compatible",
    model="m",
    price=BOOK.price("compatible", "m"),
    text_tokens=[50] * 100,
    text_bounds=[200] * 100,
    prefix_tokens=600,
    prefix_bound=2000,
    output_tokens_per_text=20.0,
    max_output_tokens=1000,
    texts_per_request=8,
    max_attempts=3,
    concurrency=4,
    latency_s=2.0,
    timeout_s=60.0,
    cached_texts=40,
)


def test_expected_is_the_plan_without_trouble():
    expected = estimate([PLAN]).expected
    assert (expected.requests, expected.input_tokens) == (13, 13 * 600 + 5000)
    assert expected.output_tokens == 2000
    assert expected.usd == Decimal("0.0128") + Decimal("0.02")
    assert expected.seconds == 4 * 2.0


def test_at_most_is_every_text_alone_at_every_attempt():
    at_most = estimate([PLAN]).at_most
    assert (at_most.requests, at_most.input_tokens) == (300, 300 * 2000 + 3 * 20_000)
    assert at_most.output_tokens == 300_000
    assert at_most.usd == Decimal("0.66") + 3
    assert at_most.seconds == 75 * 60.0


def test_a_warm_prompt_cache_is_expected_after_the_first_requests():
    expected = estimate([replace(PLAN, cached_prefix_tokens=500)]).expected
    assert expected.cached_input_tokens == (13 - 4) * 500


def test_a_rate_limit_makes_it_longer():
    assert estimate([replace(PLAN, requests_per_second=0.5)]).expected.seconds == 26


def test_a_budget_bounds_what_it_costs_at_most():
    assert estimate([PLAN], budget_left=Decimal(2)).at_most.usd == 2
    assert estimate([PLAN], budget_left=Decimal(2)).sources[0].at_most.usd > 3


def test_an_unknown_price_makes_the_total_unknown():
    both = estimate([PLAN, replace(PLAN, source="other", price=None)], budget_left=Decimal(2))
    assert (both.expected.usd, both.at_most.usd) == (None, None)
    assert both.expected.requests == 26
    assert both.sources[0].expected.usd is not None


def test_nothing_to_ask_costs_nothing():
    nothing = estimate([replace(PLAN, text_tokens=[], text_bounds=[])])
    assert nothing.expected.usd == nothing.at_most.usd == 0
    assert nothing.expected.requests == nothing.expected.seconds == 0


def test_it_is_ready_for_json():
    read = json.loads(json.dumps(to_json(estimate([PLAN]))))
    assert read["sources"][0]["cached_texts"] == 40
    assert read["expected"]["usd"] == pytest.approx(0.0328)


REAL = PriceBook({})
MODELS = [("openai", "gpt-5.4"), ("anthropic", "claude-sonnet-4-5"), ("gemini", "gemini-2.5-pro")]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_at_most_is_never_below_a_run_with_repairs(data):
    """Any order of asking, in batches of any size, that asks each text at most so often."""
    price = REAL.price(*data.draw(st.sampled_from(MODELS)))
    bounds = data.draw(st.lists(st.integers(1, 80_000), min_size=1, max_size=12))
    size = data.draw(st.integers(1, 6))
    plan = replace(
        PLAN,
        price=price,
        text_bounds=bounds,
        text_tokens=bounds,
        texts_per_request=size,
        max_output_tokens=data.draw(st.integers(1, 5000)),
        prefix_bound=data.draw(st.integers(0, 5000)),
    )
    asked = Decimal(0)
    for _ in range(plan.max_attempts):
        left = data.draw(st.permutations(bounds))
        while left:
            take = data.draw(st.integers(1, size))
            tokens, left = plan.prefix_bound + sum(left[:take]), left[take:]
            asked += price.cost(Usage(tokens, plan.max_output_tokens))
    assert estimate([plan]).at_most.usd >= asked
