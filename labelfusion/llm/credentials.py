"""API keys: where they come from, and how they stay out of everything that is written.

Reads the environment, then a `.env` file in the working folder or above it. Writes nothing.
"""

from __future__ import annotations

import os
import re

from labelfusion.config import LLMConfig
from labelfusion.errors import MissingKeyError

REDACTED = "[key removed]"
# Keys of the known vendors and bearer tokens, for messages that quote a key we did not send.
_KEY_LIKE = re.compile(
    r"\bsk-[A-Za-z0-9_*-]{8,}|\bAIza[A-Za-z0-9_-]{10,}"
    r"|(?<=Bearer )[^\s'\"]+|(?<=[?&]key=)[^\s&'\"]+"
)


def look_up(name: str) -> str | None:
    """The value of a variable in the environment, else in a .env file; None if it is not set."""
    return os.environ.get(name) or _from_dotenv(name) or None


def find_key(entry: LLMConfig, *, needs_key: bool, key_env_var: str | None) -> str | None:
    """The API key for an entry, or None for a server that needs none.

    Raises MissingKeyError: the key is needed, or its variable was named, and it is not set.
    """
    name = entry.api_key_env or key_env_var
    if name is None:
        return None
    key = look_up(name)
    if key:
        return key.strip()
    if not needs_key and not entry.api_key_env:
        return None
    raise MissingKeyError(
        f"No API key for {entry.provider}",
        where=f"llm {entry.name}",
        expected=f"the environment variable {name}",
        remedy=f"Set {name} in the environment or in a .env file; providers recorded and local "
        "need no key",
    )


def _from_dotenv(name: str) -> str | None:
    from dotenv import dotenv_values, find_dotenv

    path = find_dotenv(usecwd=True)
    return dotenv_values(path).get(name) if path else None


def redact(text: str, key: str | None) -> str:
    """`text` without `key` and without anything that looks like a key."""
    if key:
        text = text.replace(key, REDACTED)
    return _KEY_LIKE.sub(REDACTED, text)
