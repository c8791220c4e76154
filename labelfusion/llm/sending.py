"""One request, until it has a reply or has failed for good: rate, budget, retries, capabilities.

Knows providers, money and time. Knows neither labels nor what a reply means: `read` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from labelfusion.config import LLMConfig
from labelfusion.costs import RequestEstimate, TokenCounter, Usage
from labelfusion.errors import ProviderError
from labelfusion.llm.credentials import redact
from labelfusion.llm.providers.base import (
    PASSING,
    Ask,
    Capabilities,
    Failure,
    Provider,
    Reply,
)
from labelfusion.llm.rate import Breaker, Pace, RateControl

if TYPE_CHECKING:
    from labelfusion.costs import Meter, Reservation

Result = TypeVar("Result")
# Reads a reply, keeps what is in it, and says how the request ended (for the ledger).
ReadReply = Callable[[Reply], str]
# A provider that asks to be left alone for longer than this is out for this run.
_LONGEST_WAIT_S = 300.0
# A refused request waits in the rate control, so its own back-off is only a token one.
_AFTER_REFUSAL_S = 0.05

# Retries are part of the plan: without a handler of the user's own they are not printed.
logging.getLogger("stamina").addHandler(logging.NullHandler())


class Sender:
    """Sends the requests of one source. Safe to share between the tasks of one event loop."""

    def __init__(
        self,
        entry: LLMConfig,
        provider: Provider,
        model: str,
        *,
        key: str | None = None,
        meter: Meter | None = None,
        breaker: Breaker | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._entry, self._provider, self._model = entry, provider, model
        self._key, self._meter = key, meter
        self._capabilities = Capabilities(provider.features)
        self._breaker = breaker or Breaker(threshold=max(10, 2 * entry.concurrency))
        self.rate: Pace = pace or RateControl()
        self.tokens = TokenCounter(entry.provider, model)

    async def send(self, ask: Ask, n_texts: int, read: ReadReply) -> None:
        """Send `ask` until a reply came and was read.

        Raises:
            Failure: no reply after all attempts, or this request cannot be answered as it is.
            ProviderError: the provider cannot be used at all.
            LimitError: the budget does not allow it.
        """
        async for attempt in self._attempts(_wait_before_retry):
            with attempt:
                await self._try(ask, n_texts, read)

    async def call(self, work: Callable[[], Awaitable[Result]], *, once: bool = False) -> Result:
        """Something else than a request, again while it fails in passing.

        With `once`, what may have been billed is not sent again. Raises Failure.
        """
        async for attempt in self._attempts(_wait_if_unbilled if once else _wait_before_retry):
            with attempt, self._redacting():
                return await work()
        raise AssertionError("attempts end in a result or an error")

    def _attempts(self, wait: Callable[[Exception], bool | float]) -> Any:
        import stamina

        return stamina.retry_context(
            on=wait,
            attempts=self._entry.max_attempts,
            timeout=None,
            wait_initial=0.2,
            wait_max=20.0,
            wait_jitter=0.5,
        )

    @property
    def features(self) -> frozenset[str]:
        """What the model takes, as far as that is known."""
        return self._capabilities.active

    async def _try(self, ask: Ask, n_texts: int, read: ReadReply) -> None:
        """One attempt, as far as the breaker lets it through."""
        trial = await self._breaker.enter()
        problem = None
        try:
            await self._once(ask, n_texts, read)
        except Failure as failure:
            # A provider that asks for patience, or that rejects a request, is not down.
            problem = failure.message if failure.kind in PASSING - {"rate"} else None
            raise
        finally:
            self._breaker.leave(trial, problem)

    async def _once(self, ask: Ask, n_texts: int, read: ReadReply) -> None:
        sent_at = await self.rate.turn()
        features = self._capabilities.active
        reservation = await self._reserve(ask, n_texts)
        started = time.monotonic()
        try:
            reply = await self._ask(ask, features)
        except Failure as failure:
            self._end_failed(reservation, failure, time.monotonic() - started)
            if failure.kind == "unsupported" and self._capabilities.drop(failure.message, features):
                return await self._once(ask, n_texts, read)
            self._heed(failure, sent_at)
            raise failure from None
        except BaseException:
            # Cancelled under way: it may have to be paid.
            if reservation is not None and self._meter is not None:
                latency_s = time.monotonic() - started
                self._meter.forfeit(reservation, status="cancelled", latency_s=latency_s)
            raise
        self._capabilities.confirm(features)
        self.rate.accepted(reply.limits)
        self._end_answered(reservation, ask, reply, read, time.monotonic() - started)
        return None

    async def _ask(self, ask: Ask, features: frozenset[str]) -> Reply:
        try:
            # The SDK has the same limit for its parts; this one holds for the whole.
            async with asyncio.timeout(self._entry.timeout_s):
                with self._redacting():
                    return await self._provider.ask(ask, features)
        except TimeoutError:
            raise Failure("timeout", "no reply in time", billed=True) from None

    @contextmanager
    def _redacting(self) -> Iterator[None]:
        try:
            yield
        except Failure as failure:
            failure.message = redact(failure.message, self._key)
            failure.args = (f"{failure.kind}: {failure.message}",)
            raise failure from None

    async def _reserve(self, ask: Ask, n_texts: int) -> Reservation | None:
        if self._meter is None:
            return None
        return await self._meter.reserve(self.estimate([ask], n_texts))

    def estimate(
        self, asks: Sequence[Ask], n_texts: int, *, batch: bool = False
    ) -> RequestEstimate:
        """What requests about `n_texts` texts may take at most, all of them together."""
        return RequestEstimate(
            source=self._entry.name,
            provider=self._entry.provider,
            model=self._model,
            input_tokens=sum(self.tokens.at_most(*_sent(ask)) for ask in asks),
            max_output_tokens=sum(ask.max_output_tokens for ask in asks),
            texts=n_texts,
            base_url=self._entry.base_url,
            batch=batch,
        )

    def usage(self, ask: Ask, reply: Reply) -> Usage:
        """What a reply is billed for: as it says, else as it looks."""
        sent = "".join(_sent(ask))
        if reply.usage is None:
            return Usage(self.tokens.count(sent), self.tokens.count(reply.text))
        self.tokens.observe(sent, reply.usage.input_tokens)
        return reply.usage

    def _end_failed(
        self, reservation: Reservation | None, failure: Failure, latency_s: float
    ) -> None:
        if reservation is not None and self._meter is not None:
            end = self._meter.forfeit if failure.billed else self._meter.release
            end(reservation, status=failure.kind, latency_s=latency_s)

    def _end_answered(
        self,
        reservation: Reservation | None,
        ask: Ask,
        reply: Reply,
        read: ReadReply,
        latency_s: float,
    ) -> None:
        status = read(reply)
        usage = self.usage(ask, reply)
        if reservation is not None and self._meter is not None:
            self._meter.settle(reservation, usage, status=status, latency_s=latency_s)

    def _heed(self, failure: Failure, sent_at: float) -> None:
        """What a failure says of the provider as a whole."""
        if failure.kind == "fatal" or (failure.retry_after_s or 0) > _LONGEST_WAIT_S:
            raise self.fatal(failure) from None
        if failure.kind == "rate":
            self.rate.refused(sent_at, failure.retry_after_s)
        elif failure.retry_after_s:
            self.rate.pause(failure.retry_after_s)

    def fatal(self, failure: Failure) -> ProviderError:
        """The error for a failure that no other request would mend."""
        return ProviderError(
            f"{self._entry.provider} cannot be asked",
            where=f"llm {self._entry.name}, model {self._model}",
            found=failure.message[:500],
            remedy="Check the key, the model's name, base_url and the account's balance",
        )


def _sent(ask: Ask) -> tuple[str, str, str]:
    """Everything a request is billed for."""
    return ask.prompt.system, ask.prompt.user, str(dict(ask.schema)) if ask.schema else ""


def _wait_before_retry(error: Exception) -> bool | float:
    """stamina's hook: whether to try again, or after how many seconds."""
    if not isinstance(error, Failure) or error.kind not in PASSING:
        return False
    return _AFTER_REFUSAL_S if error.kind == "rate" else True


def _wait_if_unbilled(error: Exception) -> bool | float:
    """`_wait_before_retry` for what must not be paid twice."""
    return not getattr(error, "billed", False) and _wait_before_retry(error)
