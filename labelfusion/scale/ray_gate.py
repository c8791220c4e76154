"""One budget and one rate for the workers of a cluster: both live in an actor of one job.

The ledger is a file on the machine where the job was started, so the actor is there too; every
reservation of every worker goes through it, and the limits hold as they do in one process. Knows
meters and rates. Does not know rows or models. Nothing secret passes through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelfusion.config import CostConfig
from labelfusion.costs import Meter, open_meter
from labelfusion.costs.budget import RequestEstimate, Reservation, RunSpend
from labelfusion.costs.prices import Price, Usage
from labelfusion.llm.providers.base import RateLimits
from labelfusion.llm.rate import RateControl
from labelfusion.scale.ray_cluster import answer


class Gate:
    """What the actor does. Its methods are asynchronous, so that many workers can wait at once."""

    def __init__(self, root: Path, ledger: str, costs: CostConfig) -> None:
        self._meter = open_meter(root, ledger, costs)
        self._rates: dict[str, RateControl] = {}

    async def reserve(self, request: RequestEstimate) -> Reservation:
        return await self._meter.reserve(request)

    async def meter(self, name: str, *args: Any, **options: Any) -> Any:
        """Another method of the meter."""
        return getattr(self._meter, name)(*args, **options)

    async def turn(self, source: str) -> float:
        return await self._rate(source).turn()

    async def rate(self, source: str, name: str, *args: Any) -> None:
        """Another method of a source's rate."""
        getattr(self._rate(source), name)(*args)

    def _rate(self, source: str) -> RateControl:
        return self._rates.setdefault(source, RateControl())


class RemoteMeter(Meter):
    """A meter whose budget and ledger are the gate's; see `labelfusion.costs.budget.Meter`."""

    def __init__(self, gate: Any) -> None:
        self._gate = gate

    def price(self, request: RequestEstimate) -> Price | None:
        return self._ask("price", request)

    async def reserve(self, request: RequestEstimate) -> Reservation:
        return await _raised_as_it_was(self._gate.reserve.remote(request))

    def adopt(self, reservation: int, request: RequestEstimate) -> Reservation | None:
        return self._ask("adopt", reservation, request)

    def settle_batch(
        self, reservation: Reservation, usages: Sequence[Usage], *, status: str, latency_s: float
    ) -> None:
        self._ask("settle_batch", reservation, list(usages), status=status, latency_s=latency_s)

    def release(self, reservation: Reservation, *, status: str, latency_s: float) -> None:
        self._ask("release", reservation, status=status, latency_s=latency_s)

    def forfeit(self, reservation: Reservation, *, status: str, latency_s: float) -> None:
        self._ask("forfeit", reservation, status=status, latency_s=latency_s)

    def note_cached(self, source: str, provider: str, model: str, texts: int) -> None:
        self._ask("note_cached", source, provider, model, texts)

    def spend(self) -> RunSpend:
        return self._ask("spend")

    def _ask(self, name: str, *args: Any, **options: Any) -> Any:
        return answer(self._gate.meter.remote(name, *args, **options))


class RemotePace:
    """A source's rate, which is the gate's; see `labelfusion.llm.rate.Pace`."""

    def __init__(self, gate: Any, source: str) -> None:
        self._gate, self._source = gate, source

    async def turn(self) -> float:
        return await self._gate.turn.remote(self._source)

    def accepted(self, limits: RateLimits | None) -> None:
        if limits is not None:
            self._tell("accepted", limits)

    def refused(self, sent_at: float, retry_after_s: float | None) -> None:
        self._tell("refused", sent_at, retry_after_s)

    def pause(self, seconds: float) -> None:
        self._tell("pause", seconds)

    def _tell(self, name: str, *args: Any) -> None:
        self._gate.rate.remote(self._source, name, *args)


async def _raised_as_it_was(reference: Any) -> Any:
    """The result of an actor's method; what it raised is raised, and not Ray's word for it."""
    from ray.exceptions import RayTaskError

    try:
        return await reference
    except RayTaskError as error:
        raise error.cause from None
