"""The cache key of an answer: everything that can change it, and nothing else.

In the key: provider, address, model, the rendered prompt prefix with its version, the labels with
their descriptions, the examples, the sampling parameters, the form of the answer, the text.
Not in it: the source's name, batch size, concurrency, timeouts, retries, the output limit (a
truncated answer is never kept), ids, and the order of the labels, which the prompt does not show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from labelfusion.config import LLMConfig

# Raise it when the meaning of a stored answer changes.
KEY_VERSION = 1


def digest(value: object) -> str:
    """SHA-256, in hex, of a JSON-ready value."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def settings_digest(entry: LLMConfig, model: str, schema: Mapping[str, object] | None) -> str:
    """What an entry contributes to the key beside the prompt."""
    return digest(
        {
            "version": KEY_VERSION,
            "provider": entry.provider,
            "base_url": (entry.base_url or "").rstrip("/"),
            "model": model,
            "temperature": entry.temperature,
            "reasoning_effort": entry.reasoning_effort,
            "output": "logprobs" if entry.output == "logprobs" else "json",
            "schema": schema,
        }
    )


def answer_key(settings: str, version: str, prefix: str, item: Mapping[str, object]) -> str:
    """The key of one text. `item` is its part of the request without its id."""
    return "llm-" + digest([settings, version, digest(prefix), item])
