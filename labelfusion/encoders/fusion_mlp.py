"""The FusionMLP of the joint model: what LLMs say of a text, read together with its embedding.

Inputs and sizes are those of the LabelFusion paper (arXiv 2512.10793): the pooled embedding beside
the scores of every LLM, hidden layers of 64 and 32. It is the residual of a log-linear pool (Genest
& Zidek 1986, §3) of the text's own logits and the LLM scores, and its last layer begins at zero: a
training starts as that pool. Knows tensors. Does not know transformers or how they are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from labelfusion.tasks import signal_evidence, task_for
from labelfusion.types import LabelSpace, Signal

if TYPE_CHECKING:
    import torch

HIDDEN = (64, 32)
HIDDEN_DROPOUT = 0.1
# Share of the LLM scores that a training hides: a model that always saw them knows no text without.
LLM_DROPOUT = 0.3
PREFIX = "fusion."


@dataclass(frozen=True)
class LLMEvidence:
    """What S LLM sources say of n texts.

    Attributes:
        sources: their S names.
        scores: (n, S, k) float32, centred clipped log-probabilities (multi-label: log-odds), 0
            where a score is missing.
        present: (n, S) bool, which tells such a 0 from a score of 0.
    """

    sources: tuple[str, ...]
    scores: np.ndarray
    present: np.ndarray

    @classmethod
    def of(
        cls, signals: Mapping[str, Signal], sources: Sequence[str], n: int, space: LabelSpace
    ) -> LLMEvidence:
        """Of n rows; a source that is not in `signals` is missing on each of them."""
        task, shape = task_for(space), (n, len(sources), len(space))
        scores, present = np.zeros(shape, dtype=np.float32), np.zeros(shape[:2], dtype=bool)
        for s, name in enumerate(sources):
            if name in signals:
                rows = present[:, s] = signals[name].present
                scores[rows, s] = task.centre(signal_evidence(task, signals[name])[rows])
        return cls(tuple(sources), scores, present)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def any_present(self) -> np.ndarray:
        """(n,) bool, whether at least one source scored the row."""
        return np.asarray(self.present.any(axis=1))

    def take(self, rows: np.ndarray) -> LLMEvidence:
        """The rows at positions, or where a mask is true."""
        return replace(self, scores=self.scores[rows], present=self.present[rows])

    def of_labels(self, chosen: np.ndarray) -> LLMEvidence:
        """The scores of some labels alone; `chosen` is (k,) bool."""
        return replace(self, scores=self.scores[:, :, chosen])


def started(d: int, n_sources: int, k: int, seed: int) -> dict[str, np.ndarray]:
    """The parameters before training: a pool of all that is known, each with weight 1.

    Layers are drawn as torch draws a linear layer's (uniform within 1/√inputs), the last one is 0.

    Returns:
        "fusion.pool" (1 + S,): weights of the text's own logits and of each source;
        "fusion.weights<i>" and "fusion.bias<i>" of the layers, from 0.
    """
    rng = np.random.default_rng(seed)
    sizes = (d + n_sources * k + n_sources, *HIDDEN, k)
    found = {"pool": np.ones(1 + n_sources)}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        bound = 0.0 if i == len(HIDDEN) else inputs**-0.5
        found[f"weights{i}"] = rng.uniform(-bound, bound, (inputs, outputs))
        found[f"bias{i}"] = rng.uniform(-bound, bound, outputs)
    return {PREFIX + name: values for name, values in found.items()}


def fused_logits(
    parameters: Mapping[str, torch.Tensor],
    vectors: torch.Tensor,
    text_logits: torch.Tensor,
    scores: torch.Tensor,
    present: torch.Tensor,
    *,
    training: bool,
) -> torch.Tensor:
    """(m, k) logits of text and LLM scores together.

    Args:
        parameters: as `started` names them.
        vectors: (m, d) L2-normalised embeddings.
        text_logits: (m, k) of the text alone.
        scores: (m, S, k), see LLMEvidence.
        present: (m, S), 1 or 0.
        training: whether hidden units are dropped.
    """
    import torch
    import torch.nn.functional as F

    told = scores * present.unsqueeze(-1)
    weights = parameters[f"{PREFIX}pool"]
    pool = weights[0] * text_logits + torch.einsum("s,msk->mk", weights[1:], told)
    # Coordinates of a unit vector are tiny beside log-probabilities; so they are of about one size.
    x = torch.cat([vectors * vectors.shape[1] ** 0.5, told.flatten(1), present], dim=1)
    for i in range(len(HIDDEN) + 1):
        if i:
            x = F.dropout(F.relu(x), HIDDEN_DROPOUT, training)
        x = x @ parameters[f"{PREFIX}weights{i}"] + parameters[f"{PREFIX}bias{i}"]
    return pool + x
