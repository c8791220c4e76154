import hashlib
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.config import PriceConfig
from labelfusion.costs import PriceBook, TokenCounter, Usage, format_usd, price_snapshot
from labelfusion.costs import tokens as tokens_module

BOOK = PriceBook({})
MILLION = Usage(1_000_000, 1_000_000)


def test_a_known_model_is_priced_exactly_in_decimal():
    price = BOOK.price("openai", "gpt-4o-mini")
    assert price.cost(MILLION) == Decimal("0.75")
    assert price.origin == "snapshot"
    assert price.per_million() == {
        "input": Decimal("0.15"),
        "cached_input": Decimal("0.075"),
        "output": Decimal("0.6"),
    }


def test_cached_tokens_are_part_of_the_input_and_cheaper():
    price = BOOK.price("openai", "gpt-4o-mini")
    usage = Usage(1_000_000, 0, cached_input_tokens=400_000)
    assert price.cost(usage) == Decimal("0.6") * Decimal("0.15") + Decimal("0.4") * Decimal("0.075")


def test_writing_to_the_prompt_cache_costs_its_surcharge():
    price = BOOK.price("anthropic", "claude-haiku-4-5")
    assert price.cost(Usage(1_000_000, 0, cache_write_tokens=1_000_000)) == Decimal("1.25")


def test_a_report_of_more_cached_than_input_tokens_is_still_priced():
    price = BOOK.price("openai", "gpt-4o-mini")
    assert price.cost(Usage(10, 0, cached_input_tokens=1_000_000)) == Decimal("0.075")


@pytest.mark.parametrize(
    ("provider", "model", "url"),
    [
        ("openai", "no-such-model", None),
        ("compatible", "gpt-4o-mini", None),
        ("compatible", "anything", "http://localhost:8000/v1"),
        ("openai", "text-embedding-3-small", None),
    ],
)
def test_an_unknown_price_is_none(provider, model, url):
    assert BOOK.price(provider, model, base_url=url) is None


def test_a_compatible_server_is_known_by_its_address():
    price = BOOK.price("compatible", "openai/gpt-4o-mini", base_url="https://openrouter.ai/api/v1")
    assert price.cost(MILLION) > 0


@pytest.mark.parametrize("provider", ["local", "recorded"])
def test_what_runs_at_home_is_free(provider):
    price = BOOK.price(provider, "any")
    assert price.origin == "free"
    assert price.at_most(10**9, 10**9) == 0


def test_an_own_price_comes_first():
    book = PriceBook({"gpt-4o-mini": PriceConfig(input_per_million=0.1, output_per_million=0.2)})
    price = book.price("openai", "gpt-4o-mini", batch=True)
    assert price.cost(Usage(1_000_000, 1_000_000, cached_input_tokens=500_000)) == Decimal("0.3")
    assert (price.origin, price.batch) == ("override", False)


def test_a_batch_price_is_promised_only_where_it_exists():
    assert BOOK.price("openai", "gpt-4o-mini", batch=True).cost(MILLION) == Decimal("0.375")
    assert BOOK.price("openai", "gpt-4o-mini", batch=True).batch
    deepseek = BOOK.price("deepseek", "deepseek-chat", batch=True)
    assert not deepseek.batch
    assert deepseek.per_million() == BOOK.price("deepseek", "deepseek-chat").per_million()


def test_the_worst_case_covers_the_dearest_hour():
    price = BOOK.price("deepseek", "deepseek-chat")
    night, day = (datetime(2026, 6, 1, hour, tzinfo=UTC) for hour in (20, 12))
    assert price.cost(MILLION, night) < price.cost(MILLION, day)
    assert price.at_most(1_000_000, 1_000_000) == price.cost(MILLION, day)


MODELS = [
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5.4"),
    ("openai", "gpt-6-luna"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-pro"),
    ("deepseek", "deepseek-v4-pro"),
]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 400_000),
    st.integers(0, 50_000),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.integers(0, 23),
    st.booleans(),
)
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(
    model, tokens, output, shares, hour, batch
):
    price = BOOK.price(*model, batch=batch)
    used = int(tokens * shares[0])
    cached = int(used * shares[1])
    usage = Usage(used, int(output * shares[2]), cached, int((used - cached) * shares[3]))
    when = datetime.now(UTC).replace(hour=hour)
    assert 0 <= price.cost(usage, when) <= price.at_most(tokens, output)


def test_the_snapshot_says_how_old_it_is():
    snapshot = price_snapshot()
    assert snapshot.version
    assert date(2026, 1, 1) <= snapshot.checked <= date.today()


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "unknown price"),
        (Decimal(0), "$0"),
        (Decimal("0.000123"), "$0.00013"),
        (Decimal("0.05"), "$0.050"),
        (Decimal("1.201"), "$1.21"),
        (Decimal("1234.5"), "$1234.50"),
    ],
)
def test_money_is_rounded_up_for_people(amount, shown):
    assert format_usd(amount) == shown


def test_tokens_are_estimated_from_characters_and_marked():
    counter = TokenCounter("gemini", "gemini-3.5-flash-lite")
    assert counter.estimated
    assert counter.count("a" * 400) == 100
    assert counter.count("価格" * 50) == 100
    assert counter.count("") == 0


@pytest.mark.parametrize(("provider", "tokens"), [("anthropic", 149), ("deepseek", 122)])
def test_tokenizers_with_shorter_tokens_count_more(provider, tokens):
    assert TokenCounter(provider, "m").count("a" * 400) == tokens


def test_reported_usage_corrects_the_estimate():
    counter = TokenCounter("gemini", "gemini-3.5-flash-lite")
    counter.observe("a" * 400, 150)
    counter.observe("a" * 400, 0)
    assert counter.ratio == 1.5
    assert counter.count("b" * 800) == 300


@given(st.text(max_size=300))
def test_the_bound_is_never_below_the_count(text):
    counter = TokenCounter("openai", "no-such-model")
    assert counter.at_most(text, "x") >= counter.count(text)


def test_a_text_with_a_lone_surrogate_is_counted():
    counter = TokenCounter("compatible", "m")
    assert counter.at_most("\ud800") >= counter.count("\ud800") > 0


def test_the_models_own_tokenizer_is_used_when_given():
    counter = TokenCounter("local", "m", tokenizer=lambda text: len(text.split()))
    assert not counter.estimated
    assert counter.count("three short words") == 3


@pytest.mark.parametrize("present", [True, False])
def test_tiktoken_is_used_only_with_its_table_on_disk(tmp_path, monkeypatch, present):
    encoding = SimpleNamespace(encode=lambda text, disallowed_special: text.split())
    fake = SimpleNamespace(
        encoding_name_for_model=lambda model: "o200k_base", get_encoding=lambda name: encoding
    )
    monkeypatch.setitem(sys.modules, "tiktoken", fake)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    tokens_module._tiktoken_counter.cache_clear()
    if present:
        address = tokens_module._TIKTOKEN_TABLES.format(name="o200k_base")
        (tmp_path / hashlib.sha1(address.encode()).hexdigest()).write_text("table")
    counter = TokenCounter("openai", "gpt-4o-mini")
    tokens_module._tiktoken_counter.cache_clear()
    assert counter.estimated is not present
    assert counter.count("one two") == 2
