"""FusionMLP: a small network over the sources' evidence, alone or as a residual on the log pool.

`residual` starts as the pool (its last layer is zero) and learns only what the pool cannot say;
`mlp` is the form of the LabelFusion paper (arXiv 2512.10793): log-odds or logits of the encoder and
scores of the LLM, concatenated. Several networks are trained side by side, each stopped early on a
fold of its own, and their evidence is averaged. Trains with PyTorch, predicts with NumPy. Does not
know whether it is worth having: `labelfusion.fusion.choice` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from labelfusion.data import make_folds
from labelfusion.pooling import Pool, PoolForm, fit_pool
from labelfusion.tasks import Task
from labelfusion.types import LabelSpace

if TYPE_CHECKING:
    from torch import Tensor

LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-2
MAX_STEPS = 400
BATCH_ROWS = 256
# Losses on the held-out folds are looked at every so many steps; this many looks without a gain
# end the training.
STEPS_A_LOOK = 10
PATIENCE = 6


@dataclass(frozen=True)
class MlpForm:
    """Shape and training of a FusionMLP.

    Attributes:
        residual: on top of the log pool, which it starts as.
        hidden: sizes of the hidden layers.
        dropout: share of hidden units left out in training.
        source_dropout: chance that a source's inputs are left out for a row in training.
        networks: how many are averaged.
    """

    residual: bool
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.1
    source_dropout: float = 0.3
    networks: int = 5


@dataclass(frozen=True)
class FusionMLP:
    """Fitted networks.

    Attributes:
        weights: one (E, in, out) array a layer, for E networks.
        biases: one (E, 1, out) array a layer.
        mean, scale: (d,) of the inputs.
        pool: what the networks' output is added to; None for `mlp`.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    mean: np.ndarray
    scale: np.ndarray
    pool: Pool | None

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence -> (n, k) evidence. Rows without a source are NaN."""
        base = None if self.pool is None else self.pool.apply(evidence, task)
        hidden = (features(evidence, base, task) - self.mean) / self.scale
        hidden = np.broadcast_to(hidden, (len(self.weights[0]), *hidden.shape))
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight + bias
            if layer < len(self.weights) - 1:
                hidden = np.maximum(hidden, 0)
        z = hidden.mean(axis=0)
        return task.normalise(z if base is None else base + z)

    def arrays(self) -> dict[str, np.ndarray]:
        """Named arrays that `from_arrays` rebuilds it from."""
        found = {"mean": self.mean, "scale": self.scale}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found |= {f"weight{layer}": weight, f"bias{layer}": bias}
        if self.pool is not None:
            found |= {f"pool.{key}": value for key, value in vars(self.pool).items()}
        return found

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> FusionMLP:
        """Inverse of `arrays`."""
        layers = range(sum(key.startswith("weight") for key in arrays))
        pool = {k.removeprefix("pool."): a for k, a in arrays.items() if k.startswith("pool.")}
        return cls(
            tuple(arrays[f"weight{layer}"] for layer in layers),
            tuple(arrays[f"bias{layer}"] for layer in layers),
            arrays["mean"],
            arrays["scale"],
            Pool(**pool) if pool else None,
        )


def features(evidence: np.ndarray, base: np.ndarray | None, task: Task) -> np.ndarray:
    """(S, n, k) evidence -> (n, d) inputs, the S·k of the sources first.

    For `mlp` these are the sources' evidence alone; for `residual` the pool's evidence, each
    source's margin (distance of its two best labels; multi-label: of its least sure one from
    one half) and how far the sources agree are added.
    """
    centred = task.centre(evidence)
    flat = centred.transpose(1, 0, 2).reshape(centred.shape[1], -1)
    if base is None:
        return flat
    p = task.probabilities(evidence)
    distance = np.abs(p[:, None] - p[None]).sum(axis=-1)
    pairs = np.triu_indices(len(p), k=1)
    return np.hstack([flat, task.centre(base), _margins(p, task).T, distance[pairs].T])


def _margins(p: np.ndarray, task: Task) -> np.ndarray:
    """(S, n) how sure each source is."""
    if task.multi_label:
        return np.abs(p - 0.5).min(axis=-1)
    if p.shape[-1] < 2:
        return np.ones(p.shape[:-1])
    best = np.sort(p, axis=-1)
    return best[..., -1] - best[..., -2]


def fit_mlp(
    evidence: np.ndarray, targets: np.ndarray, task: Task, form: MlpForm, seed: int
) -> FusionMLP:
    """Train the networks; the same seed gives the same networks.

    Args:
        evidence: (S, n, k) calibrated evidence, no row missing, n ≥ 10.
        targets: (n, k) indicators.
    """
    pool = fit_pool(evidence, targets, task, PoolForm(bias=True)) if form.residual else None
    base = np.zeros(targets.shape) if pool is None else pool.apply(evidence, task)
    inputs = features(evidence, None if pool is None else base, task)
    mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-3)
    folds = make_folds(targets, _space(targets, task), max(form.networks, 2), seed)
    held_out = np.stack([folds == network for network in range(form.networks)])
    training = _Training((inputs - mean) / scale, base, targets, held_out, task, form, seed)
    weights, biases = training.run(evidence.shape[0] * evidence.shape[2])
    return FusionMLP(weights, biases, mean, scale, pool)


def _space(targets: np.ndarray, task: Task) -> LabelSpace:
    return LabelSpace(tuple(map(str, range(targets.shape[1]))), task.multi_label)


class _Training:
    """Trains E networks at once: every layer is a batched matrix product over the networks."""

    def __init__(
        self,
        inputs: np.ndarray,
        base: np.ndarray,
        targets: np.ndarray,
        held_out: np.ndarray,
        task: Task,
        form: MlpForm,
        seed: int,
    ) -> None:
        import torch

        self.torch, self.task, self.form = torch, task, form
        self.generator = torch.Generator().manual_seed(seed)
        self.inputs, self.base, self.targets = (
            torch.tensor(a, dtype=torch.float32) for a in (inputs, base, targets)
        )
        self.held_out = torch.tensor(held_out)
        self.weights, self.biases = self._layers(inputs.shape[1], targets.shape[1])

    def _layers(self, inputs: int, outputs: int) -> tuple[list[Tensor], list[Tensor]]:
        """He-initialised layers; the last one of a residual is zero."""
        sizes = (inputs, *self.form.hidden, outputs)
        weights, biases = [], []
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            shape = (self.form.networks, fan_in, fan_out)
            weight = self.torch.randn(shape, generator=self.generator) * (2 / fan_in) ** 0.5
            if self.form.residual and layer == len(sizes) - 2:
                weight.zero_()
            weights.append(weight.requires_grad_())
            bias = self.torch.zeros(self.form.networks, 1, fan_out)
            biases.append(bias.requires_grad_())
        return weights, biases

    def run(self, source_inputs: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Train; weights and biases of each network's best look at its fold."""
        threads = self.torch.get_num_threads()
        # One thread: the matrices are small, and sums in one order make runs repeat.
        self.torch.set_num_threads(1)
        try:
            best = self._descend(source_inputs)
        finally:
            self.torch.set_num_threads(threads)
        arrays = [parameter.numpy().astype(float) for parameter in best]
        return tuple(arrays[: len(self.weights)]), tuple(arrays[len(self.weights) :])

    def _descend(self, source_inputs: int) -> list[Tensor]:
        parameters = [*self.weights, *self.biases]
        optimiser = self.torch.optim.AdamW(
            parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        best = [p.detach().clone() for p in parameters]
        lowest, since = self._held_out_losses(), 0
        for step in range(1, MAX_STEPS + 1):
            optimiser.zero_grad()
            self._batch_loss(source_inputs).backward()
            optimiser.step()
            if step % STEPS_A_LOOK:
                continue
            losses = self._held_out_losses()
            better = losses < lowest
            since = 0 if bool(better.any()) else since + 1
            lowest = self.torch.where(better, losses, lowest)
            for kept, parameter in zip(best, parameters, strict=True):
                kept[better] = parameter.detach()[better]
            if since >= PATIENCE:
                break
        return best

    def _batch_loss(self, source_inputs: int) -> Tensor:
        n = len(self.inputs)
        rows = self.torch.randperm(n, generator=self.generator)[:BATCH_ROWS]
        z = self._forward(self._with_sources_left_out(self.inputs[rows], source_inputs), rows, True)
        weight = (~self.held_out[:, rows]).float()
        losses = self._row_losses(z, self.targets[rows])
        return ((losses * weight).sum(1) / weight.sum(1).clamp(min=1)).sum()

    def _with_sources_left_out(self, inputs: Tensor, source_inputs: int) -> Tensor:
        """(E, b, d), a source's inputs at their mean (0) for some rows."""
        k = self.targets.shape[1]
        shape = (self.form.networks, len(inputs), source_inputs // k)
        kept = self.torch.rand(shape, generator=self.generator) >= self.form.source_dropout
        mask = self.torch.ones(self.form.networks, *inputs.shape)
        mask[:, :, :source_inputs] = kept.repeat_interleave(k, dim=2).float()
        return inputs * mask

    def _forward(self, inputs: Tensor, rows: Any, training: bool) -> Tensor:
        hidden = inputs
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight + bias
            if layer < len(self.weights) - 1:
                hidden = self._dropped(hidden.relu()) if training else hidden.relu()
        return hidden + self.base[rows]

    def _dropped(self, hidden: Tensor) -> Tensor:
        if not self.form.dropout:
            return hidden
        kept = self.torch.rand(hidden.shape, generator=self.generator) >= self.form.dropout
        return hidden * kept / (1 - self.form.dropout)

    def _row_losses(self, z: Tensor, targets: Tensor) -> Tensor:
        """(E, b) negative log-likelihoods in nats."""
        if self.task.multi_label:
            wanted = targets.expand_as(z)
            loss = self.torch.nn.functional.binary_cross_entropy_with_logits
            return loss(z, wanted, reduction="none").sum(-1)
        return -(z.log_softmax(-1) * targets).sum(-1)

    def _held_out_losses(self) -> Tensor:
        """(E,) mean loss of each network on its own fold."""
        with self.torch.no_grad():
            inputs = self.inputs.expand(self.form.networks, -1, -1)
            z = self._forward(inputs, slice(None), False)
            losses = self._row_losses(z, self.targets) * self.held_out
            return losses.sum(1) / self.held_out.sum(1).clamp(min=1)
