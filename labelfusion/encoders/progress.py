"""Progress of long work, told no more often than a person can read.

Knows events and time. Does not know what the work is.
"""

from __future__ import annotations

import time

from labelfusion.types import Event, OnEvent

SECONDS_BETWEEN_EVENTS = 0.5


class Progress:
    """Tells `on_event` how many of `total` texts are done: at the end, and now and then before."""

    def __init__(self, on_event: OnEvent, total: int) -> None:
        self.total, self._on_event = total, on_event
        self._told = time.monotonic()

    def tell(self, done: int, message: str) -> None:
        """`done` of `total` texts."""
        if done < self.total and time.monotonic() - self._told < SECONDS_BETWEEN_EVENTS:
            return
        self._told = time.monotonic()
        self._on_event(Event("ml", "progress", message, done, self.total, "texts"))
