"""The budget of a run: money is reserved before a request is sent and settled after it.

A request is sent only if its worst case fits beside everything spent and everything under way, in
this process and in every other that uses the ledger. So a limit holds at any concurrency, as long
as `RequestEstimate` gives true upper bounds. Knows prices and the ledger; knows no provider.

A month is a calendar month in UTC, and a request belongs to the month in which it was sent.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from labelfusion.config import CostConfig
from labelfusion.costs.ledger import CACHED, Entry, Held, Ledger, Spend
from labelfusion.costs.prices import Price, PriceBook, Usage
from labelfusion.errors import ConfigError, LimitError


class CostWarning(UserWarning):
    """A request cost more than its upper bound, or money cannot be counted in full."""


@dataclass(frozen=True)
class RequestEstimate:
    """A request about to be sent.

    Attributes:
        input_tokens: an upper bound, of everything that is sent (`TokenCounter.at_most`).
        max_output_tokens: what the provider is told to stop at, reasoning included.
        texts: how many texts it asks about.
        base_url: the server, for provider "compatible": it tells whose prices apply.
        batch: sent through a batch API; its reservation outlives the process (see `Meter.adopt`).
    """

    source: str
    provider: str
    model: str
    input_tokens: int
    max_output_tokens: int
    texts: int
    base_url: str | None = None
    batch: bool = False


@dataclass(frozen=True)
class Reservation:
    """Money kept for one request. Must be ended by exactly one of the Meter's three ways."""

    held: Held
    price: Price | None

    @property
    def id(self) -> int:
        return self.held.id


@dataclass(frozen=True)
class RunSpend:
    """Spend of the run and of the current month over all runs, with their limits (None: none)."""

    run: Spend
    month: Spend
    run_limit: Decimal | None
    month_limit: Decimal | None

    @property
    def left(self) -> Decimal | None:
        """US dollars that can still be reserved; None without a limit."""
        pairs = ((self.run_limit, self.run), (self.month_limit, self.month))
        left = [limit - spend.total for limit, spend in pairs if limit is not None]
        return max(min(left), Decimal(0)) if left else None


class Meter:
    """Budget and ledger of one run. Safe to share between its tasks and threads.

    Opening one settles what dead processes left reserved, at its worst case.
    """

    def __init__(self, ledger: Ledger, run: str, costs: CostConfig) -> None:
        self._ledger, self._run = ledger, run
        self._prices = PriceBook.of(costs)
        self._limits = {
            "run": _dollars(costs.budget.run_usd),
            "month": _dollars(costs.budget.month_usd),
        }
        self._open: dict[int, Decimal] = {}
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._overrun: dict[str, Decimal] = {}
        ledger.resolve_abandoned()

    def price(self, request: RequestEstimate) -> Price | None:
        """The price that `request` is reserved and settled at; None if it is unknown."""
        return self._prices.price(
            request.provider, request.model, base_url=request.base_url, batch=request.batch
        )

    async def reserve(self, request: RequestEstimate) -> Reservation:
        """Keep the worst case of `request`, or raise.

        If it would fit once requests of this meter that are under way cost less than their worst
        case, waits for them; so do not hold one reservation while asking for another.

        Raises LimitError if it does not fit, and ConfigError if a limit is set and the price of the
        model is unknown.
        """
        price = self.price(request)
        if price is None and any(limit is not None for limit in self._limits.values()):
            raise _unknown_price(request.provider, request.model)
        worst = self._worst(request, price)
        with self._watching() as settled:
            while True:
                settled.clear()
                held = self._try(request, worst)
                if held is not None:
                    return Reservation(held, price)
                await settled.wait()

    def adopt(self, reservation: int, request: RequestEstimate) -> Reservation | None:
        """A batch reservation of an earlier process, by its id; None if it was settled."""
        held = self._ledger.held(reservation)
        return held and Reservation(held, self.price(request))

    def settle(
        self, reservation: Reservation, usage: Usage, *, status: str, latency_s: float
    ) -> None:
        """The request was billed for `usage`: whatever `status` ("ok", "refused", …) it ended in.

        Put the answer into the cache first. Raises ValueError for a reservation that has ended.
        """
        held, usd = reservation.held, None
        if reservation.price is not None:
            usd = reservation.price.cost(usage, held.entry.time)
        self._end(held, usage, usd, status=status, latency_s=latency_s)
        if usd is not None and held.usd is not None and usd > held.usd:
            self._learn_overrun(reservation, usd)

    def release(self, reservation: Reservation, *, status: str, latency_s: float) -> None:
        """The request failed and is known not to be billed (refused connection, 429, 500)."""
        self._end(reservation.held, Usage(0, 0), Decimal(0), status=status, latency_s=latency_s)

    def forfeit(self, reservation: Reservation, *, status: str, latency_s: float) -> None:
        """Nobody knows whether it was billed (timeout, reset, cancelled): the worst case counts."""
        held = reservation.held
        worst = Usage(held.input_tokens, held.output_tokens)
        self._end(held, worst, held.usd, status=status, latency_s=latency_s)

    def note_cached(self, source: str, provider: str, model: str, texts: int) -> None:
        """Record that `texts` answers came from the cache, for what it saved."""
        if texts:
            entry = Entry(datetime.now(UTC), self._run, source, provider, model, texts)
            self._ledger.add(entry, Usage(0, 0), Decimal(0), latency_s=0.0, status=CACHED)

    def spend(self) -> RunSpend:
        """What was spent and is reserved now."""
        month = datetime.now(UTC).strftime("%Y-%m")
        return RunSpend(
            self._ledger.spend(run=self._run),
            self._ledger.spend(month=month),
            self._limits["run"],
            self._limits["month"],
        )

    # Reserving.

    def _worst(self, request: RequestEstimate, price: Price | None) -> Decimal | None:
        if price is None:
            return None
        worst = price.at_most(request.input_tokens, request.max_output_tokens)
        return worst * self._overrun.get(request.model, Decimal(1))

    def _try(self, request: RequestEstimate, worst: Decimal | None) -> Held | None:
        """Reserve; None if only what this meter has under way is in the way."""
        entry = Entry(
            datetime.now(UTC),
            self._run,
            *(request.source, request.provider, request.model, request.texts),
        )
        with self._ledger.writing():
            if worst and not self._fits(entry, worst):
                return None
            held = self._ledger.hold(
                entry, (request.input_tokens, request.max_output_tokens), worst, batch=request.batch
            )
            # A batch may take a day: nobody waits for it.
            if not request.batch:
                self._open[held.id] = worst or Decimal(0)
        return held

    def _fits(self, entry: Entry, worst: Decimal) -> bool:
        """False if it would fit once ours are settled. Raises LimitError if not even then."""
        fits = True
        own = sum(list(self._open.values()), Decimal(0))
        for name, filters in (("run", {"run": self._run}), ("month", {"month": entry.month})):
            limit = self._limits[name]
            if limit is None:
                continue
            total = self._ledger.spend(**filters).total + worst
            if total - own > limit:
                raise _limit_reached(name, total, limit)
            fits = fits and total <= limit
        return fits

    # Settling.

    def _end(
        self, held: Held, usage: Usage, usd: Decimal | None, *, status: str, latency_s: float
    ) -> None:
        self._ledger.settle(held, usage, usd, latency_s=latency_s, status=status)
        self._open.pop(held.id, None)
        for loop, settled in list(self._watchers):
            loop.call_soon_threadsafe(settled.set)

    @contextmanager
    def _watching(self) -> Iterator[asyncio.Event]:
        watcher = (asyncio.get_running_loop(), asyncio.Event())
        self._watchers.add(watcher)
        try:
            yield watcher[1]
        finally:
            self._watchers.discard(watcher)

    def _learn_overrun(self, reservation: Reservation, usd: Decimal) -> None:
        """An upper bound was wrong: keep that much more for the model's requests from now on."""
        held, price = reservation.held, reservation.price
        bound = price.at_most(held.input_tokens, held.output_tokens) if price else Decimal(0)
        if bound:
            known = self._overrun.get(held.entry.model, Decimal(1))
            self._overrun[held.entry.model] = max(known, usd / bound)
        warnings.warn(
            f"A request to {held.entry.model} cost {usd} USD, more than the {held.usd} USD that "
            "were reserved for it; later requests reserve accordingly more",
            CostWarning,
            stacklevel=3,
        )


def _dollars(limit: float | None) -> Decimal | None:
    return None if limit is None else Decimal(str(limit))


def _limit_reached(name: str, total: Decimal, limit: Decimal) -> LimitError:
    return LimitError(
        f"{name} budget (USD)",
        float(total),
        float(limit),
        remedy=f"Raise costs.budget.{name}_usd and resume the run (what is scored stays), or go on "
        "with the rows that are scored",
    )


def check_price(costs: CostConfig, provider: str, model: str, base_url: str | None) -> None:
    """Raise ConfigError if a limit is set that an unknown price would make worthless."""
    limited = costs.budget.run_usd is not None or costs.budget.month_usd is not None
    if limited and PriceBook.of(costs).price(provider, model, base_url=base_url) is None:
        raise _unknown_price(provider, model)


def _unknown_price(provider: str, model: str) -> ConfigError:
    return ConfigError(
        f"A budget is set and the price of {model!r} ({provider}) is unknown",
        where="config costs.prices",
        expected="US dollars per million tokens",
        remedy=f"Set costs.prices.{model}.input_per_million and output_per_million (0 for "
        "a server of your own), or remove the budget",
    )
