"""What an LLM source is asked with and what it costs, as tables and words. Knows no Streamlit.

Says whether a key is set and under which name; never what it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from labelfusion.config import CostConfig, LLMConfig
from labelfusion.ui.progress import duration

if TYPE_CHECKING:
    import pandas as pd

    from labelfusion.costing import RunEstimate
    from labelfusion.costs.estimate import Amount
    from labelfusion.trial import Trial

PROVIDERS = {
    "openai": "OpenAI",
    "deepseek": "DeepSeek",
    "anthropic": "Claude (Anthropic)",
    "gemini": "Gemini (Google)",
    "compatible": "OpenAI-compatible server",
    "local": "Model folder on this computer",
}
KEY_ENDING = "_API_KEY"
NOTHING = Decimal(0)


def default_model(provider: str) -> str | None:
    """The model a provider is asked for unless one is named; None if one must be named."""
    from labelfusion.llm.providers import REMOTE

    return REMOTE[provider].default_model if provider in REMOTE else None


def key_variables() -> list[str]:
    """Names of the environment's variables that may hold an API key."""
    return sorted(name for name in os.environ if name.endswith(KEY_ENDING))


def key_words(values: Mapping[str, Any]) -> str:
    """Whether the key of an entry under construction is set, and the name it goes by."""
    from labelfusion.errors import MissingKeyError
    from labelfusion.llm.credentials import find_key
    from labelfusion.llm.providers import REMOTE

    kind = REMOTE.get(values["provider"])
    name = values.get("api_key_env") or (kind and kind.key_env_var)
    if kind is None or name is None:
        return "No key is needed."
    entry = LLMConfig.model_construct(**{"name": "llm", "api_key_env": None, **values})
    try:
        find_key(entry, needs_key=kind.needs_key, key_env_var=kind.key_env_var)
    except MissingKeyError:
        return (
            f"✗ The key's variable `{name}` is not set. Set it in the environment, in `.env` or in "
            "`.streamlit/secrets.toml`, and reload this page."
        )
    return f"✓ The key's variable `{name}` is set."


def estimate_table(found: RunEstimate) -> pd.DataFrame:
    """Two lines a source and two in all: what is expected, and what it is at most."""
    import pandas as pd

    estimated = found.estimate
    tables = [
        _two_lines(one.source, one.model, one.texts, one.cached_texts, one.expected, one.at_most)
        for one in estimated.sources
    ]
    if len(tables) > 1:
        texts = sum(one.texts for one in estimated.sources)
        cached = sum(one.cached_texts for one in estimated.sources)
        tables.append(
            _two_lines("in all", "", texts, cached, estimated.expected, estimated.at_most)
        )
    return pd.DataFrame([line for lines in tables for line in lines])


def _two_lines(
    source: str, model: str, texts: int, cached: int, expected: Amount, at_most: Amount
) -> list[dict[str, object]]:
    return [
        {
            "source": source,
            "model": model,
            "case": case,
            "texts to ask about": texts,
            "in the cache": cached,
            "requests": amount.requests,
            "input tokens": amount.input_tokens,
            "output tokens": amount.output_tokens,
            "money": money(amount.usd),
            "time": duration(amount.seconds),
        }
        for case, amount in (("expected", expected), ("at most", at_most))
    ]


def price_table(entries: list[dict[str, Any]], costs: CostConfig) -> pd.DataFrame:
    """US dollars per million tokens of each model that is asked; blank where unknown."""
    import pandas as pd

    from labelfusion.costs import PriceBook

    book, lines = PriceBook.of(costs), []
    for provider, model, base_url in billed_models(entries):
        price = book.price(provider, model, base_url=base_url)
        rates = price.per_million() if price else {}
        origins = {"override": "set by you", "snapshot": "price list"}
        lines.append(
            {
                "model": model,
                "provider": PROVIDERS[provider],
                "input": _rate(rates.get("input")),
                "cached input": _rate(rates.get("cached_input")),
                "output": _rate(rates.get("output")),
                "price": origins[price.origin] if price else "unknown",
            }
        )
    return pd.DataFrame(lines)


def billed_models(entries: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    """(provider, model, base_url) of what may be billed, each model once."""
    from labelfusion.costs.prices import FREE_PROVIDERS

    found: dict[str, tuple[str, str, str | None]] = {}
    for entry in entries:
        model = entry.get("model") or default_model(entry["provider"])
        if model and entry["provider"] not in FREE_PROVIDERS:
            found.setdefault(model, (entry["provider"], model, entry.get("base_url")))
    return list(found.values())


def price_list_date() -> str:
    """Which price list is used, and until when it says it was checked."""
    from labelfusion.costs import price_snapshot

    snapshot = price_snapshot()
    checked = f", checked up to {snapshot.checked}" if snapshot.checked else ", of unknown date"
    return f"genai-prices {snapshot.version}{checked}"


def trial_table(trial: Trial, names: tuple[str, ...]) -> pd.DataFrame:
    """The texts that were tried with their scores; blank where there was no usable answer."""
    import pandas as pd

    table = pd.DataFrame({"id": list(trial.rows.ids), "text": list(trial.rows.texts)})
    table["answer"] = ["scored" if there else "missing" for there in trial.signal.present]
    # Named so that no label can clash with the columns beside it.
    scores = pd.DataFrame(trial.signal.scores, columns=[f"score: {name}" for name in names])
    return table.join(scores)


def trial_words(trial: Trial) -> str:
    """What a trial got and cost, in a sentence."""
    scored, total = int(trial.signal.present.sum()), len(trial.rows.ids)
    words = f"{scored} of {total} texts scored."
    cost = trial.cost
    if cost is None:
        return f"{words} It cost nothing."
    if cost.cached_texts:
        words += f" {cost.cached_texts} came from the cache and cost nothing."
    if not cost.requests:
        return words
    paid = "at an unknown price" if cost.unpriced else f"for {money(cost.usd)}"
    requests = "1 request" if cost.requests == 1 else f"{cost.requests} requests"
    return (
        f"{words} {requests}, {cost.input_tokens:,} input and {cost.output_tokens:,} output "
        f"tokens, {paid}; {cost.mean_latency_s:.1f} s a request."
    )


def money(usd: Decimal | None) -> str:
    """US dollars for people; says so where a price is unknown."""
    from labelfusion.costs import format_usd

    return format_usd(usd)


def dollars(usd: float | None) -> str:
    """A measured or forecast amount for people."""
    return money(None if usd is None else Decimal(repr(usd)))


def _rate(usd: Decimal | None) -> str:
    return "" if usd is None else f"${usd.normalize():f}"
