"""From texts to per-class scores of an LLM: `score_rows` is the only way in.

Knows which kind of source an entry names and nothing about fusion, runs or pages.
"""

from __future__ import annotations

from labelfusion.config import LLMConfig
from labelfusion.llm.cancellation import Cancellation
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.examples import TrainingTexts
from labelfusion.llm.session import asks, check_entry, over_network, scoring_session
from labelfusion.types import LabelSpace, OnEvent, Rows, Signal, ignore_event

__all__ = [
    "Cancellation",
    "ScoringContext",
    "TrainingTexts",
    "asks",
    "check_entry",
    "over_network",
    "score_rows",
    "scoring_session",
]


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
        ConfigError: the entry names what is not there (MissingKeyError: the API key).
        ModelError: a local model is absent or damaged.
        ProviderError: the provider cannot be used and gave no answer at all.
        LimitError: the budget is spent and the run is to stop then.
    """
    from labelfusion.llm.providers import check_batch

    context = context or ScoringContext()
    check_batch(entry)
    if entry.provider == "recorded":
        from labelfusion.llm.providers import recorded

        return recorded.score(entry, rows, space, on_event=on_event, context=context)
    if entry.provider == "local":
        from labelfusion.llm.providers import local

        return local.score(entry, rows, space, on_event=on_event, context=context)
    from labelfusion.llm.remote import score

    return score(entry, rows, space, on_event=on_event, context=context)
