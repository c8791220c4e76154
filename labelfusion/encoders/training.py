"""One training from start to best weights: epochs, schedule, early stopping, checkpoints, events.

Knows when things happen. Does not know how a step is computed (optimisation.py) or what an encoder
is. The result depends on the rows, the settings and the seed, not on how often it was interrupted.
In a team of processes all go through the same epochs, and come to the same losses and decisions;
the first one tells and writes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labelfusion.config import TrainingConfig
from labelfusion.encoders.batches import bucketed_batches
from labelfusion.encoders.checkpoint import Checkpoint, Kept, TrainingProgress
from labelfusion.encoders.optimisation import Learner
from labelfusion.encoders.progress import Progress
from labelfusion.errors import ModelError
from labelfusion.types import Event, OnEvent

if TYPE_CHECKING:
    import torch

# From so many steps on, a minute spent on finding out that nothing can be learned is well spent.
LONG_TRAINING_STEPS = 100
CHECK_STEPS = 40
CHECK_ROWS = 16
OVERFITTED, UNMOVED = 0.5, 0.95
# The first steps are slower than the rest: memory is taken and kernels are chosen.
STEPS_UNMEASURED, STEPS_MEASURED = 1, 3


@dataclass(frozen=True)
class Plan:
    """What a training is to do.

    Attributes:
        train, validation: positions of the rows for each; no validation rows, no early stopping.
        batch_size: texts a step.
        seed: of shuffling and dropout.
        passes_of_all: forward and backward passes of all trainings of the run, this one included.
    """

    train: np.ndarray
    validation: np.ndarray
    batch_size: int
    seed: int
    passes_of_all: int
    config: TrainingConfig

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.train) / self.batch_size)

    @property
    def steps(self) -> int:
        """All steps, if nothing stops the training early."""
        steps = self.steps_an_epoch * self.config.epochs
        return min(steps, self.config.max_steps or steps)

    @property
    def epochs(self) -> int:
        return math.ceil(self.steps / self.steps_an_epoch)

    @property
    def passes(self) -> int:
        """Texts that go forward and backward, at most."""
        return min(self.epochs * len(self.train), self.steps * self.batch_size)


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """Factor of the learning rates for `step` (from 0) of `steps`: linear up, then linear down.

    It is above 0 for every step, and 1 for the one at which the warm-up ends.
    """
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (steps - step) / (steps - warmup)


class Training:
    """Runs a plan on a learner. `run` leaves the best weights in it."""

    def __init__(
        self, learner: Learner, plan: Plan, checkpoint: Checkpoint | None, on_event: OnEvent
    ) -> None:
        self.learner, self.plan, self.progress = learner, plan, TrainingProgress()
        self._checkpoint, self._on_event, self._team = checkpoint, on_event, learner.team
        self._told = Progress(on_event, plan.passes)
        self._best: dict[str, torch.Tensor] = {}
        self._stopwatch = _Stopwatch()

    def run(self) -> TrainingProgress:
        """Train, from a checkpoint if there is one.

        Raises:
            ModelError: the training diverged, does not learn, or has too little memory.
        """
        with deterministic(self.learner.backbone.device, self.plan.seed):
            if not self._resume():
                self._begin()
            while not self.progress.finished:
                self._epoch(self.progress.epoch + 1)
                self._keep()
            self.learner.restore(self._best)
        return self.progress

    def _begin(self) -> None:
        if self.plan.steps >= LONG_TRAINING_STEPS:
            overfit_one_batch(self.learner, self.plan, self._on_event)
        self._best = self.learner.state()
        self.progress.best_loss = self._validate()
        if self.progress.best_loss is not None:
            self._record(None, self.progress.best_loss)

    def _epoch(self, epoch: int) -> None:
        import torch

        # Drawn from (seed, epoch) alone, so that a resumed training draws what it would have.
        # Each process draws its own dropout, since each has its own rows.
        drawn = [self.plan.seed, epoch] + ([2, self._team.rank] if self._team.rank else [])
        torch.manual_seed(int(np.random.default_rng(drawn).integers(2**31)))
        rng = np.random.default_rng([self.plan.seed, epoch, 1])
        lengths = np.array([len(self.learner.rows.tokens[i]) for i in self.plan.train])
        batches = bucketed_batches(lengths, self.plan.batch_size, rng)
        self.learner.backbone.network.train()
        loss, seen = 0.0, 0
        for batch in batches[: self.plan.steps - self.progress.step]:
            loss += self._step(self.plan.train[batch]) * len(batch)
            seen += len(batch)
            done = (epoch - 1) * len(self.plan.train) + seen
            self._told.tell(done, f"Fine-tuning, epoch {epoch} of {self.plan.epochs}")
        self.progress.epoch = epoch
        self._judge(loss / seen)

    def _step(self, rows: np.ndarray) -> float:
        plan, step = self.plan, self.progress.step
        loss = self.learner.step(rows, schedule(step, plan.steps, plan.config.warmup_share))
        self.progress.step += 1
        if self._stopwatch.lap(len(rows)):
            self._on_event(_time_note(self._stopwatch.texts_a_second, plan))
        return loss

    def _judge(self, training_loss: float) -> None:
        """Whether the epoch was the best, and whether it was the last."""
        progress, plan = self.progress, self.plan
        last, validation_loss = progress.step >= plan.steps, self._validate()
        best = progress.best_loss
        if last if validation_loss is None or best is None else validation_loss < best:
            progress.best_epoch, progress.best_loss = progress.epoch, validation_loss
            self._best = self.learner.state()
        waited = progress.epoch - progress.best_epoch
        progress.finished = last or (validation_loss is not None and waited >= plan.config.patience)
        self._record(training_loss, validation_loss)

    def _validate(self) -> float | None:
        rows = self.plan.validation
        return self.learner.loss(rows) if len(rows) else None

    def _record(self, training_loss: float | None, validation_loss: float | None) -> None:
        """Add a point to the loss curves, and tell it."""
        progress, plan = self.progress, self.plan
        point = {
            "epoch": progress.epoch,
            "step": progress.step,
            "training_loss": training_loss,
            "validation_loss": validation_loss,
        }
        progress.curve.append(point)
        losses = {"training": training_loss, "validation": validation_loss}
        said = ", ".join(f"{n} loss {v:.3f}" for n, v in losses.items() if v is not None)
        end = progress.finished and progress.epoch < plan.epochs
        stopped = f"; stopped, epoch {progress.best_epoch} was the best" if end else ""
        message = f"Epoch {progress.epoch} of {plan.epochs}: {said}{stopped}"
        done = min(progress.epoch * len(plan.train), plan.passes)
        self._on_event(Event("ml", "note", message, done, plan.passes, "texts", {"curve": point}))

    def _resume(self) -> bool:
        """Take up the checkpoint; False if there is none that every process can read."""
        found = self._read()
        if not self._team.gathered(found is not None).all() or found is None:
            return False
        self.progress, current, self._best = found
        if current:
            self.learner.restore(current)
            self.learner.restore_optimizer(current)
        self.learner.micro.size = self.progress.micro_batch
        self._note(f"Taken up from a checkpoint after epoch {self.progress.epoch}")
        return True

    def _read(self) -> Kept | None:
        if self._checkpoint is None:
            return None
        try:
            return self._checkpoint.read()
        except FileNotFoundError:
            return None
        except ValueError as error:
            if self._team.leads:
                self._checkpoint.remove()
            self._note(f"The checkpoint cannot be read ({error}): training starts afresh")
            return None

    def _keep(self) -> None:
        """Write a checkpoint if it is time; without one, training goes on all the same."""
        if self._checkpoint is None or not self._team.leads or not self._checkpoint.due:
            return
        self.progress.micro_batch = self.learner.micro.size
        current = self.learner.state() | self.learner.optimizer_state()
        try:
            self._checkpoint.write(self.progress, current, self._best)
        except OSError as error:
            self._note(f"The checkpoint cannot be written ({error}); going on without")

    def _note(self, message: str) -> None:
        self._on_event(Event("ml", "note", message, total=self.plan.passes, unit="texts"))


def overfit_one_batch(learner: Learner, plan: Plan, on_event: OnEvent) -> None:
    """See whether one batch can be learned by heart, then put everything back as it was.

    Raises:
        ModelError: the loss does not fall, so that a long training would be in vain.
    """
    rng = np.random.default_rng([plan.seed, 0])
    rows, before = rng.permutation(plan.train)[:CHECK_ROWS], learner.state()
    learner.backbone.network.eval()
    losses = [learner.step(rows, 1.0)]
    while len(losses) <= CHECK_STEPS and losses[-1] > OVERFITTED * losses[0]:
        losses.append(learner.step(rows, 1.0))
    learner.restore(before)
    learner.reset_optimizer()
    fell = f"{losses[0]:.3g} to {losses[-1]:.3g} in {len(losses) - 1} steps"
    if losses[-1] > UNMOVED * losses[0]:
        raise ModelError(
            "The model does not learn: one batch cannot be learned by heart",
            where="ml.training",
            expected=f"the loss of {len(rows)} texts to fall",
            found=f"from {fell}",
            remedy="Check that the same text does not have different labels, that learning_rate "
            f"({plan.config.learning_rate:g}) and head_learning_rate "
            f"({plan.config.head_learning_rate:g}) are not too low or far too high, and that the "
            "model's weights are trained ones",
        )
    message = f"Check before a long training: one batch was overfitted, its loss fell from {fell}"
    on_event(Event("ml", "note", message, data={"losses": losses}))


@contextmanager
def deterministic(device: torch.device, seed: int) -> Iterator[None]:
    """The same numbers from the same seed, where torch can; leaves the caller's state as it was."""
    import torch

    # cuBLAS reads this when it is first used; without it, its sums depend on timing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)


class _Stopwatch:
    """Times a few of the first steps."""

    def __init__(self) -> None:
        self._laps, self._texts, self._started = 0, 0, 0.0
        self.texts_a_second = 0.0

    def lap(self, texts: int) -> bool:
        """Count a step; True once, when enough have been timed."""
        self._laps += 1
        if self._laps <= STEPS_UNMEASURED:
            self._started = time.monotonic()
            return False
        self._texts += texts
        if self._laps != STEPS_UNMEASURED + STEPS_MEASURED:
            return False
        self.texts_a_second = self._texts / max(time.monotonic() - self._started, 1e-9)
        return True


def _time_note(texts_a_second: float, plan: Plan) -> Event:
    this, all_of_them = (n / texts_a_second for n in (plan.passes, plan.passes_of_all))
    message = f"{texts_a_second:.3g} texts a second: at most {_seconds(this)} for this training"
    if plan.passes_of_all > plan.passes:
        message += f", {_seconds(all_of_them)} for all of them"
    data = {"texts_a_second": texts_a_second, "seconds": this, "seconds_of_all": all_of_them}
    return Event("ml", "note", message, 0, plan.passes, "texts", data)


def _seconds(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{math.ceil(seconds)} s"
