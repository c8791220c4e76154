"""Gemini, through `google-genai` or, where asked for or alone installed, `google-generativeai`.

Knows the vocabulary of generateContent. The older SDK cannot take a JSON schema as a dict and its
async calls fail over REST, so there the JSON is asked for by type alone, in a thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, ClassVar

from labelfusion.costs import Usage
from labelfusion.errors import MissingDependencyError
from labelfusion.llm.providers.base import Ask, Failure, Finish, Provider, Reply
from labelfusion.llm.providers.http import failure, was_sent

_FINISH: dict[str, Finish] = {
    "STOP": "complete",
    "MAX_TOKENS": "truncated",
    "FINISH_REASON_UNSPECIFIED": "complete",
}
# The models since Gemini 3 cannot do without thinking; "minimal" is the least.
_THINKING_LEVEL = {"none": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}


def installed(name: str) -> bool:
    """Whether a package below the namespace `google` is there, without importing it."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def make_gemini(
    sdk: str, model: str, key: str | None, base_url: str | None, timeout_s: float
) -> Provider:
    """The provider for `sdk`: "auto", "google-genai" or "google-generativeai".

    Raises MissingDependencyError: it is not installed.
    """
    modules = {"google-genai": "google.genai", "google-generativeai": "google.generativeai"}
    wanted = modules if sdk == "auto" else {sdk: modules[sdk]}
    for package, module in wanted.items():
        if installed(module):
            kind = GeminiProvider if package == "google-genai" else LegacyGeminiProvider
            return kind(model, key, base_url, timeout_s)
    extra = "gemini-legacy" if sdk == "google-generativeai" else "gemini"
    raise MissingDependencyError(
        f"Provider gemini needs the package {' or '.join(wanted)}",
        remedy=f"Install it: pip install 'labelfusion[{extra}]'",
    )


class GeminiProvider:
    """generateContent through google-genai."""

    needs_key: ClassVar[bool] = True
    key_env_var: ClassVar[str | None] = "GEMINI_API_KEY"
    default_model: ClassVar[str | None] = "gemini-3.5-flash-lite"
    logprobs: ClassVar[bool] = True
    features: ClassVar[tuple[str, ...]] = (
        "json_schema",
        "no_reasoning",
        "reasoning_effort",
        "json_object",
        "system",
    )

    def __init__(self, model: str, key: str | None, base_url: str | None, timeout_s: float) -> None:
        import httpx2
        from google import genai
        from google.genai import types

        self._model = model
        # Our own transport, so that its errors have one type whatever else is installed.
        self._http = httpx2.AsyncClient(
            timeout=timeout_s, limits=httpx2.Limits(max_connections=None)
        )
        options = types.HttpOptions(base_url=base_url, httpx_async_client=self._http)
        self._client = genai.Client(api_key=key, http_options=options, vertexai=False)

    async def ask(self, ask: Ask, features: frozenset[str]) -> Reply:
        import httpx2
        from google.genai import errors
        from pydantic import ValidationError

        try:
            response = await self._client.aio.models.generate_content(
                model=self._model,
                contents=_contents(ask, features),
                config=_config(ask, features),
            )
        except errors.APIError as error:
            headers = getattr(error.response, "headers", {})
            raise failure(error.code, f"{error.message} {error.details}", headers) from None
        except httpx2.TimeoutException as error:
            raise Failure("timeout", "no reply in time", billed=was_sent(error)) from None
        except httpx2.HTTPError as error:
            raise Failure("connection", str(error), billed=was_sent(error)) from None
        except (ValidationError, json.JSONDecodeError, errors.UnknownApiResponseError):
            raise Failure("server", "unreadable reply", billed=True) from None
        return _reply(response)

    async def close(self) -> None:
        await self._http.aclose()


def _contents(ask: Ask, features: frozenset[str]) -> str:
    if "system" in features:
        return ask.prompt.user
    return f"{ask.prompt.system}\n\n{ask.prompt.user}"


def _config(ask: Ask, features: frozenset[str]) -> Any:
    from google.genai import types

    settings: dict[str, Any] = {
        "temperature": ask.temperature,
        "max_output_tokens": ask.max_output_tokens,
    }
    if "system" in features:
        settings["system_instruction"] = ask.prompt.system
    if ask.schema is not None and "json_schema" in features:
        settings["response_mime_type"] = "application/json"
        settings["response_json_schema"] = dict(ask.schema)
    elif ask.schema is not None and "json_object" in features:
        settings["response_mime_type"] = "application/json"
    if (effort := ask.reasoning(features)) != "default":
        level = types.ThinkingLevel(_THINKING_LEVEL[effort])
        settings["thinking_config"] = types.ThinkingConfig(thinking_level=level)
    if ask.top_logprobs:
        settings |= {"response_logprobs": True, "logprobs": ask.top_logprobs}
    return types.GenerateContentConfig(**settings)


def _reply(response: Any) -> Reply:
    """Both SDKs answer in the same shape; a blocked prompt has no candidates."""
    usage = _usage(response.usage_metadata)
    if not response.candidates:
        return Reply("", usage, "refused")
    candidate = response.candidates[0]
    parts = (candidate.content.parts if candidate.content else None) or []
    thoughts = ((getattr(part, "thought", False), part.text or "") for part in parts)
    reason = getattr(candidate.finish_reason, "name", "STOP")
    return Reply(
        text="".join(text for thought, text in thoughts if not thought),
        usage=usage,
        # SAFETY, RECITATION, PROHIBITED_CONTENT and their like are all refusals.
        finish=_FINISH.get(reason, "refused"),
        alternatives=_alternatives(getattr(candidate, "logprobs_result", None)),
    )


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    thoughts = getattr(usage, "thoughts_token_count", None) or 0
    return Usage(
        input_tokens=usage.prompt_token_count or 0,
        output_tokens=(usage.candidates_token_count or 0) + thoughts,
        cached_input_tokens=usage.cached_content_token_count or 0,
    )


def _alternatives(result: Any) -> Mapping[str, float]:
    steps = getattr(result, "top_candidates", None)
    if not steps:
        return {}
    return {top.token: top.log_probability for top in steps[0].candidates or []}


class LegacyGeminiProvider:
    """generateContent through google-generativeai, over REST in threads."""

    needs_key: ClassVar[bool] = True
    key_env_var: ClassVar[str | None] = "GEMINI_API_KEY"
    default_model: ClassVar[str | None] = GeminiProvider.default_model
    logprobs: ClassVar[bool] = False
    features: ClassVar[tuple[str, ...]] = ("json_object", "system")

    def __init__(self, model: str, key: str | None, base_url: str | None, timeout_s: float) -> None:
        from google.generativeai.client import configure

        options = {"api_endpoint": base_url} if base_url else None
        configure(api_key=key, transport="rest", client_options=options)
        self._model, self._timeout_s = model, timeout_s
        # asyncio's own pool has too few threads on small machines.
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="gemini")

    async def ask(self, ask: Ask, features: frozenset[str]) -> Reply:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, ask, features)

    def _ask(self, ask: Ask, features: frozenset[str]) -> Reply:
        import requests
        from google.api_core import exceptions

        try:
            response = self._model_for(ask, features).generate_content(
                _contents(ask, features),
                generation_config=self._settings(ask, features),
                request_options={"timeout": self._timeout_s, "retry": None},
            )
        except exceptions.GoogleAPICallError as error:
            headers = getattr(error.response, "headers", {})
            status = int(error.code or 500)
            raise failure(status, f"{error.message} {error.details}", headers) from None
        except requests.Timeout as error:
            raise Failure("timeout", "no reply in time", billed=was_sent(error)) from None
        except requests.ConnectionError as error:
            raise Failure("connection", str(error), billed=was_sent(error)) from None
        except ValueError as error:
            raise Failure("server", f"unreadable reply: {error}", billed=True) from None
        return _reply(response)

    def _model_for(self, ask: Ask, features: frozenset[str]) -> Any:
        from google.generativeai.generative_models import GenerativeModel

        system = ask.prompt.system if "system" in features else None
        return GenerativeModel(self._model, system_instruction=system)

    def _settings(self, ask: Ask, features: frozenset[str]) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "temperature": ask.temperature,
            "max_output_tokens": ask.max_output_tokens,
        }
        if ask.schema is not None and "json_object" in features:
            settings["response_mime_type"] = "application/json"
        return settings

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
