"""Anthropic's message batches: requests are handed in, and replies fetched, in one piece each.

Knows batches. What a request and a reply look like is the provider's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from labelfusion.llm.providers.anthropic import AnthropicProvider, failures, read_reply
from labelfusion.llm.providers.base import Ask, BatchState, Failure, Reply
from labelfusion.llm.providers.http import failure

# Seconds for many megabytes of requests or replies.
_TRANSFER_S = 600.0
# Clocks differ: a batch counts as handed in after a moment if it was less than this before it.
_CLOCKS = timedelta(minutes=10)
# Our own requests that another one, in the same words, will not mend.
_REJECTED = {"invalid_request_error": 400, "request_too_large": 413}


class AnthropicBatches:
    """See `Batches`. A batch bears no mark of ours: the names of its requests tell whose it is."""

    def __init__(self, provider: AnthropicProvider) -> None:
        self._provider, self._client = provider, provider.client

    async def submit(
        self,
        asks: Mapping[str, Ask],
        features: frozenset[str],
        token: str,  # noqa: ARG002
    ) -> str:
        requests: list[Any] = [
            {"custom_id": name, "params": self._params(ask, features)} for name, ask in asks.items()
        ]
        with failures():
            batch = await self._client.messages.batches.create(
                requests=requests, timeout=_TRANSFER_S
            )
        return batch.id

    def _params(self, ask: Ask, features: frozenset[str]) -> dict[str, Any]:
        params = self._provider.arguments(ask, features)
        return params | params.pop("extra_body", {})

    async def find(self, token: str, requests: int, since: datetime) -> str | None:
        with failures():
            async for batch in self._client.messages.batches.list(limit=100):  # the newest first
                if batch.created_at < since - _CLOCKS:
                    return None
                if _state(batch).total == requests and await self._may_be(batch, token):
                    return batch.id
        return None

    async def _may_be(self, batch: Any, token: str) -> bool:
        """Whether a batch of the right size carries the mark: only an ended one can tell."""
        if batch.results_url is None:
            return batch.processing_status != "ended"
        lines = await self._client.messages.batches.results(batch.id)
        names = [line.custom_id async for line in lines]
        return any(name.startswith(token) for name in names)

    async def state(self, batch_id: str) -> BatchState | None:
        import anthropic

        with failures():
            try:
                batch = await self._client.messages.batches.retrieve(batch_id)
            except anthropic.NotFoundError:
                return None
        return _state(batch)

    async def results(self, batch_id: str) -> list[tuple[str, Reply | Failure]]:
        found: list[tuple[str, Reply | Failure]] = []
        with failures():
            lines = await self._client.messages.batches.results(batch_id, timeout=_TRANSFER_S)
            async for line in lines:
                found.append((line.custom_id, _outcome(line.result)))
        return found

    async def cancel(self, batch_id: str) -> None:
        with failures():
            await self._client.messages.batches.cancel(batch_id)


def _state(batch: Any) -> BatchState:
    counts = batch.request_counts
    done = counts.succeeded + counts.errored
    total = done + counts.processing + counts.canceled + counts.expired
    if batch.processing_status != "ended":
        return BatchState("running", done, total)
    if batch.cancel_initiated_at is not None:
        return BatchState("cancelled", done, total)
    return BatchState("expired" if counts.expired else "completed", done, total)


def _outcome(result: Any) -> Reply | Failure:
    if result.type == "errored":
        error = result.error.error
        status = _REJECTED.get(error.type)
        return failure(status, error.message, {}) if status else Failure("server", error.message)
    if result.type != "succeeded":
        return Failure("server", f"{result.type} before it was asked")
    try:
        return read_reply(result.message, {})
    except Failure as failed:
        return failed
