"""How far the scoring of one source is, as Events (stage "llm").

`data` holds source, done, cached, failed (texts), rate (texts a second asked for), spent (US
dollars, of the whole run; None if not counted), unpriced (requests whose price is unknown) and eta
(seconds, None if unknown).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labelfusion.types import Event, EventStatus, OnEvent

if TYPE_CHECKING:
    from labelfusion.costs import Meter

_EVERY_S = 0.5


class Progress:
    """Counts texts and tells `on_event`, at most every half second."""

    def __init__(self, source: str, total: int, on_event: OnEvent, meter: Meter | None) -> None:
        self._source, self._total = source, total
        self._on_event, self._meter = on_event, meter
        self._started = time.monotonic()
        self._told = 0.0
        self.done = self.cached = self.failed = 0

    def note(self, message: str) -> None:
        """Tell something beside the count."""
        self._tell("note", message)

    def tell(self, status: EventStatus = "progress", message: str = "") -> None:
        """Tell the count; one that comes too soon after the last is left out."""
        now = time.monotonic()
        if status != "progress" or now - self._told >= _EVERY_S:
            self._told = now
            self._tell(status, message)

    def _tell(self, status: EventStatus, message: str) -> None:
        self._on_event(
            Event("llm", status, message, self.done, self._total, "texts", data=self._data())
        )

    def _data(self) -> dict[str, object]:
        seconds = max(1e-9, time.monotonic() - self._started)
        rate = (self.done - self.cached) / seconds
        left = self._total - self.done - self.failed
        spend = None if self._meter is None else self._meter.spend().run
        return {
            "source": self._source,
            "done": self.done,
            "cached": self.cached,
            "failed": self.failed,
            "rate": round(rate, 3),
            "spent": None if spend is None else float(spend.settled),
            "unpriced": 0 if spend is None else spend.unpriced,
            "eta": round(left / rate, 1) if rate > 0 else None,
        }
