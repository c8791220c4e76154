"""From a reply's text to scores by id, strictly: what is not exactly an answer is a problem.

Knows the form of answers. Knows no provider and decides nothing: the scorer asks again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Scores = dict[str, float]

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_FIRST_ITEM = re.compile(r'\{\s*"items"\s*:\s*\[')
_NEXT_ITEM = re.compile(r"[\s,]*(?=\{)")
_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
# Written probabilities are rounded; a multi-class answer further from 1 was not meant as one.
_SUM_RANGE = (0.5, 1.5)
# Letters beyond the reported alternatives share what is left; below this the answer is another.
_MIN_LETTER_MASS = 0.5


@dataclass
class Parsed:
    """What a reply says.

    Attributes:
        scores: id -> label -> score, for the ids that were answered properly.
        problems: id -> what is wrong, for all other ids asked about.
        doubtful: the reply answers for ids that were not asked about, so none of it is trusted.
        broken: it is no whole JSON.
    """

    scores: dict[str, Scores] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    doubtful: bool = False
    broken: bool = False


def parse_answer(
    text: str, ids: Iterable[str], keys: Mapping[str, str], *, multi_label: bool
) -> Parsed:
    """The scores in a JSON reply.

    Args:
        text: the reply; one code fence around it and a thinking block before it are taken off.
        ids: the ids that were asked about.
        keys: label -> its key in the answer. The label itself is understood as well.
        multi_label: whether scores may sum to anything.
    """
    items, complete = _items(_bare(text))
    parsed = Parsed(broken=not complete)
    wanted = dict.fromkeys(ids)
    found: dict[str, list[Any]] = {}
    for item in items:
        name = item.get("id") if isinstance(item, dict) else None
        found.setdefault(str(name), []).append(item)
    for name in wanted:
        _take(parsed, name, found.get(name, []), keys, multi_label)
    extra = sum(len(group) for name, group in found.items() if name not in wanted)
    absent = sum(name not in found for name in wanted)
    # A misspelt id leaves another one missing; an answer too many is something else.
    parsed.doubtful = extra > absent
    return parsed


def _bare(text: str) -> str:
    text = _THOUGHTS.sub("", text, count=1)
    fenced = _FENCE.fullmatch(text)
    return (fenced.group(1) if fenced else text).strip()


def _items(text: str) -> tuple[list[Any], bool]:
    """The items of an answer, and whether it was whole; those before a break are kept."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return _salvage(text), False
    items = value.get("items") if isinstance(value, dict) else value
    return (items, True) if isinstance(items, list) else ([], False)


def _salvage(text: str) -> list[Any]:
    """The complete items of a JSON answer that breaks off."""
    start = _FIRST_ITEM.match(text)
    items: list[Any] = []
    position = start.end() if start else len(text)
    decoder = json.JSONDecoder()
    while brace := _NEXT_ITEM.match(text, position):
        try:
            item, position = decoder.raw_decode(text, brace.end())
        except (json.JSONDecodeError, RecursionError):
            break
        items.append(item)
    return items


def _take(
    parsed: Parsed, name: str, items: list[Any], keys: Mapping[str, str], multi_label: bool
) -> None:
    if len(items) != 1:
        parsed.problems[name] = "no answer" if not items else "answered more than once"
        return
    scores = items[0].get("scores")
    problem = _problem(scores, keys, multi_label)
    if problem:
        parsed.problems[name] = problem
    else:
        parsed.scores[name] = _by_label(scores, keys)


def _by_label(scores: Mapping[str, float], keys: Mapping[str, str]) -> Scores:
    return {name: float(scores[key if key in scores else name]) for name, key in keys.items()}


def _problem(scores: Any, keys: Mapping[str, str], multi_label: bool) -> str | None:
    """What keeps `scores` from being an answer, or None."""
    if not isinstance(scores, dict):
        return "no scores"
    if set(scores) not in (set(keys.values()), set(keys)):
        return "other labels than asked for"
    values = list(scores.values())
    if not all(_is_probability(value) for value in values):
        return "a score that is no probability"
    if not multi_label and not _SUM_RANGE[0] <= sum(values) <= _SUM_RANGE[1]:
        return "probabilities that do not sum to 1"
    return None


def _is_probability(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= 1


def parse_letter(alternatives: Mapping[str, float], letters: Mapping[str, str]) -> Scores | None:
    """Label probabilities from the log-probabilities of the first token; None if they are not.

    Tokens that differ in spaces alone are one letter. A letter below the reported alternatives has
    at most what they leave over, and at most the smallest of them; that bound is its score.
    """
    mass = dict.fromkeys(letters, 0.0)
    names = {letter: name for name, letter in letters.items()}
    for token, logprob in alternatives.items():
        if (name := names.get(token.strip())) is not None:
            mass[name] += math.exp(min(logprob, 0.0))
    if sum(mass.values()) < _MIN_LETTER_MASS:
        return None
    unseen = [name for name, value in mass.items() if value == 0]
    left = max(0.0, 1 - sum(math.exp(min(value, 0.0)) for value in alternatives.values()))
    bound = min([left / max(1, len(unseen)), *(value for value in mass.values() if value > 0)])
    mass |= dict.fromkeys(unseen, bound)
    total = sum(mass.values())
    return {name: value / total for name, value in mass.items()}
