"""What tokens cost: the prices that come with genai-prices, and the user's own.

Nothing is fetched. A model that is not in the snapshot has no price, which is None and never 0; it
can be given one in the config. Prices of some providers depend on the hour, so a worst case looks
at every rate that may apply while a request is under way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from labelfusion.config import CostConfig, PriceConfig

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_PROVIDER_IDS = {
    "openai": "openai",
    "deepseek": "deepseek",
    "anthropic": "anthropic",
    "gemini": "google",
}
FREE_PROVIDERS = frozenset({"local", "recorded"})
# How long a request, a batch among them, may be under way; how finely daily price changes are read.
_HORIZON, _STEP = timedelta(hours=48), timedelta(minutes=15)


@dataclass(frozen=True)
class Usage:
    """Tokens that were billed, as the provider reports them.

    `input_tokens` includes those read from the provider's prompt cache (`cached_input_tokens`) and
    those written to it at a surcharge (`cache_write_tokens`); `output_tokens` includes reasoning.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True)
class Price:
    """The price of one model.

    Attributes:
        origin: "snapshot" (genai-prices), "override" (the config) or "free" (nothing is billed).
        batch: True where these are true batch prices, below the standard ones.
        at: the rates at a moment.
        rates: every set of rates that may apply to a request sent now.
    """

    provider: str
    model: str
    origin: Literal["snapshot", "override", "free"]
    batch: bool
    at: Callable[[datetime], ModelPrice]
    rates: tuple[ModelPrice, ...]

    def cost(self, usage: Usage, when: datetime | None = None) -> Decimal:
        """US dollars for `usage` of a request sent at `when` (now if None)."""
        return _cost(self.at(when or datetime.now(UTC)), usage)

    def at_most(self, input_tokens: int, output_tokens: int) -> Decimal:
        """US dollars that up to so many tokens can cost: at the dearest hour, cached or not."""
        usages = (
            Usage(input_tokens, output_tokens),
            Usage(input_tokens, output_tokens, cached_input_tokens=input_tokens),
            Usage(input_tokens, output_tokens, cache_write_tokens=input_tokens),
        )
        return max(_cost(rates, usage) for rates in self.rates for usage in usages)

    def per_million(self) -> dict[str, Decimal]:
        """US dollars per million tokens now, for short prompts: input, cached_input, output."""
        rates = self.at(datetime.now(UTC))
        names = {"input": "input_mtok", "cached_input": "cache_read_mtok", "output": "output_mtok"}
        values = {name: getattr(rates, key) for name, key in names.items()}
        if values["cached_input"] is None:
            values["cached_input"] = values["input"]
        return {name: Decimal(getattr(rate, "base", rate)) for name, rate in values.items()}


def _cost(rates: ModelPrice, usage: Usage) -> Decimal:
    from genai_prices import Usage as Tokens

    # A provider that reports fewer input tokens than cached ones is taken at the larger number.
    parts = usage.cached_input_tokens + usage.cache_write_tokens
    tokens = Tokens(
        input_tokens=max(usage.input_tokens, parts),
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
    return rates.calc_price(tokens)["total_price"]


class PriceBook:
    """Prices by provider and model; the config's own prices come first."""

    def __init__(self, overrides: Mapping[str, PriceConfig]) -> None:
        self._overrides = dict(overrides)
        self._known: dict[tuple[object, ...], Price | None] = {}

    @classmethod
    def of(cls, costs: CostConfig) -> PriceBook:
        return cls(costs.prices)

    def price(
        self, provider: str, model: str, *, base_url: str | None = None, batch: bool = False
    ) -> Price | None:
        """The price, or None if it is unknown.

        `base_url` tells which service a `compatible` server is. With `batch`, the batch price where
        the provider has one (`Price.batch` is then True), else the standard price.
        """
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        key = (provider, model, base_url, batch, hour)
        if key not in self._known:
            self._known[key] = self._find(provider, model, base_url, batch)
        return self._known[key]

    def _find(self, provider: str, model: str, base_url: str | None, batch: bool) -> Price | None:
        override = self._overrides.get(model)
        if override is not None:
            return _fixed_price(provider, model, "override", override)
        if provider in FREE_PROVIDERS:
            nothing = PriceConfig(input_per_million=0, output_per_million=0)
            return _fixed_price(provider, model, "free", nothing)
        return _snapshot_price(provider, model, base_url, batch)


def _fixed_price(
    provider: str, model: str, origin: Literal["override", "free"], config: PriceConfig
) -> Price:
    from genai_prices.types import ModelPrice

    cached = config.cached_input_per_million
    rates = ModelPrice(
        input_mtok=Decimal(str(config.input_per_million)),
        output_mtok=Decimal(str(config.output_per_million)),
        cache_read_mtok=None if cached is None else Decimal(str(cached)),
    )
    return Price(provider, model, origin, False, lambda _: rates, (rates,))


def _snapshot_price(provider: str, model: str, base_url: str | None, batch: bool) -> Price | None:
    found = _look_up(provider, model, base_url)
    if found is None:
        return None
    vendor, info = found
    standard = _possible_rates(info.get_prices)
    if any(rates.input_mtok is None or rates.output_mtok is None for rates in standard):
        return None
    # The library answers with the standard price where there is no batch price, so compare.
    own = any(info is listed for listed in vendor.models)
    in_batch = partial(info.get_prices, price_context={"processing": "batch"})
    if batch and own and (reduced := _possible_rates(in_batch)) != standard:
        return Price(provider, model, "snapshot", True, in_batch, reduced)
    return Price(provider, model, "snapshot", False, info.get_prices, standard)


def _look_up(provider: str, model: str, base_url: str | None) -> tuple[Provider, ModelInfo] | None:
    from genai_prices.data_snapshot import get_snapshot

    provider_id = _PROVIDER_IDS.get(provider)
    if provider_id is None and base_url is None:
        return None
    address = None if provider_id else base_url
    try:
        return get_snapshot().find_provider_model(model, None, provider_id, address)
    except LookupError:
        return None


def _possible_rates(at: Callable[[datetime], ModelPrice]) -> tuple[ModelPrice, ...]:
    now = datetime.now(UTC)
    rates: list[ModelPrice] = []
    for step in range(_HORIZON // _STEP + 1):
        rate = at(now + step * _STEP)
        if rate not in rates:
            rates.append(rate)
    return tuple(rates)


@dataclass(frozen=True)
class PriceSnapshot:
    """The package's version, and the last day on which it says that a price was checked."""

    version: str
    checked: date | None


@cache
def price_snapshot() -> PriceSnapshot:
    """The snapshot in use. It has no date of its own; its notes say when prices were checked."""
    from genai_prices.data_snapshot import get_snapshot

    noted = re.compile(r"(?:verified|checked|confirmed|as of)\D{0,20}(\d{4}-\d\d-\d\d)", re.I)
    notes = [
        note
        for provider in get_snapshot().providers
        for note in (provider.price_comments, *(model.price_comments for model in provider.models))
        if note
    ]
    days = [date.fromisoformat(day) for note in notes for day in noted.findall(note)]
    return PriceSnapshot(version("genai-prices"), max(days, default=None))
