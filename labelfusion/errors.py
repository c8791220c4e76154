"""The errors LabelFusion raises on purpose.

Every message says what was expected, what was found (file, row, column, value) and the remedy.
Nothing here knows how an error is shown: the CLI maps `exit_code`, the app shows `str(error)`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Self


class LabelFusionError(Exception):
    """Base of every error raised on purpose. `exit_code` is what the CLI returns for it.

    Args:
        problem: One sentence that says what is wrong.
        where: File, row, column or config key, as the user would name it.
        expected: What would have been right.
        found: What was there instead (never a secret).
        remedy: What to do about it, in the imperative.
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.where, self.expected = problem, where, expected
        self.found, self.remedy = found, remedy
        super().__init__(self._sentence())

    def within(self, where: str) -> Self:
        """This error, told of something that is part of `where`."""
        self.where = f"{where}: {self.where}" if self.where else where
        self.args = (self._sentence(),)
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # Constructors differ; a copy for another process is made without them.
        return _restored, (type(self), self.args, vars(self))

    def _sentence(self) -> str:
        parts = [f"{self.where}: {self.problem}" if self.where else self.problem]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.found:
            parts.append(f"Found: {self.found}")
        if self.remedy:
            parts.append(f"Remedy: {self.remedy}")
        return " ".join(part if part.endswith((".", "!", "?")) else part + "." for part in parts)


def _restored(
    kind: type[LabelFusionError], args: tuple[str, ...], values: dict[str, object]
) -> LabelFusionError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(values)
    return error


class InputError(LabelFusionError, ValueError):
    """A file, table or argument that cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration that cannot be used as it is."""


class MissingKeyError(ConfigError):
    """An LLM provider needs an API key that is not in the environment."""


class MissingDependencyError(ConfigError):
    """An optional package is needed for what was asked; the remedy names the extra."""


class ModelError(LabelFusionError):
    """An encoder's weights are absent, damaged or cannot be fetched."""


class RunError(LabelFusionError):
    """A run folder is absent, damaged, of a newer format, or in the wrong state."""


class ProviderError(LabelFusionError):
    """An LLM provider failed in a way that asking again will not mend."""


class LimitError(LabelFusionError):
    """A limit the user set was reached.

    Args:
        kind: What is limited, e.g. ``"run budget (USD)"``.
        value: What it would have become.
        limit: What was allowed.
    """

    def __init__(self, kind: str, value: float, limit: float, *, remedy: str) -> None:
        self.kind, self.value, self.limit = kind, value, limit
        super().__init__(
            f"The {kind} limit was reached",
            expected=f"at most {limit:g}",
            found=f"{value:g}",
            remedy=remedy,
        )


def did_you_mean(word: str, known: Sequence[str], *, what: str = "Known here") -> str | None:
    """A remedy for a name that does not exist: the nearest one, else all that do (None if none)."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{what}: {', '.join(known)}" if known else None
