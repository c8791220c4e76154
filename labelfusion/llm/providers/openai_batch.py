"""OpenAI's batch API: a file of requests is uploaded, files of replies are downloaded.

Knows files and batches. What a request and a reply look like is the provider's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from labelfusion.llm.providers.base import Ask, BatchState, BatchStatus, Failure, Reply
from labelfusion.llm.providers.http import failure
from labelfusion.llm.providers.openai import OpenAIProvider, failures, read_reply

# Both parts of the request that names the batch: where it goes, and our mark on it.
_ENDPOINT = "/v1/chat/completions"
_MARK = "labelfusion"
# Seconds for a file of many megabytes; for everything else the provider's own timeout holds.
_TRANSFER_S = 600.0
# Clocks differ: a batch counts as handed in after a moment if it was less than this before it.
_CLOCKS_S = 600.0
_STATUS: dict[str, BatchStatus] = {
    "completed": "completed",
    "expired": "expired",
    "cancelled": "cancelled",
    "failed": "failed",
}


class OpenAIBatches:
    """See `Batches`."""

    def __init__(self, provider: OpenAIProvider) -> None:
        self._provider, self._client = provider, provider.client

    async def submit(self, asks: Mapping[str, Ask], features: frozenset[str], token: str) -> str:
        lines = [self._line(name, ask, features) for name, ask in asks.items()]
        file_id = await self._upload("\n".join(lines).encode())
        with failures():
            batch = await self._client.batches.create(
                input_file_id=file_id,
                endpoint=_ENDPOINT,
                completion_window="24h",
                metadata={_MARK: token},
            )
        return batch.id

    def _line(self, name: str, ask: Ask, features: frozenset[str]) -> str:
        body = self._provider.arguments(ask, features)
        return json.dumps({"custom_id": name, "method": "POST", "url": _ENDPOINT, "body": body})

    async def _upload(self, content: bytes) -> str:
        try:
            with failures():
                file = await self._client.files.create(
                    file=("batch.jsonl", content), purpose="batch", timeout=_TRANSFER_S
                )
        except Failure as error:
            # A file alone is never billed, whether or not it arrived.
            raise Failure(error.kind, error.message, retry_after_s=error.retry_after_s) from None
        return file.id

    async def find(self, token: str, requests: int, since: datetime) -> str | None:  # noqa: ARG002
        with failures():
            async for batch in self._client.batches.list(limit=100):  # the newest first
                if (batch.metadata or {}).get(_MARK) == token:
                    return batch.id
                if batch.created_at < since.timestamp() - _CLOCKS_S:
                    return None
        return None

    async def state(self, batch_id: str) -> BatchState | None:
        import openai

        with failures():
            try:
                batch = await self._client.batches.retrieve(batch_id)
            except openai.NotFoundError:
                return None
        counts = batch.request_counts
        done = counts.completed + counts.failed if counts else 0
        status = _STATUS.get(batch.status, "running")
        errors = (batch.errors and batch.errors.data) or []
        message = "; ".join(error.message or "" for error in errors)
        return BatchState(status, done, counts.total if counts else 0, message)

    async def results(self, batch_id: str) -> list[tuple[str, Reply | Failure]]:
        found: list[tuple[str, Reply | Failure]] = []
        with failures():
            batch = await self._client.batches.retrieve(batch_id)
            for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
                content = await self._client.files.content(file_id, timeout=_TRANSFER_S)
                found += _outcomes(content.text)
        return found

    async def cancel(self, batch_id: str) -> None:
        with failures():
            await self._client.batches.cancel(batch_id)


def _outcomes(content: str) -> Iterator[tuple[str, Reply | Failure]]:
    for line in content.split("\n"):
        if line.strip():
            item = json.loads(line)
            yield str(item["custom_id"]), _outcome(item)


def _outcome(item: Mapping[str, Any]) -> Reply | Failure:
    from openai.types.chat import ChatCompletion

    response, error = item.get("response"), item.get("error")
    if not response:
        return Failure("server", str((error or {}).get("message") or "no reply in the batch"))
    body = response.get("body") or {}
    if response["status_code"] != 200:
        told = body.get("error") or {}
        return failure(response["status_code"], str(told.get("message") or told), {})
    try:
        return read_reply(ChatCompletion.construct(**body), {})
    except Failure as failed:
        return failed
