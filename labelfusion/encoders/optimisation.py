"""Steps of AdamW on a transformer and its head together, each with its own learning rate.

Knows losses, gradients and memory. Does not know epochs, when to stop or what is kept. There is no
nn.Module of our own: a head is some named tensors, so that importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labelfusion.config import TrainingConfig
from labelfusion.encoders.backbone import Backbone, Tokens
from labelfusion.encoders.batches import MicroBatch, chunks
from labelfusion.encoders.team import ALONE, Team
from labelfusion.errors import ModelError

if TYPE_CHECKING:
    import torch

# Takes `backbone`, `micro` and, among several processes, `team`.
MakeLearner = Callable[..., "Learner"]
MAX_GRADIENT_NORM = 1.0
# No row of a rare label may outweigh more than so many others.
MAX_CLASS_WEIGHT = 50.0


@dataclass(frozen=True)
class TrainingRows:
    """What the loss is computed from: n rows, k labels that the head is fitted for.

    Attributes:
        tokens: n token id lists.
        targets: (n, k) indicators.
        row_weights: (n,) weight of a row's loss (multi-class).
        positive_weights: (k,) weight of a label's positive rows against its negative ones
            (multi-label).
    """

    tokens: Tokens
    targets: np.ndarray
    row_weights: np.ndarray
    positive_weights: np.ndarray
    multi_label: bool

    @classmethod
    def weighted(
        cls, tokens: Tokens, targets: np.ndarray, *, multi_label: bool, balanced: bool
    ) -> TrainingRows:
        """`balanced`: every label counts alike, n / (k n_j), as in scikit-learn; for multi-label,
        its positive rows together as much as its negative ones. Else every row counts alike.
        """
        n, k = targets.shape
        rows, labels = np.ones(n), np.ones(k)
        positives = np.maximum(targets.sum(axis=0), 1)
        if balanced and multi_label:
            labels = np.clip((n - positives) / positives, 1 / MAX_CLASS_WEIGHT, MAX_CLASS_WEIGHT)
        elif balanced:
            rows = targets @ np.minimum(n / (k * positives), MAX_CLASS_WEIGHT)
        return cls(tokens, targets, rows, labels, multi_label)


class Learner:
    """A backbone and a head that learn.

    Attributes:
        head: the head's tensors by name, "weights" (d, k) and "bias" (k,) among them.
        micro: texts that go through the network at once.
        team: the processes that learn together. Each holds the same weights and takes the same
            steps: a batch is divided among them, and losses and gradients are added up.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Mapping[str, np.ndarray],
        rows: TrainingRows,
        config: TrainingConfig,
        micro: MicroBatch,
        team: Team = ALONE,
    ) -> None:
        import torch

        self.backbone, self.rows, self.micro, self.team = backbone, rows, micro, team
        device = backbone.device
        self.head = {
            name: torch.tensor(array, dtype=torch.float32, device=device).requires_grad_()
            for name, array in head.items()
        }
        self._targets = torch.tensor(rows.targets, dtype=torch.float32, device=device)
        self._row_weights = torch.tensor(rows.row_weights, dtype=torch.float32, device=device)
        self._positive = torch.tensor(rows.positive_weights, dtype=torch.float32, device=device)
        self._config = config
        self.reset_optimizer()

    def reset_optimizer(self) -> None:
        """An optimizer that has seen nothing.

        Weight decay is for the encoder's matrices: biases and norms have no reason to shrink.
        """
        import torch

        config = self._config
        encoder = [parameter for _, parameter in self.backbone.parameters()]
        matrices = [p for p in encoder if p.ndim > 1]
        vectors = [p for p in encoder if p.ndim <= 1]
        groups = [
            (matrices, config.learning_rate, config.weight_decay),
            (vectors, config.learning_rate, 0.0),
            (list(self.head.values()), config.head_learning_rate, 0.0),
        ]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": parameters, "lr": rate, "full_rate": rate, "weight_decay": decay}
                for parameters, rate, decay in groups
            ]
        )

    def step(self, rows: np.ndarray, scale: float) -> float:
        """One step on `rows`, every learning rate times `scale`. Returns the mean loss before it.

        Raises:
            ModelError: the loss is not a number any more.
        """
        import torch

        share = self.team.share(rows)
        loss = self._of_all(self.micro.run(lambda size: self._accumulate(share, len(rows), size)))
        if not np.isfinite(loss):
            raise ModelError(
                "The training has diverged: the loss is not a number",
                where="ml.training",
                found=f"loss {loss}",
                remedy="Lower learning_rate and head_learning_rate, or set precision: fp32",
            )
        everything = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.team.sum_gradients(everything)
        torch.nn.utils.clip_grad_norm_(everything, MAX_GRADIENT_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_rate"] * scale
        self.optimizer.step()
        return loss

    def _accumulate(self, rows: np.ndarray, n: int, size: int) -> float:
        """Gradients of the rows' part of the mean loss of n rows, `size` rows a pass."""
        self.optimizer.zero_grad(set_to_none=True)
        return self._part_of_mean(rows, n, size, lambda loss: loss.backward())

    def loss(self, rows: np.ndarray) -> float:
        """The rows' weighted mean loss, nats a text, without dropout and gradients."""
        import torch

        self.backbone.network.eval()
        ordered = rows[np.argsort([-len(self.rows.tokens[i]) for i in rows], kind="stable")]
        share, n = self.team.share(ordered), len(rows)
        with torch.inference_mode():
            part = self.micro.run(lambda size: self._part_of_mean(share, n, size, lambda _: None))
        return self._of_all(part)

    def _of_all(self, part: float) -> float:
        """The sum of all processes' parts of a loss; they go on with the least of their sizes."""
        told = self.team.gathered(part, self.micro.size)
        self.micro.lower(int(told[:, 1].min()))
        return float(told[:, 0].sum())

    def _part_of_mean(
        self, rows: np.ndarray, n: int, size: int, then: Callable[[torch.Tensor], object]
    ) -> float:
        # By the rows and not by their weights, which would cancel where a batch has one label.
        total = 0.0
        for part in chunks(rows, size):
            loss = (self._losses(part) * self._row_weights[part]).sum() / n
            then(loss)
            total += loss.item()
        return total

    def _losses(self, rows: np.ndarray) -> torch.Tensor:
        """(m,) losses in nats."""
        return self._likelihood(self._text_logits(self._vectors(rows)), rows)

    def _vectors(self, rows: np.ndarray) -> torch.Tensor:
        """(m, d) pooled vectors."""
        return self.backbone.pooled([self.rows.tokens[i] for i in rows])

    def _text_logits(self, vectors: torch.Tensor) -> torch.Tensor:
        """(m, d) -> (m, k), of the linear head."""
        return vectors @ self.head["weights"] + self.head["bias"]

    def _likelihood(self, z: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """(m, k) logits -> (m,) negative log-likelihoods in nats: cross-entropy, or binary."""
        import torch.nn.functional as F

        y = self._targets[rows]
        if not self.rows.multi_label:
            return -(F.log_softmax(z, dim=1) * y).sum(dim=1)
        losses = F.binary_cross_entropy_with_logits(
            z, y, reduction="none", pos_weight=self._positive
        )
        return losses.sum(dim=1)

    def head_arrays(self) -> dict[str, np.ndarray]:
        """The head's tensors, float64."""
        return {name: t.detach().cpu().numpy().astype(float) for name, t in self.head.items()}

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of all that training changes in the model, on the CPU."""
        return {name: t.detach().cpu().clone() for name, t in self._named().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Inverse of `state`."""
        import torch

        with torch.no_grad():
            for name, tensor in self._named().items():
                tensor.copy_(state[name])

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """The optimizer's moments, as tensors named `optimizer.<parameter>.<moment>`."""
        return {
            f"optimizer.{number}.{name}": value
            for number, moments in self.optimizer.state_dict()["state"].items()
            for name, value in moments.items()
        }

    def restore_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `optimizer_state`; other tensors are passed over."""
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            kind, *parts = name.split(".")
            if kind == "optimizer":
                moments.setdefault(int(parts[0]), {})[parts[1]] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _named(self) -> dict[str, torch.Tensor]:
        network = {f"network.{name}": p for name, p in self.backbone.parameters()}
        return network | {f"head.{name}": tensor for name, tensor in self.head.items()}
