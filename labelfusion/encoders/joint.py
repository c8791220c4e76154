"""The paper's joint form: a transformer and a FusionMLP trained end to end.

One backbone has two heads. The linear one reads the text alone and is the "ml" source; the
FusionMLP reads the embedding and the LLM scores of the same text and is the source "joint". Both
losses (cross-entropy, or binary cross-entropy for multi-label) are added up and move the backbone;
the heads have the higher learning rate (LabelFusion paper, arXiv 2512.10793). Knows how that is
trained, cross-fitted and stored. Does not know what the fusion makes of the two sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from labelfusion.config import MLConfig, TrainingConfig
from labelfusion.encoders import storage
from labelfusion.encoders.backbone import Backbone
from labelfusion.encoders.base import NEVER_HELD_OUT, check_folds, scores_by_fold, take
from labelfusion.encoders.batches import MicroBatch
from labelfusion.encoders.finetuned import FineTunedEncoder, hashed, packed, started_head
from labelfusion.encoders.fusion_mlp import (
    LLM_DROPOUT,
    PREFIX,
    LLMEvidence,
    fused_logits,
    started,
)
from labelfusion.encoders.head import LogisticHead
from labelfusion.encoders.optimisation import Learner, MakeLearner, TrainingRows
from labelfusion.encoders.pretrained import Pretrained
from labelfusion.encoders.team import ALONE, Team
from labelfusion.errors import ModelError
from labelfusion.spreading import Spread, one_by_one
from labelfusion.types import LabelSpace, OnEvent, Signal, ignore_event

if TYPE_CHECKING:
    import torch

BACKBONE = "joint"
SOURCE = "joint"


class JointEncoder(FineTunedEncoder):
    """A fine-tuned encoder whose backbone a FusionMLP was trained with.

    As an Encoder it knows the text alone; `fit` trains it without a FusionMLP.

    Attributes:
        sources: names of the S LLM sources that the FusionMLP reads.
        fusion: its parameters; none before `fit_joint`.
    """

    def __init__(
        self,
        config: MLConfig,
        space: LabelSpace,
        *,
        seed: int,
        cache_dir: Path | None,
        trained: tuple[str, Pretrained] | None = None,
    ) -> None:
        super().__init__(config, space, seed=seed, cache_dir=cache_dir, trained=trained)
        self.sources: tuple[str, ...] = ()
        self.fusion: dict[str, np.ndarray] = {}
        self._evidence: LLMEvidence | None = None
        self._embedded: tuple[list[str], np.ndarray] | None = None

    @property
    def joint_origin(self) -> str:
        return f"{self.name} + FusionMLP over {', '.join(self.sources)}, trained jointly"

    def fit_joint(
        self,
        texts: Sequence[str],
        targets: np.ndarray,
        evidence: LLMEvidence,
        on_event: OnEvent = ignore_event,
    ) -> None:
        """Train both heads and the backbone, from a checkpoint of the same training if it is there.

        Rows that no LLM scored train the backbone and the head of the text alone.
        Raises what `fit` raises.
        """
        with self._lent(evidence):
            self._fit(texts, targets, on_event, n_total=None)

    def score_held_out_jointly(
        self,
        known: tuple[Sequence[str], np.ndarray, LLMEvidence],
        held_out: tuple[Sequence[str], LLMEvidence],
        on_event: OnEvent = ignore_event,
    ) -> np.ndarray:
        """(m, 2k) logits of the text alone, then joint ones, of `held_out`; remembered by content.

        Args:
            known: texts, targets and evidence to train on.
            held_out: m texts and their evidence.
        """
        (texts, targets, evidence), (asked, told) = known, held_out

        def score() -> np.ndarray:
            self._fit(texts, targets, on_event, n_total=len(texts) + len(asked))
            return np.hstack([self.logits(asked, on_event), self.joint_logits(asked, told)])

        with self._lent(evidence):
            key = hashed(
                b"held out jointly",
                self._key(texts, targets).encode(),
                packed(asked),
                *_evidence_bytes(told),
            )
            return self._remembered(key, score, len(asked), on_event)

    def joint_logits(
        self, texts: Sequence[str], evidence: LLMEvidence, on_event: OnEvent = ignore_event
    ) -> np.ndarray:
        """(n, k) logits of texts and what the LLM sources say of them.

        They mean something where `evidence.any_present`. Raises ModelError before `fit_joint`.
        """
        import torch

        head = storage.fitted(self.head)
        if head.fitted.any() and not self.fusion:
            raise ModelError("The encoder has not been trained jointly", remedy="Call fit_joint")
        if not len(texts):
            return np.empty((0, len(self.space)))
        vectors = self.embed(texts, on_event)
        z = head.logits(vectors.astype(float), self._task)
        if head.fitted.any():
            read = evidence.of_labels(head.fitted)
            inputs = (vectors, z[:, head.fitted], read.scores, read.present)
            with torch.inference_mode():
                fused = fused_logits(
                    {name: _tensor(values) for name, values in self.fusion.items()},
                    *(_tensor(values) for values in inputs),
                    training=False,
                )
            z[:, head.fitted] = self._task.normalise(fused.numpy().astype(float))
        return z

    def embed(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray:
        # A prediction asks for the text's logits, and for the joint ones once an LLM has answered.
        if self._embedded is None or self._embedded[0] != list(texts):
            self._embedded = (list(texts), super().embed(texts, on_event))
        return self._embedded[1]

    def _stored(self, head: LogisticHead, weights_digest: str) -> storage.Stored:
        stored = super()._stored(head, weights_digest)
        details = {**stored.details, "sources": list(self.sources)}
        return replace(stored, backbone=BACKBONE, details=details, arrays=self.fusion)

    @classmethod
    def restore(
        cls, stored: storage.Stored, space: LabelSpace, folder: Path, cache_dir: Path | None
    ) -> Self:
        encoder = super().restore(stored, space, folder, cache_dir)
        encoder.sources, encoder.fusion = tuple(stored.details["sources"]), dict(stored.arrays)
        return encoder

    @contextmanager
    def _lent(self, evidence: LLMEvidence) -> Iterator[None]:
        """What a training inside reads beside its texts."""
        self._evidence = evidence
        try:
            yield
        finally:
            self._evidence = None

    def _fit(
        self, texts: Sequence[str], targets: np.ndarray, on_event: OnEvent, n_total: int | None
    ) -> None:
        self.fusion, self._embedded = {}, None
        self.sources = self._evidence.sources if self._evidence else ()
        super()._fit(texts, targets, on_event, n_total)

    def _learner(self, probe: LogisticHead, rows: TrainingRows) -> MakeLearner:
        if self._evidence is None:
            return super()._learner(probe, rows)
        head = started_head(probe)
        head |= started(len(probe.weights), len(self.sources), len(head["bias"]), self.seed)
        read = self._evidence.of_labels(probe.fitted)
        settings = {"rows": rows, "config": self.config.training, "evidence": read}
        return partial(JointLearner, head=head, **settings)

    def _take_over(self, probe: LogisticHead, trained: Mapping[str, np.ndarray]) -> None:
        super()._take_over(probe, trained)
        self.fusion = {name: trained[name] for name in trained if name.startswith(PREFIX)}

    def _key(self, texts: Sequence[str], targets: np.ndarray) -> str:
        key = super()._key(texts, targets)
        if self._evidence is None:
            return key
        return hashed(key.encode(), *_evidence_bytes(self._evidence))


class JointLearner(Learner):
    """A backbone, a linear head and a FusionMLP that learn together."""

    def __init__(
        self,
        backbone: Backbone,
        head: Mapping[str, np.ndarray],
        rows: TrainingRows,
        config: TrainingConfig,
        micro: MicroBatch,
        team: Team = ALONE,
        *,
        evidence: LLMEvidence,
    ) -> None:
        super().__init__(backbone, head, rows, config, micro, team)
        self._scores, self._present = (
            _tensor(values).to(backbone.device) for values in (evidence.scores, evidence.present)
        )

    def _losses(self, rows: np.ndarray) -> torch.Tensor:
        import torch

        training = self.backbone.network.training
        vectors, present = self._vectors(rows), self._present[rows]
        text = self._text_logits(vectors)
        scored = present.any(dim=1)
        if training:
            present = present * (torch.rand_like(present) >= LLM_DROPOUT)
        # Detached, so that the text's own head learns what the text says, and not what is left
        # to say beside an LLM.
        joint = fused_logits(
            self.head, vectors, text.detach(), self._scores[rows], present, training=training
        )
        return self._likelihood(text, rows) + self._likelihood(joint, rows) * scored


def cross_fit_jointly(
    make: Callable[[], JointEncoder],
    texts: Sequence[str],
    targets: np.ndarray,
    evidence: LLMEvidence,
    folds: np.ndarray,
    on_event: OnEvent = ignore_event,
    spread: Spread = one_by_one,
) -> tuple[Signal, Signal]:
    """Out-of-fold signals "ml" and "joint" of one cross-fit; see `base.cross_fit`.

    The LLM scores need no folds: an LLM was not trained on the rows. "joint" is present where a row
    was held out and at least one LLM scored it.
    """
    check_folds(texts, targets, folds)
    encoder = make()
    encoder.prepare(texts, on_event)

    def score(rest: np.ndarray, held_out: np.ndarray, told: OnEvent) -> np.ndarray:
        known = (take(texts, rest), targets[rest], evidence.take(rest))
        asked = (take(texts, held_out), evidence.take(held_out))
        return make().score_held_out_jointly(known, asked, told)

    k, present = targets.shape[1], folds != NEVER_HELD_OUT
    scores = scores_by_fold(folds, 2 * k, score, on_event, spread)
    encoder.sources = evidence.sources
    ml = Signal("ml", scores[:, :k], "logits", present, encoder.origin)
    return ml, as_signal(encoder, scores[:, k:], present & evidence.any_present)


def as_signal(encoder: JointEncoder, logits: np.ndarray, present: np.ndarray) -> Signal:
    """(n, k) joint logits as a source, of which only the present rows count."""
    scores = np.where(present[:, None], logits, np.nan)
    return Signal(SOURCE, scores, "logits", present, encoder.joint_origin)


def _tensor(values: np.ndarray) -> torch.Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32)


def _evidence_bytes(evidence: LLMEvidence) -> tuple[bytes, ...]:
    return packed(evidence.sources), evidence.scores.tobytes(), evidence.present.tobytes()
