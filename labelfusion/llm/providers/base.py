"""What every provider has in common: one request, one reply, one kind of failure.

A provider is one method, `ask`, and a few class attributes. It sends one request and translates
what comes back; it does not retry, wait, cache, count money or read prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, Protocol

from labelfusion.costs import Usage

ReasoningEffort = Literal["default", "none", "low", "medium", "high"]


@dataclass(frozen=True)
class Prompt:
    """`system` is the static prefix, the same for every request of a run; `user` the texts."""

    system: str
    user: str


@dataclass(frozen=True)
class Ask:
    """One request, in no vendor's words.

    Attributes:
        schema: JSON schema of the answer, or None for free text.
        top_logprobs: alternatives wanted for the first answer token; 0 for none.
    """

    prompt: Prompt
    schema: Mapping[str, object] | None
    temperature: float
    max_output_tokens: int
    reasoning_effort: ReasoningEffort
    top_logprobs: int = 0

    def reasoning(self, features: frozenset[str]) -> ReasoningEffort:
        """The effort to ask a model for that takes `features`: the least, where none is not to be
        had; "default" is to ask for nothing."""
        effort = self.reasoning_effort
        if effort == "none" and "no_reasoning" in features:
            return "none"
        if "reasoning_effort" not in features:
            return "default"
        return "low" if effort == "none" else effort


Finish = Literal["complete", "truncated", "refused"]


@dataclass(frozen=True)
class RateLimits:
    """What a reply's headers say of the request limit; seconds until it is whole again."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        usage: tokens as the provider counts them; None if it does not say.
        alternatives: first-token strings -> natural-log probabilities.
    """

    text: str
    usage: Usage | None
    finish: Finish = "complete"
    alternatives: Mapping[str, float] = field(default_factory=dict)
    limits: RateLimits | None = None


FailureKind = Literal[
    "rate", "server", "timeout", "connection", "unsupported", "too_long", "refused", "fatal"
]
# Worth sending again as it is; the others need another request or a person.
PASSING: frozenset[FailureKind] = frozenset({"rate", "server", "timeout", "connection"})


class Failure(Exception):
    """A request without a usable reply.

    Args:
        kind: what to do about it.
        message: what the provider said; the sender removes keys from it before anyone sees it.
        retry_after_s: how long the provider asks to be left alone.
        billed: whether it may have to be paid all the same (sent, but the reply was lost).
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        retry_after_s: float | None = None,
        billed: bool = False,
    ) -> None:
        self.kind: FailureKind = kind
        self.message, self.retry_after_s, self.billed = message, retry_after_s, billed
        super().__init__(f"{kind}: {message}")


class Provider(Protocol):
    """One vendor's SDK.

    Attributes:
        features: what it may use and models may lack, the first to be given up first.
        logprobs: whether its replies can carry log-probabilities.
    """

    needs_key: ClassVar[bool]
    key_env_var: ClassVar[str | None]
    default_model: ClassVar[str | None]
    logprobs: ClassVar[bool]
    features: ClassVar[tuple[str, ...]]

    async def ask(self, ask: Ask, features: frozenset[str]) -> Reply:
        """Send one request using at most `features`. Raises Failure."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


BatchStatus = Literal["running", "completed", "expired", "cancelled", "failed"]


@dataclass(frozen=True)
class BatchState:
    """How far a batch is, in requests.

    Attributes:
        status: "failed" is a batch that was rejected as a whole: nothing of it is answered or
            billed. One that expired or was cancelled may be answered, and billed, in part.
        message: why it failed.
    """

    status: BatchStatus
    done: int
    total: int
    message: str = ""


class Batches(Protocol):
    """A vendor's batch API: many requests at once, answered within a day, often at a lower price.

    Requests are named by the caller, beginning with the batch's token. Every method raises Failure.
    """

    async def submit(self, asks: Mapping[str, Ask], features: frozenset[str], token: str) -> str:
        """Hand in requests by name, marked with `token`; returns the batch's id."""
        ...

    async def find(self, token: str, requests: int, since: datetime) -> str | None:
        """The id of the batch of so many requests that was handed in with `token` after `since`."""
        ...

    async def state(self, batch_id: str) -> BatchState | None:
        """How far it is; None if the provider knows no such batch."""
        ...

    async def results(self, batch_id: str) -> list[tuple[str, Reply | Failure]]:
        """(name, what came of it) of an ended batch; requests never asked may be absent."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """Ask for it to be ended early."""
        ...


# How a rejection names a feature, in the words of the providers' error messages.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "json_schema": ("json_schema", "response_format", "output_config", "output_format", "schema"),
    "json_object": ("json_object", "response_format", "mime"),
    "no_reasoning": ("reasoning", "thinking", "effort"),
    "reasoning_effort": ("reasoning", "thinking", "effort"),
    "temperature": ("temperature",),
    "max_completion_tokens": ("max_completion_tokens",),
    "system": ("system", "developer instruction"),
}


class Capabilities:
    """What one model was found to accept; found out by asking and remembered for the run."""

    def __init__(self, features: tuple[str, ...]) -> None:
        self._active = dict.fromkeys(features)
        self._proven: frozenset[str] = frozenset()

    @property
    def active(self) -> frozenset[str]:
        return frozenset(self._active)

    def confirm(self, used: frozenset[str]) -> None:
        """A request with these features was answered."""
        self._proven |= used

    def drop(self, message: str, used: frozenset[str]) -> bool:
        """Give up the feature a rejection names, or else the first one; False if none is left.

        A feature that worked before is not what was rejected.
        """
        if used - self.active:
            return True  # another request has found it out already
        words = message.lower()
        unproven = [f for f in self._active if f in used and f not in self._proven]
        named = [f for f in unproven if any(word in words for word in _WORDS[f])]
        for feature in (named or unproven)[:1]:
            del self._active[feature]
            return True
        return False
