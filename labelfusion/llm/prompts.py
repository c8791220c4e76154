"""What the LLM is sent: a static prefix and the texts as delimited JSON data.

Knows templates and the wording around labels, examples and the form of the answer. Knows no
provider, no cache and no scores. Labels stand in the order of their names, whatever the order of
the LabelSpace, so that a permuted label order is the same prompt.

A template is a text file: `version: N`, then `--- system ---` and `--- user ---` with placeholders
in double braces. Placeholders are filled in one pass, so braces in texts stay braces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from labelfusion.config import PromptConfig
from labelfusion.errors import ConfigError
from labelfusion.llm.examples import Example
from labelfusion.llm.keys import digest
from labelfusion.llm.providers.base import Prompt
from labelfusion.types import LabelSpace

# Keys of a JSON schema's properties that every provider takes.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_PARTS = re.compile(
    r"version:[ \t]*(\S+)[ \t]*\n--- system ---\n(.*?)\n--- user ---\n(.*)", re.DOTALL
)
_SYSTEM = frozenset({"task", "labels", "conventions", "examples", "output"})
_LETTERS = "ABCDEFGHIJKLMNOPQRST"
MAX_LETTERS = len(_LETTERS)


@dataclass(frozen=True)
class Template:
    """A checked template. `version` names the file, its number and its content."""

    version: str
    system: str
    user: str


def load_template(name: str) -> Template:
    """The packaged template `default`, or the file at path `name`.

    Raises ConfigError: there is no such file, or a placeholder is missing, unknown or misplaced.
    """
    default = name == "default"
    path = files("labelfusion.llm").joinpath("templates/default.txt") if default else Path(name)
    try:
        content = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "The prompt template cannot be read",
            where=name,
            found=str(error),
            remedy="Give the path of a UTF-8 text file, or template: default",
        ) from None
    return _checked(name, content)


def _checked(name: str, content: str) -> Template:
    match = _PARTS.fullmatch(content)
    if match is None:
        raise ConfigError(
            "The prompt template has another form",
            where=name,
            expected="version: N, then a line '--- system ---', then a line '--- user ---'",
        )
    number, system, user = match.groups()
    _check_placeholders(name, "system", system, {"labels", "output"}, _SYSTEM)
    _check_placeholders(name, "user", user, {"texts"}, frozenset({"texts"}))
    return Template(f"{Path(name).stem}-{number}-{digest([system, user])[:8]}", system, user)


def _check_placeholders(
    name: str, part: str, text: str, needed: set[str], known: frozenset[str]
) -> None:
    found = _PLACEHOLDER.findall(text)
    shown = ", ".join(f"{{{{{p}}}}}" for p in sorted(known))
    for placeholder in found:
        if placeholder not in known:
            raise ConfigError(
                f"The {part} part of the prompt template has an unknown placeholder",
                where=name,
                expected=shown,
                found=f"{{{{{placeholder}}}}}",
                remedy="The user part is for {{texts}} alone, all else belongs in the system part",
            )
    if absent := sorted(needed - set(found)):
        raise ConfigError(
            f"The {part} part of the prompt template lacks a placeholder",
            where=name,
            expected=", ".join(f"{{{{{p}}}}}" for p in absent),
        )


def label_keys(space: LabelSpace) -> dict[str, str]:
    """Label -> the key it has in the answer, in the order of the names; keys are unique."""
    keys: dict[str, str] = {}
    taken = {name for name in space.names if _PLAIN.fullmatch(name)}
    for name in sorted(space.names):
        key = name
        if name not in taken:
            stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")[:56] or "label"
            key, number = stem, 2
            while key in taken:
                key, number = f"{stem}_{number}", number + 1
            taken.add(key)
        keys[name] = key
    return keys


def label_letters(space: LabelSpace) -> dict[str, str]:
    """Label -> the single letter that stands for it, in the order of the names (20 at most)."""
    return dict(zip(sorted(space.names), _LETTERS, strict=False))


def answer_schema(space: LabelSpace) -> dict[str, object]:
    """JSON schema of an answer: for each text its id and one probability a label."""
    keys = list(label_keys(space).values())
    scores = _closed({key: {"type": "number"} for key in keys})
    item = _closed({"id": {"type": "string"}, "scores": scores})
    return _closed({"items": {"type": "array", "items": item}})


def _closed(properties: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


class PromptWriter:
    """Renders the prompts of one source.

    Args:
        config: task, conventions and template.
        space: the labels with their descriptions.
        letters: answer with one letter (for log-probabilities) instead of JSON.
    """

    def __init__(self, config: PromptConfig, space: LabelSpace, *, letters: bool = False) -> None:
        self._config, self._space = config, space
        self._template = load_template(config.template)
        self._letters = letters
        self._keys = label_letters(space) if letters else label_keys(space)

    @property
    def version(self) -> str:
        return self._template.version

    def prefix(self, examples: Sequence[Example] = ()) -> str:
        """The static part: everything but the texts."""
        values = {
            "task": self._config.task.strip(),
            "labels": self._labels(),
            "conventions": _titled("Conventions of the labelling team:", self._config.conventions),
            "examples": self._examples(examples),
            "output": self._output(),
        }
        # A placeholder without a value takes its line with it.
        fill = re.compile(_PLACEHOLDER.pattern + r"(\n?)")
        filled = fill.sub(lambda m: (v := values[m[1]]) and v + m[2], self._template.system)
        return filled.strip()

    def item(self, text: str, examples: Sequence[Example] = ()) -> dict[str, object]:
        """One text as data, without its id; `examples` are its nearest labelled texts."""
        text = _well_formed(text)
        if not examples:
            return {"text": text}
        return {"text": text, "similar_labelled_texts": [self._shown(e) for e in examples]}

    def prompt(self, prefix: str, items: Mapping[str, Mapping[str, object]]) -> Prompt:
        """The request for `items` (id -> item)."""
        data = [{"id": key, **item} for key, item in items.items()]
        # "<" is escaped so that no text can close the <texts> block.
        texts = json.dumps(data, ensure_ascii=False, indent=0).replace("<", "\\u003c")
        user = _PLACEHOLDER.sub(lambda _: texts, self._template.user)
        return Prompt(prefix, user.strip())

    def _labels(self) -> str:
        several = (
            "any number of labels, or none" if self._space.multi_label else "exactly one label"
        )
        lines = [f"Every text has {several}. The labels:"]
        for name, key in self._keys.items():
            shown = f"{key} ({name})" if key != name else name
            description = " ".join(self._space.descriptions.get(name, "").split())
            lines.append(f"- {shown}: {description}" if description else f"- {shown}")
        return "\n".join(lines)

    def _examples(self, examples: Sequence[Example]) -> str:
        if not examples:
            return ""
        lines = [json.dumps(self._shown(e), ensure_ascii=False) for e in examples]
        return _titled("Examples, labelled by the team:", "\n".join(lines).replace("<", "\\u003c"))

    def _shown(self, example: Example) -> dict[str, object]:
        labels = sorted(self._keys[label] for label in example.labels)
        return {"text": _well_formed(example.text), "labels": labels}

    def _output(self) -> str:
        if self._letters:
            return "Answer with the letter of the text's label and nothing else."
        keys = ", ".join(f'"{key}": p' for key in self._keys.values())
        meaning = (
            "the probability, from 0 to 1, that the label applies; each label on its own"
            if self._space.multi_label
            else "the probability, from 0 to 1, that the label is the right one; they sum to 1"
        )
        return (
            f'Answer with JSON alone: {{"items": [{{"id": "…", "scores": {{{keys}}}}}]}}, one item '
            f"for each text, with its id as given. Each p is {meaning}. Be graded: where you are "
            "in doubt, share the probability out."
        )


def _titled(title: str, body: str) -> str:
    return f"{title}\n{body.strip()}" if body.strip() else ""


def _well_formed(text: str) -> str:
    """`text` with half characters (lone surrogates), which no request can carry, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
