"""Texts that try to steer the scores of other texts in their request, and how they are noticed.

Two defences beside ids that cannot be guessed and a strict schema:
- A text that seems to talk to the model is asked about alone, where it can only change its own
  scores.
- A reply that gives the very same scores to all its texts is doubted, and its texts are asked
  about alone.

What cannot be defended: a text always influences its own scores, and a text that steers its
neighbours in words no pattern knows, to scores that differ, is not noticed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_ADDRESSES_MODEL = re.compile(
    r"ignor\w*\W+(?:\w+\W+){0,3}?(?:above|previous|prior|instruction|earlier|vorherig|précédent)"
    r"|disregard\W+(?:\w+\W+){0,3}?(?:above|previous|prior|instruction|earlier|other)"
    r"|(?:all|every|each|any)\W+(?:of\W+the\W+)?(?:other|remaining)\W+"
    r"(?:item|text|message|entr|ticket|review|answer|example|row|document)"
    r"|system\W+prompt|</?texts?>|\"scores\"|\"items\"|you\W+are\W+(?:now|an?\W+(?:ai|assistant))"
    r"|(?:answer|respond|reply|classify|label|score)\b[^.!?\n]{0,60}"
    r"\b(?:everything|all\W+(?:items|texts)|as\W+json)",
    re.IGNORECASE,
)
# Fewer texts than this agree by chance too often.
_MIN_UNIFORM = 3


def addresses_model(text: str) -> bool:
    """Whether a text looks like instructions to an LLM. Errs towards yes: it costs a request."""
    return _ADDRESSES_MODEL.search(text) is not None


class Uniformity:
    """Doubts replies whose texts all have the very same scores.

    In data where nearly every text has one label such replies are honest. So each doubt that asking
    alone does not confirm doubles the number of such replies that pass before the next doubt; one
    that it confirms makes every one doubted again.
    """

    def __init__(self) -> None:
        self._to_pass = 0
        self._passed = 0

    def doubts(self, scores: Collection[Mapping[str, float]]) -> bool:
        """Whether a reply's texts have to be asked about alone."""
        if len(scores) < _MIN_UNIFORM or len({tuple(s.items()) for s in scores}) > 1:
            return False
        self._passed += 1
        if self._passed <= self._to_pass:
            return False
        self._passed, self._to_pass = 0, max(1, 2 * self._to_pass)
        return True

    def checked(self, before: Mapping[str, float], alone: Mapping[str, float]) -> None:
        """Learn from a doubted text's scores when asked about alone."""
        if max(before, key=before.__getitem__) != max(alone, key=alone.__getitem__):
            self._passed = self._to_pass = 0
