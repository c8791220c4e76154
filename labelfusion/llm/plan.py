"""What will be asked about a source's rows: distinct texts, their prompts and their cache keys.

Sends nothing. The scorer works from a plan, and so do the cost estimate and the prompt preview, so
that what is shown is what is sent.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labelfusion.config import LLMConfig
from labelfusion.costs import TokenCounter
from labelfusion.errors import ConfigError
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.examples import ExamplePicker
from labelfusion.llm.keys import answer_key, settings_digest
from labelfusion.llm.prompts import (
    MAX_LETTERS,
    PromptWriter,
    answer_schema,
    label_keys,
    label_letters,
)
from labelfusion.llm.providers import check_batch
from labelfusion.llm.providers.base import Ask
from labelfusion.llm.trust import addresses_model
from labelfusion.llm.work import Task
from labelfusion.types import LabelSpace, Rows

# Answers are digits, quotes and short names: denser in tokens than prose.
_ANSWER_CHARACTERS_PER_TOKEN = 2.5
# An answer may not take more than this share of the output limit, or it would often be cut off.
_OUTPUT_SHARE = 0.8


@dataclass(frozen=True)
class Plan:
    """Tasks by cache key, and for each row its key.

    Attributes:
        keys: n cache keys, one a row.
        tasks: key -> task, one for each distinct text.
        letters: label -> letter where the answer is one letter, else None.
        answer_keys: label -> its key in a JSON answer.
        texts_per_request: at most; fewer than configured where the answers would not fit.
        version: of the prompt.
    """

    entry: LLMConfig
    space: LabelSpace
    writer: PromptWriter
    keys: Sequence[str]
    tasks: Mapping[str, Task]
    letters: Mapping[str, str] | None
    answer_keys: Mapping[str, str]
    texts_per_request: int
    version: str

    def ask(self, tasks: Sequence[Task]) -> tuple[Ask, dict[str, Task]]:
        """The request for tasks with one prefix, and the task of each id in it.

        Ids are drawn anew for each request, so that no text can name its neighbours.
        """
        by_id = {f"t{secrets.token_hex(3)}": task for task in tasks}
        return self.ask_by_id(by_id), by_id

    def ask_by_id(self, by_id: Mapping[str, Task]) -> Ask:
        """The request for tasks with one prefix, under ids that are known already."""
        items = {name: task.item for name, task in by_id.items()}
        prefix = next(iter(by_id.values())).prefix
        return Ask(
            prompt=self.writer.prompt(prefix, items),
            schema=None if self.letters else answer_schema(self.space),
            temperature=self.entry.temperature,
            max_output_tokens=self.entry.max_output_tokens,
            reasoning_effort=self.entry.reasoning_effort,
            top_logprobs=MAX_LETTERS if self.letters else 0,
        )

    def output_tokens_per_text(self) -> float:
        """Expected tokens of the answer for one text."""
        if self.letters:
            return 1.0
        return _answer_tokens(self.answer_keys)


def make_plan(
    entry: LLMConfig, model: str, rows: Rows, space: LabelSpace, context: ScoringContext
) -> Plan:
    """Plan the scoring of `rows`.

    Raises ConfigError: the template, the examples or the form of the answer do not fit, or batch
    requests are asked for and the provider has none.
    """
    check_batch(entry)
    letters = _letters(entry, space)
    writer = PromptWriter(entry.prompt, space, letters=letters is not None)
    schema = None if letters else answer_schema(space)
    settings = settings_digest(entry, model, schema)
    tasks: dict[str, Task] = {}
    by_text: dict[str, str] = {}
    distinct = list(dict.fromkeys(rows.texts))
    for text, prefix, item in _parts(entry, writer, space, distinct, context):
        key = answer_key(settings, writer.version, prefix, item)
        by_text[text] = key
        alone = letters is not None or addresses_model(text)
        tasks.setdefault(key, Task(key, item, prefix, len(json.dumps(item)), alone))
    return Plan(
        entry,
        space,
        writer,
        [by_text[text] for text in rows.texts],
        tasks,
        letters,
        label_keys(space),
        _texts_per_request(entry, label_keys(space)),
        writer.version,
    )


def _letters(entry: LLMConfig, space: LabelSpace) -> dict[str, str] | None:
    if entry.output != "logprobs":
        return None
    if space.multi_label or len(space) > MAX_LETTERS:
        raise ConfigError(
            "Log-probabilities of one answer token cannot score these labels",
            where=f"llm {entry.name}, output",
            expected=f"labels that exclude each other, {MAX_LETTERS} at most",
            found=f"{len(space)} labels{', several a text' if space.multi_label else ''}",
            remedy="Set output to json_schema",
        )
    return label_letters(space)


def _parts(
    entry: LLMConfig,
    writer: PromptWriter,
    space: LabelSpace,
    texts: Sequence[str],
    context: ScoringContext,
) -> Iterable[tuple[str, str, dict[str, object]]]:
    """(text, its prefix, its item) for each distinct text."""
    picker = ExamplePicker(entry.prompt.examples, space, context.training)
    prefixes: dict[tuple, str] = {}
    for text, nearest in zip(texts, picker.nearest(texts), strict=True):
        shared = picker.shared(text)
        if shared not in prefixes:
            prefixes[shared] = writer.prefix(shared)
        yield text, prefixes[shared], writer.item(text, nearest)


def _texts_per_request(entry: LLMConfig, keys: Mapping[str, str]) -> int:
    fitting = int(_OUTPUT_SHARE * entry.max_output_tokens / _answer_tokens(keys))
    return max(1, min(entry.texts_per_request, fitting))


def _answer_tokens(keys: Mapping[str, str]) -> float:
    sample = {"id": "t0a1b2c", "scores": dict.fromkeys(keys.values(), 0.05)}
    return (len(json.dumps(sample)) + 2) / _ANSWER_CHARACTERS_PER_TOKEN


def text_tokens(tokens: TokenCounter, tasks: Iterable[Task]) -> tuple[list[int], list[int]]:
    """Expected tokens of each task's part of a request, and their upper bounds."""
    items = [json.dumps({"id": "t0a1b2c", **t.item}, ensure_ascii=False) for t in tasks]
    # The bound holds for escaped "<" as well, which is six bytes for one.
    bounds = [tokens.at_most(item) + 5 * item.count("<") for item in items]
    return [tokens.count(item) for item in items], bounds
