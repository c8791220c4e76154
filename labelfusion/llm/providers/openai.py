"""OpenAI, DeepSeek and every server that speaks OpenAI's chat completions, through `openai`.

Knows the vocabulary of that API. One class serves all three; they differ in where the key and the
address come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from labelfusion.costs import Usage
from labelfusion.llm.providers.base import Ask, Failure, Finish, ReasoningEffort, Reply
from labelfusion.llm.providers.http import failure, rate_limits, was_sent


class OpenAIProvider:
    """Chat completions at OpenAI, or at `base_url`."""

    needs_key: ClassVar[bool] = True
    key_env_var: ClassVar[str | None] = "OPENAI_API_KEY"
    default_model: ClassVar[str | None] = "gpt-6-luna"
    logprobs: ClassVar[bool] = True
    default_base_url: ClassVar[str | None] = None
    features: ClassVar[tuple[str, ...]] = (
        "json_schema",
        "no_reasoning",
        "reasoning_effort",
        "temperature",
        "max_completion_tokens",
        "json_object",
        "system",
    )

    def __init__(self, model: str, key: str | None, base_url: str | None, timeout_s: float) -> None:
        from openai import AsyncOpenAI

        self._model = model
        self.client = AsyncOpenAI(
            # A server that needs no key gets a word in its place: the SDK insists on one.
            api_key=key or "no-key",
            base_url=base_url or self.default_base_url,
            timeout=timeout_s,
            max_retries=0,
        )

    async def ask(self, ask: Ask, features: frozenset[str]) -> Reply:
        with failures():
            raw = await self.client.chat.completions.with_raw_response.create(
                **self.arguments(ask, features)
            )
            completion = raw.parse()
        return read_reply(completion, raw.headers)

    def arguments(self, ask: Ask, features: frozenset[str]) -> dict[str, Any]:
        arguments: dict[str, Any] = {"model": self._model, "messages": _messages(ask, features)}
        tokens = "max_completion_tokens" if "max_completion_tokens" in features else "max_tokens"
        arguments[tokens] = ask.max_output_tokens
        if "temperature" in features:
            arguments["temperature"] = ask.temperature
        if (effort := ask.reasoning(features)) != "default":
            arguments |= self.effort(effort)
        if ask.schema is not None and "json_schema" in features:
            arguments["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "labels", "strict": True, "schema": dict(ask.schema)},
            }
        elif ask.schema is not None and "json_object" in features:
            arguments["response_format"] = {"type": "json_object"}
        if ask.top_logprobs:
            arguments |= {"logprobs": True, "top_logprobs": ask.top_logprobs}
        return arguments

    def effort(self, effort: ReasoningEffort) -> dict[str, Any]:
        """The arguments that ask for so much reasoning."""
        return {"reasoning_effort": effort}

    async def close(self) -> None:
        await self.client.close()


class DeepSeekProvider(OpenAIProvider):
    """Chat completions at DeepSeek."""

    key_env_var = "DEEPSEEK_API_KEY"
    default_model = "deepseek-flash"
    default_base_url = "https://api.deepseek.com"
    features = ("no_reasoning", "reasoning_effort", "json_object", "temperature", "system")

    def effort(self, effort: ReasoningEffort) -> dict[str, Any]:
        # Its models reason unless they are told not to, in a field of DeepSeek's own.
        if effort == "none":
            return {"extra_body": {"thinking": {"type": "disabled"}}}
        return super().effort(effort)


class CompatibleProvider(OpenAIProvider):
    """Chat completions at `base_url`: vLLM, llama.cpp, Ollama, OpenRouter, LM Studio and others."""

    needs_key = False
    key_env_var = None
    default_model = None


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the SDK raises into a Failure."""
    import openai

    try:
        yield
    except openai.APITimeoutError as error:
        raise Failure("timeout", "no reply in time", billed=was_sent(error)) from None
    except openai.APIConnectionError as error:
        message = str(error.__cause__ or error)
        raise Failure("connection", message, billed=was_sent(error)) from None
    except openai.APIStatusError as error:
        raise failure(error.status_code, error.message, error.response.headers) from None
    except (openai.APIError, ValueError) as error:
        # A body that is no JSON, or JSON of another shape.
        raise Failure("server", f"unreadable reply: {error}", billed=True) from None


def _messages(ask: Ask, features: frozenset[str]) -> list[dict[str, str]]:
    if "system" not in features:
        return [{"role": "user", "content": f"{ask.prompt.system}\n\n{ask.prompt.user}"}]
    return [
        {"role": "system", "content": ask.prompt.system},
        {"role": "user", "content": ask.prompt.user},
    ]


def read_reply(completion: Any, headers: Any) -> Reply:
    """The Reply of a chat completion. Raises Failure if it is none."""
    choices = getattr(completion, "choices", None)
    if not choices:
        raise Failure("server", "a reply without choices", billed=True)
    choice = choices[0]
    return Reply(
        text=choice.message.content or "",
        usage=_usage(completion.usage),
        finish=_finish(choice),
        alternatives=_alternatives(choice.logprobs),
        limits=rate_limits(headers),
    )


def _finish(choice: Any) -> Finish:
    if getattr(choice.message, "refusal", None) or choice.finish_reason == "content_filter":
        return "refused"
    return "truncated" if choice.finish_reason == "length" else "complete"


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_input_tokens=getattr(details, "cached_tokens", None) or 0,
    )


def _alternatives(logprobs: Any) -> dict[str, float]:
    tokens = getattr(logprobs, "content", None)
    return {top.token: top.logprob for top in tokens[0].top_logprobs} if tokens else {}
