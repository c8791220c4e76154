"""What a run lends to LLM scoring beside the entry, the rows and the labels.

Plain values; knows no provider and opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoringContext:
    """What `score_rows` may use; every default is "do without".

    Attributes:
        id_columns: names under which a file of recorded scores may hold the ids.
        text_columns: names under which it may hold the texts.
        must_match: whether a file of recorded scores that holds none of the rows is an error.
    """

    id_columns: Sequence[str] = ("id",)
    text_columns: Sequence[str] = ("text",)
    must_match: bool = True
