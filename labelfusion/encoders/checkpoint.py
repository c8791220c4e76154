"""The state of a training on disk, so that it can be taken up again where it was interrupted.

Knows files: safetensors for tensors, JSON for numbers, no pickle. Does not know what is trained.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FORMAT = 1
PROGRESS_FILE = "progress.json"
# Writing takes about as long as some steps: epochs that are shorter than this are not written
# each, since training them again costs less.
SECONDS_BETWEEN = 30.0
# What is left of trainings that nobody took up again.
DAYS_KEPT = 7

Tensors = Mapping[str, "torch.Tensor"]


@dataclass
class TrainingProgress:
    """Where a training is after an epoch.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        best_epoch: the epoch with the lowest validation loss; 0 is before the first.
        best_loss: that loss, nats a text; None without validation rows.
        micro_batch: texts that went through the network at once.
        finished: whether nothing is left to do but to take the best weights.
        curve: one entry an epoch.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float | None = None
    micro_batch: int = 1
    finished: bool = False
    curve: list[dict[str, Any]] = field(default_factory=list)


# What `Checkpoint.read` returns: progress, current tensors, best tensors.
Kept = tuple[TrainingProgress, "dict[str, torch.Tensor]", "dict[str, torch.Tensor]"]


class Checkpoint:
    """One training's folder. Files carry their epoch; progress.json, written last, names them.

    A process that dies while it writes therefore leaves the state of the epoch before.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether enough work has been done since the last time to be worth writing."""
        return time.monotonic() - self._written >= SECONDS_BETWEEN

    def write(self, progress: TrainingProgress, current: Tensors, best: Tensors) -> None:
        """Write the state after an epoch. Raises OSError, with the state before still there."""
        # Imported here, because files.py loads pandas and encoders load it for nothing else.
        from labelfusion.files import write_json

        named = {self._current(progress): current, self._best(progress): best}
        if progress.finished:
            del named[self._current(progress)]
        for path, tensors in named.items():
            # The best weights of an epoch do not change.
            if path == self._current(progress) or not path.exists():
                _write_tensors(path, tensors)
        write_json(self.folder / PROGRESS_FILE, {"format": FORMAT, **asdict(progress)})
        for path in set(self.folder.glob("*.safetensors")) - set(named):
            path.unlink(missing_ok=True)
        self._written = time.monotonic()

    def read(self) -> Kept:
        """(progress, current tensors, best tensors); current is empty for a finished training.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged or of another format.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        values = json.loads((self.folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        try:
            if values.pop("format") != FORMAT:
                raise ValueError("it is of another format")
            progress = TrainingProgress(**values)
            current = {} if progress.finished else load_file(self._current(progress))
            return progress, current, load_file(self._best(progress))
        except (KeyError, TypeError, OSError, SafetensorError) as error:
            raise ValueError(str(error)) from error

    def remove(self) -> None:
        """Delete the folder, if it is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _current(self, progress: TrainingProgress) -> Path:
        return self.folder / f"current-{progress.epoch}.safetensors"

    def _best(self, progress: TrainingProgress) -> Path:
        return self.folder / f"best-{progress.best_epoch}.safetensors"


def remove_old(folder: Path) -> None:
    """Delete the checkpoints in `folder` that have not been written to for DAYS_KEPT days."""
    before = time.time() - DAYS_KEPT * 24 * 3600
    for path in folder.glob(f"*/{PROGRESS_FILE}"):
        if path.stat().st_mtime < before:
            shutil.rmtree(path.parent, ignore_errors=True)


def _write_tensors(path: Path, tensors: Tensors) -> None:
    from safetensors.torch import save_file

    from labelfusion.files import write_atomically

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary))
