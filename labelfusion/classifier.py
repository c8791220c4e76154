"""FusedClassifier: texts in, fused labels out; an encoder and a fusion model under one label space.

Knows how a prediction is put together and saved. Does not know how it was trained, nor asks an LLM:
its callers score texts with `labelfusion.llm` and hand the signals in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelfusion.config import LLMConfig, RunConfig
from labelfusion.encoders import Encoder, load_encoder
from labelfusion.errors import RunError
from labelfusion.fusion.model import FusionModel
from labelfusion.llm import ScoringContext, score_rows
from labelfusion.types import LabelSpace, OnEvent, Prediction, Rows, Signal, ignore_event

FORMAT = 1
ML_SOURCE = "ml"


class FusedClassifier:
    """A fitted encoder (or none) and the fusion model over it and the LLM sources."""

    def __init__(self, space: LabelSpace, encoder: Encoder | None, fusion: FusionModel) -> None:
        self.space, self.encoder, self.fusion = space, encoder, fusion

    @property
    def source_names(self) -> tuple[str, ...]:
        """All sources, in the order of contributions and presence columns."""
        return self.fusion.sources

    def predict(
        self,
        rows: Rows,
        llm_signals: Mapping[str, Signal] | None = None,
        *,
        on_event: OnEvent = ignore_event,
        contributions: bool = True,
    ) -> Prediction:
        """Label n texts. LLM sources that are not in `llm_signals` are missing on every row.

        Raises InputError for a signal of an unknown source or of other rows.
        """
        signals = dict(llm_signals or {})
        if self.encoder is not None:
            signals[ML_SOURCE] = ml_signal(self.encoder, rows, on_event)
        if not signals:
            name, n = self.source_names[0], len(rows)
            signals[name] = Signal.missing(name, n, len(self.space))
        return self.fusion.predict(signals, contributions=contributions)

    def save(self, folder: Path) -> None:
        """Write label_space.json, the fusion model and encoder/ into `folder`, made if absent."""
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
        return cls(space, encoder, FusionModel.load(folder, space))


SPACE_FILE, ENCODER_FOLDER = "label_space.json", "encoder"


def ml_signal(encoder: Encoder, rows: Rows, on_event: OnEvent = ignore_event) -> Signal:
    """The encoder's logits; a row without text is missing."""
    present = np.array([bool(text.strip()) for text in rows.texts], dtype=bool)
    logits = encoder.logits([text for text in rows.texts if text.strip()], on_event)
    scores = np.full((len(rows), logits.shape[1]), np.nan)
    scores[present] = logits
    return Signal(ML_SOURCE, scores, "logits", present, encoder.origin)


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
