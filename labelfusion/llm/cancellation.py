"""Ending LLM scoring from another thread than the one whose event loop it runs in.

Knows tasks and loops. Does not know why somebody wants it to end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Cancellation:
    """Ends all work that it covers, in whatever threads it runs. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._under_way: set[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = set()

    def cancel(self) -> None:
        """Cancel what is under way, and whatever would begin later."""
        with self._lock:
            self._asked = True
            for loop, task in self._under_way:
                loop.call_soon_threadsafe(task.cancel)

    async def covering(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`. Raises asyncio.CancelledError once `cancel` was called."""
        task = asyncio.current_task()
        assert task is not None
        mine = (asyncio.get_running_loop(), task)
        with self._lock:
            if self._asked:
                work.close()
                raise asyncio.CancelledError
            self._under_way.add(mine)
        try:
            return await work
        finally:
            with self._lock:
                self._under_way.discard(mine)
