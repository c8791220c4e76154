"""Claude, through `anthropic`. Knows the vocabulary of its messages API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from labelfusion.costs import Usage
from labelfusion.errors import MissingDependencyError
from labelfusion.llm.providers.base import Ask, Failure, Finish, Reply
from labelfusion.llm.providers.http import failure, rate_limits, was_sent

_FINISH: dict[str, Finish] = {
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
    "refusal": "refused",
}


class AnthropicProvider:
    """Messages with structured output; the static prefix is marked for the prompt cache."""

    needs_key: ClassVar[bool] = True
    key_env_var: ClassVar[str | None] = "ANTHROPIC_API_KEY"
    default_model: ClassVar[str | None] = "claude-haiku-5-5"
    logprobs: ClassVar[bool] = False
    features: ClassVar[tuple[str, ...]] = (
        "no_reasoning",
        "reasoning_effort",
        "temperature",
        "json_schema",
    )

    def __init__(self, model: str, key: str | None, base_url: str | None, timeout_s: float) -> None:
        try:
            from anthropic import AsyncAnthropic
        except ImportError:
            raise MissingDependencyError(
                "Provider anthropic needs the package anthropic",
                remedy="Install it: pip install 'labelfusion[anthropic]'",
            ) from None
        self._model = model
        self.client = AsyncAnthropic(
            api_key=key, base_url=base_url, timeout=timeout_s, max_retries=0
        )

    async def ask(self, ask: Ask, features: frozenset[str]) -> Reply:
        with failures():
            raw = await self.client.messages.with_raw_response.create(
                **self.arguments(ask, features)
            )
            message = await raw.parse()
        return read_reply(message, raw.headers)

    def arguments(self, ask: Ask, features: frozenset[str]) -> dict[str, Any]:
        prefix = {
            "type": "text",
            "text": ask.prompt.system,
            "cache_control": {"type": "ephemeral"},
        }
        arguments: dict[str, Any] = {
            "model": self._model,
            "max_tokens": ask.max_output_tokens,
            "system": [prefix],
            "messages": [{"role": "user", "content": ask.prompt.user}],
        }
        output: dict[str, Any] = {}
        if ask.schema is not None and "json_schema" in features:
            output["format"] = {"type": "json_schema", "schema": dict(ask.schema)}
        if (effort := ask.reasoning(features)) == "none":
            arguments["thinking"] = {"type": "disabled"}
        elif effort != "default":
            output["effort"] = effort
        if "temperature" in features:
            # Some models take it and the SDK no longer names it.
            arguments["extra_body"] = {"temperature": ask.temperature}
        return arguments | ({"output_config": output} if output else {})

    async def close(self) -> None:
        await self.client.close()


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the SDK raises into a Failure."""
    import anthropic

    try:
        yield
    except anthropic.APITimeoutError as error:
        raise Failure("timeout", "no reply in time", billed=was_sent(error)) from None
    except anthropic.APIConnectionError as error:
        message = str(error.__cause__ or error)
        raise Failure("connection", message, billed=was_sent(error)) from None
    except anthropic.APIStatusError as error:
        raise failure(error.status_code, error.message, error.response.headers) from None
    except (anthropic.APIError, ValueError) as error:
        raise Failure("server", f"unreadable reply: {error}", billed=True) from None


def read_reply(message: Any, headers: Any) -> Reply:
    """The Reply of a message. Raises Failure if it is none."""
    blocks = getattr(message, "content", None)
    if not isinstance(blocks, list):
        raise Failure("server", "a reply without content", billed=True)
    return Reply(
        text="".join(block.text for block in blocks if block.type == "text"),
        usage=_usage(message.usage),
        finish=_FINISH.get(message.stop_reason or "", "complete"),
        limits=rate_limits(headers),
    )


def _usage(usage: Any) -> Usage | None:
    """Anthropic counts cached tokens beside `input_tokens`; here they are part of them."""
    if usage is None:
        return None
    read = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    return Usage(
        input_tokens=usage.input_tokens + read + written,
        output_tokens=usage.output_tokens,
        cached_input_tokens=read,
        cache_write_tokens=written,
    )
