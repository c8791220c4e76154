"""FusedClassifier: texts in, fused labels out; an encoder and a fusion model under one label space.

Knows how a prediction is put together and saved. Does not know how it was trained, nor asks an LLM:
its callers score texts with `labelfusion.llm` and hand the signals in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelfusion.config import LLMConfig, RunConfig
from labelfusion.encoders import Encoder, JointEncoder, LLMEvidence, load_encoder
from labelfusion.encoders.joint import SOURCE as JOINT_SOURCE
from labelfusion.encoders.joint import as_signal
from labelfusion.errors import RunError
from labelfusion.evaluation.frontier import margins
from labelfusion.fusion.inputs import check_shape
from labelfusion.fusion.model import FusionModel
from labelfusion.fusion.routing import Override, RoutingPolicy, always, overridden
from labelfusion.llm import ScoringContext, score_rows
from labelfusion.shift import Reference, Tally, Unlike, find_unlike, tally, written
from labelfusion.types import LabelSpace, OnEvent, Prediction, Rows, Signal, ignore_event

FORMAT = 1
ML_SOURCE = "ml"


class FusedClassifier:
    """A fitted encoder (or none) and the fusion model over it and the LLM sources.

    `routing` says which texts the LLM sources are asked about; whoever scores texts obeys it
    through `route`. `reference` is what new texts are compared with (`labelfusion.shift`); None
    for a model that was saved without one.
    """

    def __init__(
        self,
        space: LabelSpace,
        encoder: Encoder | None,
        fusion: FusionModel,
        routing: RoutingPolicy | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.space, self.encoder, self.fusion = space, encoder, fusion
        self.reference = reference
        self.routing = routing or always("The LLM sources are asked about every text")

    @property
    def source_names(self) -> tuple[str, ...]:
        """All sources, in the order of contributions and presence columns."""
        return self.fusion.sources

    def encode(self, rows: Rows, on_event: OnEvent = ignore_event) -> dict[str, Signal]:
        """What is known of n texts without asking anybody: the encoder's signal, if there is one.

        `route` and `predict` take it, so that texts are encoded once.
        """
        if self.encoder is None:
            return {}
        return {ML_SOURCE: ml_signal(self.encoder, rows, on_event)}

    def route(
        self,
        rows: Rows,
        known: Mapping[str, Signal] | None = None,
        *,
        override: Override = "saved",
        on_event: OnEvent = ignore_event,
    ) -> np.ndarray:
        """(n,) bool, the texts the LLM sources are to be asked about, by the saved policy or not.

        `known` is `encode(rows)`, if it has been computed. A text that no cheap source says
        anything about is sent unless nothing is.
        """
        policy = overridden(self.routing, override)
        if policy.policy in ("always", "never"):
            return np.full(len(rows), policy.policy == "always")
        known = self.encode(rows, on_event) if known is None else known
        return policy.sent(margins(self._fused(len(rows), known)))

    def predict(
        self,
        rows: Rows,
        signals: Mapping[str, Signal] | None = None,
        *,
        on_event: OnEvent = ignore_event,
        contributions: bool = True,
    ) -> Prediction:
        """Label n texts. LLM sources that are not in `signals` are missing on every row.

        The encoder's signal is computed unless `signals` has it, and so is the joint one of a
        jointly trained encoder: here, because it needs the LLM signals.
        Raises InputError for a signal of an unknown source or of other rows.
        """
        signals = dict(signals or {})
        if ML_SOURCE not in signals:
            signals |= self.encode(rows, on_event)
        encoder = self.encoder
        if isinstance(encoder, JointEncoder) and JOINT_SOURCE not in signals:
            signals[JOINT_SOURCE] = joint_signal(encoder, rows, signals, on_event)
        return self._fused(len(rows), signals, contributions)

    def compare(
        self,
        rows: Rows,
        signals: Mapping[str, Signal],
        prediction: Prediction,
        *,
        selected: bool = False,
        share: float = 1.0,
        on_event: OnEvent = ignore_event,
    ) -> tuple[Unlike, Tally] | None:
        """How unlike the training texts n texts are, one by one, and counted for the whole file.

        Args:
            signals, prediction: of these rows.
            selected: the texts that LLM sources were asked about were picked for being doubtful.
            share: of the texts whose distances are kept for the whole file's comparison.

        None for a model saved without a reference. Texts that have been encoded are not encoded
        again.
        """
        if self.reference is None:
            return None
        features = self.reference.features(self.encoder, written(rows.texts), on_event)
        unlike = find_unlike(
            self.reference,
            rows.texts,
            features,
            fusion=self.fusion,
            signals=signals,
            selected=selected,
        )
        return unlike, tally(self.reference, unlike, features, prediction, share)

    def _fused(
        self, n: int, signals: Mapping[str, Signal], contributions: bool = False
    ) -> Prediction:
        name = self.source_names[0]
        signals = signals or {name: Signal.missing(name, n, len(self.space))}
        return self.fusion.predict(signals, contributions=contributions)

    def save(self, folder: Path) -> None:
        """Write label space, fusion model, routing, reference texts and encoder/ into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            "format": FORMAT,
            "names": list(self.space.names),
            "multi_label": self.space.multi_label,
            "descriptions": dict(self.space.descriptions),
            "encoder": self.encoder is not None,
        }
        (folder / SPACE_FILE).write_text(
            json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        self.fusion.save(folder)
        self.routing.save(folder)
        if self.reference is not None:
            self.reference.save(folder)
        if self.encoder is not None:
            self.encoder.save(folder / ENCODER_FOLDER)

    @classmethod
    def load(cls, folder: Path, *, cache_dir: Path | None = None) -> FusedClassifier:
        """Inverse of `save`. Raises RunError or ModelError for what is damaged or newer."""
        try:
            values = json.loads((folder / SPACE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                "There is no readable model here",
                where=str(folder),
                found=str(error),
                remedy="Give the folder of a finished run, or train again",
            ) from None
        if values["format"] > FORMAT:
            raise RunError(
                "The model is of a newer format",
                where=str(folder),
                expected=f"at most {FORMAT}",
                found=str(values["format"]),
                remedy="Upgrade labelfusion",
            )
        space = LabelSpace(tuple(values["names"]), values["multi_label"], values["descriptions"])
        encoder = None
        if values["encoder"]:
            encoder = load_encoder(folder / ENCODER_FOLDER, space, cache_dir=cache_dir)
        fusion, routing = FusionModel.load(folder, space), RoutingPolicy.load(folder)
        return cls(space, encoder, fusion, routing, Reference.load(folder))


SPACE_FILE, ENCODER_FOLDER = "label_space.json", "encoder"


def ml_signal(encoder: Encoder, rows: Rows, on_event: OnEvent = ignore_event) -> Signal:
    """The encoder's logits; a row without text is missing."""
    present, texts = _with_text(rows)
    logits = encoder.logits(texts, on_event)
    scores = np.full((len(rows), logits.shape[1]), np.nan)
    scores[present] = logits
    return Signal(ML_SOURCE, scores, "logits", present, encoder.origin)


def joint_signal(
    encoder: JointEncoder,
    rows: Rows,
    signals: Mapping[str, Signal],
    on_event: OnEvent = ignore_event,
) -> Signal:
    """The joint logits; a row without text, or without a score of any LLM source, is missing.

    Raises InputError for an LLM signal of other rows or labels.
    """
    n, k = len(rows), len(encoder.space)
    used = {name: signals[name] for name in encoder.sources if name in signals}
    for signal in used.values():
        check_shape(signal, n, k)
    evidence = LLMEvidence.of(used, encoder.sources, n, encoder.space)
    present, texts = _with_text(rows)
    scores = np.full((n, k), np.nan)
    if evidence.any_present.any():
        scores[present] = encoder.joint_logits(texts, evidence.take(present), on_event)
    return as_signal(encoder, scores, present & evidence.any_present)


def _with_text(rows: Rows) -> tuple[np.ndarray, list[str]]:
    """(n,) bool of the rows that have a text, and those texts."""
    present = np.array([bool(text.strip()) for text in rows.texts], dtype=bool)
    return present, [text for text in rows.texts if text.strip()]


def score_llm(
    entry: LLMConfig,
    rows: Rows,
    space: LabelSpace,
    config: RunConfig,
    on_event: OnEvent = ignore_event,
    *,
    context: ScoringContext | None = None,
    must_match: bool = True,
) -> Signal:
    """Scores of one LLM entry for rows of data laid out as `config.data` says.

    `must_match`: recorded scores that hold none of the rows are an error, not an absent source.
    """
    context = replace(
        context or ScoringContext(),
        id_columns=(config.data.id_column or "id",),
        text_columns=tuple(config.data.text_columns),
        must_match=must_match,
    )
    return score_rows(entry, rows, space, on_event=on_event, context=context)


def score_sent(
    sent: np.ndarray, rows: Rows, space: LabelSpace, score: Callable[[Rows], Signal], source: str
) -> Signal:
    """A source's signal over n rows, of which `score` is given only those that are `sent`.

    Args:
        sent: (n,) bool, from `FusedClassifier.route`.
        score: asks the source; not called if nothing is sent.
    """
    if not sent.any():
        return Signal.missing(source, len(rows), len(space))
    positions = np.flatnonzero(sent)
    return scattered([(positions, score(rows.take(positions)))], len(rows))


def scattered(parts: Sequence[tuple[np.ndarray, Signal]], n: int) -> Signal:
    """Signals of some row positions as one signal over n rows; the others are missing."""
    first = parts[0][1]
    scores = np.full((n, first.scores.shape[1]), np.nan)
    present = np.zeros(n, dtype=bool)
    for rows, signal in parts:
        scores[rows], present[rows] = signal.scores, signal.present
    return replace(first, scores=scores, present=present)
