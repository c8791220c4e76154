"""The texts still to be scored, and how many of them go into one request.

Knows nothing of providers or replies.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Characters of texts in one request: longer requests are answered worse and are dearer to repeat.
_MAX_CHARACTERS = 24_000
# Requests without trouble after which one more text is put into each.
_CLEAN_RUN = 5
# Times a text is asked about, retries not counted: with others, then alone.
MAX_ROUNDS = 3


@dataclass
class Task:
    """One distinct text to be scored.

    Attributes:
        key: its cache key.
        item: its part of the request, without an id.
        prefix: the static part of its request.
        size: characters of the item.
        alone: whether it must have a request of its own.
        rounds: how often it was asked about.
        doubted: scores that came in a reply that was not trusted.
    """

    key: str
    item: Mapping[str, object]
    prefix: str
    size: int
    alone: bool = False
    rounds: int = 0
    doubted: Mapping[str, float] | None = None


class BatchSize:
    """Texts a request: halved on trouble, one more after some requests without."""

    def __init__(self, most: int) -> None:
        self._most = self._now = most
        self._clean = 0

    @property
    def now(self) -> int:
        return self._now

    def trouble(self) -> None:
        self._now, self._clean = max(1, self._now // 2), 0

    def clean(self) -> None:
        self._clean += 1
        if self._clean >= _CLEAN_RUN:
            self._now, self._clean = min(self._most, self._now + 1), 0


class WorkQueue:
    """Hands out batches of tasks with the same prefix until all are finished."""

    def __init__(self, tasks: Iterable[Task], size: BatchSize) -> None:
        self._size = size
        self._together: dict[str, deque[Task]] = defaultdict(deque)
        self._alone: deque[Task] = deque()
        self._in_flight = 0
        self._changed = asyncio.Event()
        # Neighbours in a file are often alike, and two processes should not meet at every text.
        for task in random.sample(ordered := list(tasks), len(ordered)):
            self._put(task)

    async def take(self) -> list[Task] | None:
        """The next batch, or None when nothing is left and nothing can come back."""
        while not (batch := self._next()):
            if not self._in_flight:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._in_flight += 1
        return batch

    def again(self, task: Task) -> None:
        """Put a task back, to be asked about after the others."""
        self._put(task)
        self._changed.set()

    def finish(self) -> None:
        """A batch that was taken is done with; what `again` put back is not."""
        self._in_flight -= 1
        self._changed.set()

    def drain(self) -> list[Task]:
        """Take out everything that is waiting."""
        left = [*self._alone, *(task for queue in self._together.values() for task in queue)]
        self._alone.clear()
        self._together.clear()
        return left

    def _put(self, task: Task) -> None:
        (self._alone if task.alone else self._together[task.prefix]).append(task)

    def _next(self) -> list[Task]:
        prefix = next((p for p, queue in self._together.items() if queue), None)
        if prefix is None:
            return [self._alone.popleft()] if self._alone else []
        queue = self._together[prefix]
        batch = [queue.popleft()]
        size = batch[0].size
        while queue and len(batch) < self._size.now and size + queue[0].size <= _MAX_CHARACTERS:
            batch.append(queue.popleft())
            size += batch[-1].size
        return batch
