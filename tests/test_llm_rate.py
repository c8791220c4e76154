"""Rate control, breaker and batch sizes, on a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from labelfusion.errors import ProviderError
from labelfusion.llm.providers.base import RateLimits
from labelfusion.llm.rate import Breaker, RateControl
from labelfusion.llm.work import BatchSize, Task, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("labelfusion.llm.rate.asyncio.sleep", clock.sleep)
    return clock


def drive(clock: Clock, limit: int, seconds: float) -> tuple[int, int]:
    """Requests accepted and refused by a server that allows `limit` in any second."""

    async def main():
        control, window, accepted, refused = RateControl(clock), [], 0, 0
        while clock.now < seconds:
            sent = await control.turn()
            window = [t for t in window if t > clock.now - 1]
            if len(window) < limit:
                window.append(clock.now)
                accepted += 1
                control.accepted(None)
            else:
                refused += 1
                control.refused(sent, window[0] + 1 - clock.now)
        return accepted, refused

    return asyncio.run(main())


@pytest.mark.parametrize(("limit", "most_refused"), [(5, 0.1), (20, 0.03), (200, 0.03)])
def test_the_rate_finds_the_limit(clock, limit, most_refused):
    accepted, refused = drive(clock, limit, 60)
    assert accepted > 0.85 * limit * 60
    assert refused < most_refused * accepted


def test_without_a_limit_the_rate_grows(clock):
    assert drive(clock, 10**9, 5)[0] > 1000


def test_headers_slow_the_rate_before_a_refusal(clock):
    control = RateControl(clock)
    control.accepted(RateLimits(limit=60, remaining=50, reset_s=10))
    assert control.rate == 50
    control.accepted(RateLimits(limit=60, remaining=1, reset_s=59))
    assert control.rate == pytest.approx(1)


def test_advice_to_wait_is_heeded(clock):
    async def main():
        control = RateControl(clock)
        control.refused(await control.turn(), 7.0)
        return await control.turn()

    assert asyncio.run(main()) >= 7


def test_refusals_of_one_burst_lower_the_rate_once(clock):
    async def main():
        control = RateControl(clock)
        sent = [await control.turn() for _ in range(20)]
        clock.now += 0.1
        rates = []
        for at in sent[-5:]:
            control.refused(at, 0.0)
            rates.append(control.rate)
        return rates

    rates = asyncio.run(main())
    assert rates[0] < 50
    assert len(set(rates)) == 1


def test_the_breaker_opens_tries_again_and_gives_up(clock):
    async def main():
        breaker = Breaker(threshold=3, cooldown_s=1, trials=2)
        for _ in range(3):
            assert not await breaker.enter()
            breaker.leave(False, "down")
        for _ in range(2):
            assert await breaker.enter()
            breaker.leave(True, "down")
        with pytest.raises(ProviderError, match="down"):
            await breaker.enter()

    asyncio.run(main())
    assert clock.now == 1 + 2


def test_the_breaker_closes_after_a_trial_that_went_well(clock):
    async def main():
        breaker = Breaker(threshold=1, cooldown_s=1, trials=2)
        breaker.leave(False, "down")
        breaker.leave(await breaker.enter(), None)
        return await breaker.enter()

    assert asyncio.run(main()) is False


def test_batches_shrink_on_trouble_and_grow_back():
    size = BatchSize(8)
    size.trouble()
    size.trouble()
    assert size.now == 2
    for _ in range(100):
        size.clean()
    assert size.now == 8
    for _ in range(9):
        size.trouble()
    assert size.now == 1


def test_work_is_handed_out_by_prefix_and_length():
    async def main():
        tasks = [Task(str(i), {}, "ab"[i % 2], 10) for i in range(8)]
        tasks += [Task("long", {}, "a", 30_000), Task("alone", {}, "a", 10, alone=True)]
        queue = WorkQueue(tasks, BatchSize(8))
        batches = []
        while (batch := await queue.take()) is not None:
            batches.append(batch)
            queue.finish()
        return batches

    batches = asyncio.run(main())
    assert sorted(task.key for batch in batches for task in batch) == sorted(
        [*map(str, range(8)), "long", "alone"]
    )
    for batch in batches:
        assert len({task.prefix for task in batch}) == 1
        assert len(batch) == 1 or not {"long", "alone"} & {task.key for task in batch}
