"""A causal language model on this machine, through transformers: free, private, really graded.

A label's score is the log-likelihood of its name after the prompt; with several labels a text it is
the log-odds of "yes" against "no" for each label. Longer names are less likely whatever the text:
that is a constant a label, which calibration with a bias takes out. Weights are read from
safetensors only, and no code of a model's folder is run.

Knows tokens and the model. Knows no API, no money and no batches over texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.cache.memory import NoCache
from labelfusion.config import LLMConfig
from labelfusion.encoders.pretrained import hub_folder
from labelfusion.errors import ModelError
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.examples import Example, ExamplePicker
from labelfusion.llm.keys import answer_key, settings_digest
from labelfusion.llm.progress import Progress
from labelfusion.llm.providers import model_name
from labelfusion.llm.scorer import cached_scores
from labelfusion.types import LabelSpace, OnEvent, Rows, Signal

_VERSION = "local-1"
_YES_NO = (" yes", " no")
# Tokens kept for a text at least, however long the instructions are.
_MIN_TEXT_TOKENS = 16
_REMEDY = (
    "Correct llm.model: a folder, or a name of the hub, whose model is fetched once while online"
)


def score(
    entry: LLMConfig, rows: Rows, space: LabelSpace, *, on_event: OnEvent, context: ScoringContext
) -> Signal:
    """Log-likelihoods (multi-class) or log-odds (multi-label) of `rows`; kind "logits".

    Raises ModelError: the model is absent, damaged or not a causal language model; ConfigError: the
    entry names no model, or examples are asked for and there are none.
    """
    model = LocalModel(model_name(entry))
    prompts = _Prompts(entry, space, context)
    settings = settings_digest(entry, model.identity, None)
    cache = context.cache or NoCache()
    progress = Progress(entry.name, len(rows), on_event, None)
    progress.tell("start", f"Scoring {len(rows)} texts with {entry.model}")
    distinct = list(dict.fromkeys(rows.texts))
    prefixes = dict(zip(distinct, prompts.prefixes(distinct), strict=True))
    keys = {t: answer_key(settings, _VERSION, prefixes[t], {"text": t}) for t in distinct}
    known = cache.get_many(list(keys.values()))
    scores: dict[str, dict[str, float]] = {}
    for text in rows.texts:
        cached = None if text in scores else cached_scores(known.get(keys[text]), space.names)
        if cached is not None:
            scores[text] = cached
            progress.cached += 1
        elif text not in scores:
            values = prompts.scores(model, prefixes[text], text)
            scores[text] = dict(zip(space.names, values.tolist(), strict=True))
            answer = {"scores": scores[text], "prompt": _VERSION}
            cache.put(
                keys[text], answer, provider="local", model=entry.model or "", run=context.run
            )
        progress.done += 1
        progress.tell()
    progress.tell("done", f"{len(rows)} texts have scores, {progress.cached} from the cache")
    table = [[scores[text][name] for name in space.names] for text in rows.texts]
    return Signal(
        entry.name,
        np.array(table, dtype=float).reshape(len(rows), len(space)),
        "logits",
        np.ones(len(rows), dtype=bool),
        f"local {Path(entry.model or '').name}, prompt {_VERSION}",
    )


class _Prompts:
    """What the model is to go on from, and which endings are compared."""

    def __init__(self, entry: LLMConfig, space: LabelSpace, context: ScoringContext) -> None:
        self._config, self._space = entry.prompt, space
        self._picker = ExamplePicker(entry.prompt.examples, space, context.training)

    def prefixes(self, texts: Sequence[str]) -> list[str]:
        """The instructions before each text, its examples among them."""
        nearest = self._picker.nearest(texts)
        return [
            self._prefix((*self._picker.shared(text), *near))
            for text, near in zip(texts, nearest, strict=True)
        ]

    def _prefix(self, examples: Sequence[Example]) -> str:
        lines = [self._config.task, self._config.conventions, "Labels:"]
        for name in sorted(self._space.names):
            description = self._space.descriptions.get(name, "")
            lines.append(f"- {name}: {description}" if description else f"- {name}")
        shown = [
            f"\nText: {example.text}\nLabel: {', '.join(example.labels) or 'none'}"
            for example in examples
        ]
        return "\n".join(line for line in (*lines, *shown) if line.strip()) + "\n\nText: "

    def scores(self, model: LocalModel, prefix: str, text: str) -> np.ndarray:
        """(k,) in the order of the LabelSpace."""
        names = self._space.names
        if not self._space.multi_label:
            return model.log_likelihoods(prefix, text, "\nLabel:", [f" {name}" for name in names])
        questions = [f'\nDoes the label "{name}" apply? Answer:' for name in names]
        pairs = [model.log_likelihoods(prefix, text, q, _YES_NO) for q in questions]
        return np.array([yes - no for yes, no in pairs])


class LocalModel:
    """A causal LM with its tokenizer, loaded when first asked. `name`: a folder or a hub name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def identity(self) -> str:
        """Tells this model's content apart in cache keys; changes when a file of it does."""
        folder = Path(self._name)
        if not folder.is_dir():
            return self._name
        files = sorted(path for path in folder.iterdir() if path.is_file())
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return f"{folder.name} {stats}"

    def _folder(self) -> Path:
        folder = Path(self._name).expanduser()
        if folder.is_dir():
            return folder
        return hub_folder(self._name, where="llm.model", remedy=_REMEDY)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = self._folder()
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype="auto", use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                "The local language model cannot be loaded",
                where=self._name,
                expected="a folder with config.json, a tokenizer and safetensors of a causal LM",
                found=" ".join(str(error).split())[:300],
                remedy=_REMEDY,
            ) from None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return tokenizer, model.to(device).eval()

    def log_likelihoods(
        self, prefix: str, text: str, question: str, endings: Sequence[str]
    ) -> np.ndarray:
        """(k,) natural-log probability of each ending after prefix + text + question.

        A text too long for the model's context is cut at its end.
        """
        import torch

        tokenizer, model = self._loaded
        tails = [tokenizer.encode(ending, add_special_tokens=False) for ending in endings]
        prompt = self._prompt_ids(prefix, text, question, max(map(len, tails)))
        width = max(map(len, tails)) - 1
        fed = [tail[:-1] + [0] * (width - len(tail) + 1) for tail in tails]
        with torch.inference_mode():
            start = model(torch.tensor([prompt], device=model.device), use_cache=True)
            first = start.logits[0, -1].log_softmax(-1).expand(len(tails), 1, -1)
            steps = first
            if width:
                start.past_key_values.batch_repeat_interleave(len(tails))
                rest = model(
                    torch.tensor(fed, device=model.device), past_key_values=start.past_key_values
                )
                steps = torch.cat([first, rest.logits.log_softmax(-1)], dim=1)
        table = steps.double().cpu().numpy()
        return np.array(
            [sum(table[i, j, t] for j, t in enumerate(tail)) for i, tail in enumerate(tails)]
        )

    def _prompt_ids(self, prefix: str, text: str, question: str, reserve: int) -> list[int]:
        tokenizer, model = self._loaded
        before = tokenizer.encode(prefix)
        after = tokenizer.encode(question, add_special_tokens=False)
        limit = getattr(model.config, "max_position_embeddings", None) or 10**9
        room = limit - len(before) - len(after) - reserve
        if room < _MIN_TEXT_TOKENS:
            raise ModelError(
                "The instructions leave no room for texts in the model's context",
                where=self._name,
                expected=f"{len(before) + len(after) + reserve + _MIN_TEXT_TOKENS} tokens",
                found=f"{limit} tokens",
                remedy="Use fewer examples, shorter descriptions, or a model with more context",
            )
        return before + tokenizer.encode(text, add_special_tokens=False)[:room] + after
