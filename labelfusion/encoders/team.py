"""What one process of a training knows of the others: its share of a batch, and sums over all.

Knows gradients and the collectives of Hugging Face accelerate. Does not know how the processes came
to be (launch.py) or what they train. A team of one asks nobody and needs no accelerate.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labelfusion.config import MLConfig
from labelfusion.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import torch

# Gradients of so many numbers go round at once: few messages, and little memory beside them.
NUMBERS_AT_ONCE = 25_000_000


class PeerLost(RuntimeError):
    """Another process of the team has gone, so that this one waits in vain."""


@dataclass(frozen=True)
class Team:
    """The processes that share a training; their ranks are 0 … size - 1."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that tells and writes."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process' part of (n,) rows: every `size`-th, so that like lengths are spread."""
        return rows[self.rank :: self.size]

    def gathered(self, *values: float) -> np.ndarray:
        """(size, m) what each process says for the m values, in the order of their ranks.

        Raises PeerLost.
        """
        if self.size == 1:
            return np.array([values], dtype=float)
        import torch
        from accelerate import PartialState
        from accelerate.utils import gather

        told = torch.tensor([values], dtype=torch.float64, device=PartialState().device)
        return _together(lambda: gather(told)).cpu().numpy()

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replace each gradient by its sum over the team; one that nobody has stays None.

        An optimizer passes over a parameter without a gradient, and decays one whose gradient is 0.
        Raises PeerLost.
        """
        if self.size == 1:
            return
        import torch

        # Of every process: one whose share of a batch is empty has no gradient at all.
        has = torch.tensor([float(p.grad is not None) for p in parameters])
        used = _summed(has.to(parameters[0].device)).tolist()
        learned = [p for p, count in zip(parameters, used, strict=True) if count]
        for bucket in _buckets(learned):
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            total = _summed(torch.cat([part.flatten() for part in parts]))
            for p, part in zip(bucket, total.split([p.numel() for p in bucket]), strict=True):
                p.grad = part.view_as(p).clone()


ALONE = Team()


def process_count(config: MLConfig) -> int:
    """How many processes fine-tune: `ml.training.processes`, "auto" being one a CUDA device.

    Raises:
        ConfigError: more processes than CUDA devices, or several on a device for which there is no
            way to add gradients up.
        MissingDependencyError: several are wanted and accelerate is not installed.
    """
    asked = config.training.processes
    if asked == 1:
        return 1
    import torch

    from labelfusion.encoders.pretrained import choose_device

    kind = choose_device(config.device).type
    gpus = torch.cuda.device_count() if kind == "cuda" else 0
    count = max(gpus, 1) if asked == "auto" else asked
    if count > 1:
        _check_able(count, kind, gpus)
    return count


def _check_able(count: int, kind: str, gpus: int) -> None:
    if kind not in ("cuda", "cpu") or (kind == "cuda" and count > gpus):
        raise ConfigError(
            "Each process of a fine-tuning needs a CUDA device of its own (or ml.device: cpu)",
            where="ml.training.processes",
            expected=f"at most {max(gpus, 1)} here, on device {kind}",
            found=str(count),
            remedy="Set processes: auto",
        )
    if importlib.util.find_spec("accelerate") is None:
        raise MissingDependencyError(
            "Fine-tuning in several processes needs the package accelerate",
            where="ml.training.processes",
            remedy="pip install 'labelfusion[multi-gpu]', or set processes: 1",
        )


def _buckets(parameters: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Neighbours of at most NUMBERS_AT_ONCE numbers together; a larger one is alone."""
    bucket: list[torch.Tensor] = []
    for parameter in parameters:
        if bucket and sum(p.numel() for p in bucket) + parameter.numel() > NUMBERS_AT_ONCE:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def _summed(tensor: torch.Tensor) -> torch.Tensor:
    from accelerate.utils import reduce

    return _together(lambda: reduce(tensor, reduction="sum"))


def _together(collective: Callable[[], object]) -> torch.Tensor:
    try:
        return collective()  # type: ignore[return-value]
    except RuntimeError as error:
        raise PeerLost("Another process of the training has gone") from error
