"""How many tokens a text will be.

A tokenizer is used where one is at hand without the network: one that the caller passes (a local
model's), or tiktoken if its tables are on disk. Otherwise tokens are estimated from characters,
marked as an estimate, and corrected by the usage that the provider reports in this run.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

# Four characters of English a token is the rule of thumb of OpenAI's documentation ("What are
# tokens and how to count them?"). Anthropic's glossary says 3.5, and its notes on Claude Haiku 5.5
# that a text counts as 30 % more tokens since; DeepSeek's "Token & Token Usage" says 0.3 tokens a
# character. Other scripts take about a token per three bytes of UTF-8 in byte-level BPE
# vocabularies of 100,000 entries and more.
ASCII_CHARACTERS_PER_TOKEN = 4.0
_OF_PROVIDER = {"anthropic": 2.7, "deepseek": 3.3}
OTHER_BYTES_PER_TOKEN = 3.0
# What a chat format adds around messages: role and separator tokens.
_FRAME_TOKENS = 16
_TIKTOKEN_TABLES = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"


class TokenCounter:
    """Counts the tokens of one model's prompts.

    Attributes:
        estimated: True if the counts come from characters and not from a tokenizer.
        ratio: reported tokens over counted tokens in this run (1 before the first report).
    """

    def __init__(
        self, provider: str, model: str, tokenizer: Callable[[str], int] | None = None
    ) -> None:
        known = tokenizer or _provider_tokenizer(provider, model)
        self._count = known or _from_characters(provider)
        self.estimated = known is None
        self._counted = self._reported = 0.0

    @property
    def ratio(self) -> float:
        return self._reported / self._counted if self._counted else 1.0

    def count(self, text: str) -> int:
        """Expected tokens, corrected by what was reported so far."""
        return math.ceil(self._count(text) * self.ratio)

    def at_most(self, *texts: str) -> int:
        """Tokens that a request made of `texts` cannot exceed; for reserving money.

        Every token of a byte-level vocabulary stands for at least one byte, so the bytes bound the
        tokens. Pass all that is sent: a JSON schema is part of the prompt too.
        """
        return sum(len(text.encode(errors="replace")) for text in texts) + _FRAME_TOKENS

    def observe(self, prompt: str, reported: int) -> None:
        """Learn from a request that sent `prompt` and was billed `reported` input tokens."""
        if reported > 0:
            self._counted += self._count(prompt)
            self._reported += reported


def _from_characters(provider: str) -> Callable[[str], int]:
    """An estimate for the tokenizers of `provider`'s models."""
    per_token = _OF_PROVIDER.get(provider, ASCII_CHARACTERS_PER_TOKEN)

    def count(text: str) -> int:
        ascii_characters = sum(character.isascii() for character in text)
        other_bytes = len(text.encode(errors="replace")) - ascii_characters
        return math.ceil(ascii_characters / per_token + other_bytes / OTHER_BYTES_PER_TOKEN)

    return count


def _provider_tokenizer(provider: str, model: str) -> Callable[[str], int] | None:
    return _tiktoken_counter(model) if provider == "openai" else None


@cache
def _tiktoken_counter(model: str) -> Callable[[str], int] | None:
    try:
        import tiktoken  # pyright: ignore[reportMissingImports]

        name = tiktoken.encoding_name_for_model(model)
    except (ImportError, KeyError):
        return None
    # tiktoken downloads a table that it does not find, so look where it would look first.
    if not _tiktoken_table(name).is_file():
        return None
    encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def _tiktoken_table(name: str) -> Path:
    folder = (
        os.environ.get("TIKTOKEN_CACHE_DIR")
        or os.environ.get("DATA_GYM_CACHE_DIR")
        or Path(tempfile.gettempdir()) / "data-gym-cache"
    )
    address = _TIKTOKEN_TABLES.format(name=name)
    return Path(folder) / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
