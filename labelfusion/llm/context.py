"""What a run lends to LLM scoring beside the entry, the rows and the labels.

Plain values; knows no provider and opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelfusion.cache import AnswerCache
    from labelfusion.costs import Meter
    from labelfusion.llm.cancellation import Cancellation
    from labelfusion.llm.examples import TrainingTexts
    from labelfusion.llm.providers.base import Prompt, Reply
    from labelfusion.llm.rate import Pace


@dataclass(frozen=True)
class ScoringContext:
    """What `score_rows` may use; every default is "do without".

    Attributes:
        cache: where answers are looked up and kept.
        meter: budget and ledger. Without one nothing is counted.
        stop_when_spent: raise LimitError when the budget is spent, instead of going on with the
            rows that have scores.
        run: id of the run, kept with cached answers.
        training: labelled rows that few-shot examples may come from.
        on_reply: shown every prompt with its reply as it came.
        id_columns: names under which a file of recorded scores may hold the ids.
        text_columns: names under which it may hold the texts.
        must_match: whether a file of recorded scores that holds none of the rows is an error.
        paces: gives a source its rate; without it, each scoring finds out its own.
        batches: folder for the records of batches that are under way; without one a batch that was
            handed in is lost with the process.
        cancellation: lets another thread end the scoring, which then raises
            asyncio.CancelledError; sources that compute on this machine do not hear of it.
    """

    cache: AnswerCache | None = None
    meter: Meter | None = None
    stop_when_spent: bool = False
    run: str = ""
    training: TrainingTexts | None = None
    on_reply: Callable[[Prompt, Reply], None] | None = None
    id_columns: Sequence[str] = ("id",)
    text_columns: Sequence[str] = ("text",)
    must_match: bool = True
    paces: Callable[[str], Pace] | None = None
    batches: Path | None = None
    cancellation: Cancellation | None = None
