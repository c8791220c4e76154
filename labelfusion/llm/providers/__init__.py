"""One file per way of getting scores; `make_provider` is where an entry finds its own.

Knows which class an entry names and where its key is. SDKs are imported when a provider is made.
"""

from __future__ import annotations

from labelfusion.config import LLMConfig, RunConfig
from labelfusion.errors import ConfigError
from labelfusion.llm.credentials import find_key, look_up
from labelfusion.llm.providers.anthropic import AnthropicProvider
from labelfusion.llm.providers.anthropic_batch import AnthropicBatches
from labelfusion.llm.providers.base import Batches, Provider
from labelfusion.llm.providers.gemini import GeminiProvider, make_gemini
from labelfusion.llm.providers.openai import CompatibleProvider, DeepSeekProvider, OpenAIProvider
from labelfusion.llm.providers.openai_batch import OpenAIBatches

REMOTE = {
    "openai": OpenAIProvider,
    "deepseek": DeepSeekProvider,
    "compatible": CompatibleProvider,
    "anthropic": AnthropicProvider,
    "gemini": GeminiProvider,
}
_WITH_BATCHES = ("anthropic", "openai")


def keys_found() -> dict[str, bool]:
    """Whether the key of each provider that needs one is set."""
    needing = {name: kind.key_env_var for name, kind in REMOTE.items() if kind.key_env_var}
    return {name: look_up(variable) is not None for name, variable in needing.items()}


def model_name(entry: LLMConfig) -> str:
    """The model an entry asks, its provider's default if it names none.

    Raises ConfigError: there is none, and the provider has no default.
    """
    kind = REMOTE.get(entry.provider)
    model = entry.model or (kind.default_model if kind else None)
    if model is None:
        raise ConfigError(
            f"Provider {entry.provider} needs a model",
            where=f"llm {entry.name}",
            remedy="Set model to the name the server knows it by, or to a model folder",
        )
    return model


def with_models(config: RunConfig) -> RunConfig:
    """The config with the model of every LLM source by name.

    What a provider is asked for by default changes with the versions of this package, and a fusion
    that is trained fits the model it was trained on.
    """
    named = config.model_copy(deep=True)
    for entry in named.llm:
        kind = REMOTE.get(entry.provider)
        entry.model = entry.model or (kind.default_model if kind else None)
    return named


def provider_key(entry: LLMConfig) -> str | None:
    """The API key of a remote entry. Raises MissingKeyError if it needs one and has none."""
    kind = REMOTE[entry.provider]
    return find_key(entry, needs_key=kind.needs_key, key_env_var=kind.key_env_var)


def make_provider(entry: LLMConfig, key: str | None) -> Provider:
    """The provider of a remote entry, ready to be asked inside an event loop.

    Raises MissingDependencyError: its SDK is not installed; ConfigError: log-probabilities are
    asked for and it has none.
    """
    model = model_name(entry)
    if entry.provider == "gemini":
        provider = make_gemini(entry.sdk, model, key, entry.base_url, entry.timeout_s)
    else:
        provider = REMOTE[entry.provider](model, key, entry.base_url, entry.timeout_s)
    if entry.output == "logprobs" and not provider.logprobs:
        raise ConfigError(
            f"Provider {entry.provider} gives no log-probabilities",
            where=f"llm {entry.name}, output",
            found="logprobs",
            remedy="Set output to json_schema",
        )
    return provider


def make_batches(provider: Provider) -> Batches | None:
    """The batch API of a provider, or None if it has none that is used."""
    if isinstance(provider, AnthropicProvider):
        return AnthropicBatches(provider)
    # Not its subclasses: they speak OpenAI's chat completions alone.
    return OpenAIBatches(provider) if type(provider) is OpenAIProvider else None


def check_batch(entry: LLMConfig) -> None:
    """Raise ConfigError if batch requests are asked for and the provider has none."""
    if entry.batch and entry.provider not in _WITH_BATCHES:
        raise ConfigError(
            f"Batch requests are not available with provider {entry.provider}",
            where=f"llm {entry.name}, batch",
            expected=f"provider {' or '.join(_WITH_BATCHES)}",
            remedy="Set batch to false: requests are then sent at once",
        )
