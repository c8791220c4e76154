"""From texts to per-class scores of an LLM: `score_rows` is the only way in.

Knows which provider an entry names and nothing about fusion, runs or pages.
"""

from __future__ import annotations

from labelfusion.config import LLMConfig
from labelfusion.errors import ConfigError
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.providers import recorded
from labelfusion.types import LabelSpace, OnEvent, Rows, Signal, ignore_event

__all__ = ["ScoringContext", "score_rows"]


def score_rows(
    entry: LLMConfig,
    rows: Rows,
    space: LabelSpace,
    *,
    on_event: OnEvent = ignore_event,
    context: ScoringContext | None = None,
) -> Signal:
    """Scores of one LLM source for `rows`, in their order; what could not be scored is missing.

    Args:
        entry: the source, as configured.
        rows: n texts with their ids.
        space: the k labels; `Signal.scores` is (n, k) in its order.
        on_event: told of progress (stage "llm").
        context: column names, cache, meter and examples a run lends.

    Raises:
        InputError: a file of recorded scores cannot be used as it is.
        ConfigError: the entry names what is not there.
    """
    context = context or ScoringContext()
    if entry.provider == "recorded":
        return recorded.score(entry, rows, space, on_event=on_event, context=context)
    raise ConfigError(
        f"Provider {entry.provider!r} cannot be asked",
        expected="recorded",
        remedy="Score the texts elsewhere and set provider: recorded and path",
    )
