"""One text, source by source: what is known for free, what asking would cost, and what if.

Asks nobody unless told to. Knows a run's config and classifier. Knows no page.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from labelfusion.classifier import FusedClassifier, score_llm
from labelfusion.config import CostConfig, LLMConfig
from labelfusion.costs import CostLine, PriceBook, cost_of_run, estimate
from labelfusion.costs.prices import FREE_PROVIDERS
from labelfusion.errors import InputError
from labelfusion.llm import ScoringContext, scoring_session
from labelfusion.llm.remote import plan_costs
from labelfusion.predict_file import run_examples
from labelfusion.runs import Run
from labelfusion.types import Dataset, Prediction, Rows, Signal
from labelfusion.workspace import Workspace

MAX_CHARACTERS = 20_000
NOT_RECORDED = "This text is not among the recorded scores, so the source is missing."


@dataclass(frozen=True)
class Offer:
    """What asking an LLM source about one text is expected to cost, and at most (US dollars).

    None: the price is unknown. `cached` says that the answer is there and costs nothing.
    """

    expected: Decimal | None
    at_most: Decimal | None
    seconds: float
    cached: bool


@dataclass(frozen=True)
class Answer:
    """What a source said of one text: `signal` (1, k), in `seconds`, for `cost` if it was paid."""

    signal: Signal
    seconds: float
    cost: CostLine | None = None


def as_rows(text: str, data: Dataset | None = None) -> Rows:
    """The text as rows, under its id in `data` if it is there: recorded scores may go by ids.

    Raises InputError for a text that is empty or longer than MAX_CHARACTERS.
    """
    if not text.strip():
        raise InputError("There is no text", remedy="Write or paste the text to classify")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            "The text is too long for one look",
            expected=f"at most {MAX_CHARACTERS:,} characters",
            found=f"{len(text):,} characters",
            remedy="Shorten it, or put it into a file and label the file",
        )
    plain = text.strip()
    if data is not None and plain in data.texts:
        return Rows(ids=[str(data.ids[data.texts.index(plain)])], texts=[plain])
    # Not an id that a file of recorded scores could hold: the text alone finds its scores.
    return Rows(ids=[f"text-{secrets.token_hex(8)}"], texts=[plain])


def encoder_answer(classifier: FusedClassifier, rows: Rows) -> dict[str, Answer]:
    """The encoder's signal, if the run has an encoder."""
    started = time.monotonic()
    known = classifier.encode(rows)
    return {name: Answer(signal, time.monotonic() - started) for name, signal in known.items()}


def recorded_answer(
    run: Run, classifier: FusedClassifier, entry: LLMConfig, rows: Rows
) -> Answer | None:
    """What a recorded source holds for the text, or None."""
    started = time.monotonic()
    signal = score_llm(entry, rows, classifier.space, run.config, must_match=False)
    return Answer(signal, time.monotonic() - started) if signal.present.all() else None


def offer(
    run: Run, classifier: FusedClassifier, entry: LLMConfig, rows: Rows, workspace: Workspace
) -> Offer:
    """What asking would cost. Sends nothing and needs no key. Raises ConfigError."""
    if entry.provider in FREE_PROVIDERS:
        return Offer(Decimal(0), Decimal(0), 0.0, cached=False)
    alone = run.config.model_copy(update={"llm": [entry]})
    with scoring_session(alone, workspace, "estimate") as context:
        lent = replace(context, training=run_examples(run))
        book = PriceBook.of(run.config.costs)
        plan = plan_costs(entry, rows, classifier.space, prices=book, context=lent)
    source = estimate([plan]).sources[0]
    cached = plan.cached_texts > 0
    return Offer(source.expected.usd, source.at_most.usd, source.expected.seconds, cached)


def ask(
    run: Run,
    classifier: FusedClassifier,
    entry: LLMConfig,
    rows: Rows,
    workspace: Workspace,
    *,
    costs: CostConfig | None = None,
) -> Answer:
    """Ask one LLM source about the text; the answer is kept in the cache.

    Raises LabelFusionError as `labelfusion.llm.score_rows` does.
    """
    # Somebody is waiting: a server that does not answer is told of soon.
    hasty = entry.model_copy(update={"max_attempts": 1, "batch": False})
    config = run.config.model_copy(update={"llm": [hasty], "costs": costs or run.config.costs})
    name, started = f"classify-{secrets.token_hex(6)}", time.monotonic()
    with scoring_session(config, workspace, name) as context:
        lent: ScoringContext = replace(context, training=run_examples(run), stop_when_spent=True)
        signal = score_llm(hasty, rows, classifier.space, config, context=lent, must_match=False)
    seconds = time.monotonic() - started
    return Answer(signal, seconds, cost_of_run(workspace.root, name))


def what_if(
    classifier: FusedClassifier, answers: Mapping[str, Answer], used: set[str]
) -> Prediction:
    """The fused prediction of one text as if only the sources in `used` had answered."""
    kept = {name: answer.signal for name, answer in answers.items() if name in used}
    absent = classifier.source_names[0]
    kept = kept or {absent: Signal.missing(absent, 1, len(classifier.space))}
    return classifier.fusion.predict(kept, contributions=True)


def python_snippet(run: Run, text: str) -> str:
    """The same prediction from Python."""
    return (
        "from pathlib import Path\n\n"
        "from labelfusion.classifier import FusedClassifier\n"
        "from labelfusion.types import Rows\n\n"
        f"classifier = FusedClassifier.load(Path({str(run.folder.model)!r}))\n"
        f'prediction = classifier.predict(Rows(ids=["1"], texts=[{text!r}]))\n'
        "print(prediction.labels(), prediction.probabilities)\n"
    )
