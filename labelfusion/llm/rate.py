"""How fast a provider may be asked, found out by asking; and when to stop asking.

`RateControl` starts fast, doubling each second, until the first refusal; from there the rate rises
slowly and falls by a factor with each refusal (additive increase, multiplicative decrease: Chiu and
Jain 1989), with the pauses and limits that the provider's headers tell. `Breaker` spares a
provider that is down. Neither knows what is asked.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from typing import Protocol

from labelfusion.errors import ProviderError
from labelfusion.llm.providers.base import RateLimits

_START = 50.0
_SLOWEST, _FASTEST = 0.02, 5000.0
_SLIGHTLY, _MUCH = 0.95, 0.8
# Relative growth a second after a refusal, times a fifth of the seconds gone by.
_GROWTH = 0.008
# Accepted requests since the last refusal that make the next one no sign of being far too fast.
_ENOUGH = 10
_PAUSE_WITHOUT_ADVICE = 1.0
# Advice is rounded, and a request that comes a moment early is refused again.
_CUSHION_S = 0.03


class Pace(Protocol):
    """What a sender needs of a rate; requests of other processes may share it."""

    async def turn(self) -> float:
        """Wait until the next request may be sent; returns the time it was let through."""
        ...

    def accepted(self, limits: RateLimits | None) -> None:
        """A reply came, with what it says of the limit."""
        ...

    def refused(self, sent_at: float, retry_after_s: float | None) -> None:
        """The provider said "too many requests" to one let through at `sent_at`."""
        ...

    def pause(self, seconds: float) -> None:
        """The provider asks to be left alone."""
        ...


class RateControl:
    """Requests a second, adapted. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        now = clock()
        self._rate = _START
        self._base: float | None = None  # the rate after the last refusal; None before any
        self._epoch = self._grown = self._next = now
        self._resume = now
        self._sent = 0
        self._turn = asyncio.Lock()

    @property
    def rate(self) -> float:
        """Requests a second that may be sent now."""
        return self._rate

    async def turn(self) -> float:
        """Wait until the next request may be sent; returns the time it was let through."""
        async with self._turn:
            while (wait := self._wait()) > 0:
                await asyncio.sleep(wait)
            now = self._clock()
            self._next = max(self._next, now - 1 / self._rate) + 1 / self._rate
            self._sent += 1
            return now

    def _wait(self) -> float:
        now = self._clock()
        self._grow(now)
        return max(self._next, self._resume) - now

    def _grow(self, now: float) -> None:
        passed, self._grown = now - self._grown, now
        if self._base is None:
            self._rate *= 2.0**passed
        elif now > self._resume:
            since = now - max(self._epoch, self._resume)
            self._rate += self._base * _GROWTH * max(1.0, since / 5) * passed
        self._rate = min(self._rate, _FASTEST)

    def accepted(self, limits: RateLimits | None) -> None:
        """A reply came; heed what it says of the limit once little of it is left."""
        if limits is None or limits.remaining >= max(2, limits.limit // 10) or not limits.reset_s:
            return
        refill = (limits.limit - limits.remaining) / limits.reset_s
        self._slow_to(refill)
        if limits.remaining == 0:
            self.pause(1 / self._rate)

    def refused(self, sent_at: float, retry_after_s: float | None) -> None:
        """The provider said "too many requests" to one sent at `sent_at`."""
        now = self._clock()
        pause = _PAUSE_WITHOUT_ADVICE if retry_after_s is None else retry_after_s
        self.pause(pause)
        accepted, self._sent = self._sent - 1, self._sent - 1
        if sent_at < self._epoch:
            return  # sent before the rate was lowered: says nothing of the new one
        self._slow_to(self._lower(accepted, now - self._epoch, pause))
        self._epoch, self._sent = now, 0

    def _lower(self, accepted: int, seconds: float, pause: float) -> float:
        """The rate after a refusal: a little lower, or much where that was just tried."""
        if self._base is None and accepted >= _ENOUGH:
            # What was let through until the provider is ready again is what it allows.
            return min(self._rate, accepted / max(1.0, seconds + pause)) * _SLIGHTLY
        return self._rate * (_SLIGHTLY if accepted >= _ENOUGH else _MUCH)

    def pause(self, seconds: float) -> None:
        """The provider asks to be left alone, without saying that it was asked too fast."""
        self._resume = max(self._resume, self._clock() + seconds + _CUSHION_S)

    def _slow_to(self, rate: float) -> None:
        self._rate = self._base = max(_SLOWEST, min(rate, self._rate))

    def again(self) -> RateControl:
        """The same rate for another event loop, to which a lock cannot be taken along."""
        known = copy.copy(self)
        known._turn = asyncio.Lock()
        return known


class KeptPaces:
    """A rate per source that outlives one scoring: what was learnt of a provider holds on."""

    def __init__(self) -> None:
        self._known: dict[str, RateControl] = {}

    def __call__(self, source: str) -> Pace:
        self._known[source] = self._known.get(source, RateControl()).again()
        return self._known[source]


class Breaker:
    """Stops asking a provider that fails without end, tries again now and then, gives up at last.

    Args:
        threshold: failures in a row that open it.
        cooldown_s: the first pause; each failed trial doubles it.
        trials: failed trials after which it gives up.
    """

    def __init__(self, threshold: int = 10, cooldown_s: float = 2.0, trials: int = 4) -> None:
        self._threshold, self._cooldown_s, self._trials = threshold, cooldown_s, trials
        self._in_a_row = self._failed_trials = 0
        self._trial = asyncio.Lock()
        self._last = ""

    async def enter(self) -> bool:
        """Wait until a request may be sent; True if it is a trial, which `leave` must end.

        Raises ProviderError: the trials were in vain.
        """
        if self._in_a_row < self._threshold:
            return False
        await self._trial.acquire()
        try:
            if self._in_a_row < self._threshold:
                self._trial.release()
                return False
            self._check()
            await asyncio.sleep(self._cooldown_s * 2**self._failed_trials)
        except (ProviderError, asyncio.CancelledError):
            self._trial.release()
            raise
        return True

    def leave(self, trial: bool, problem: str | None) -> None:
        """A request ended, well (`problem` None) or not."""
        if problem is None:
            self._in_a_row = self._failed_trials = 0
        else:
            self._in_a_row, self._last = self._in_a_row + 1, problem
            self._failed_trials += trial
        if trial:
            self._trial.release()

    def _check(self) -> None:
        if self._failed_trials >= self._trials:
            raise ProviderError(
                f"The provider failed {self._in_a_row} times in a row",
                found=self._last,
                remedy="Try again later: the answers that came are kept",
            )
