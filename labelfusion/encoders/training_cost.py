"""What fine-tuning will cost, before it begins.

Knows the settings and the number of rows. Knows no weights, and no seconds: those are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from labelfusion.config import MLConfig
from labelfusion.encoders.base import uses_holdout


@dataclass(frozen=True)
class TrainingCost:
    """At most so much: early stopping may save some of it.

    Attributes:
        trainings: those of cross-fitting, and the last one on all rows.
        epochs: of each.
        passes: texts that go forward and backward, in all trainings together.
    """

    trainings: int
    epochs: int
    passes: int

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"Fine-tuning takes {self.trainings} trainings of at most {self.epochs} epochs: "
            f"{self.passes:,} forward and backward passes of a text"
        )


def training_cost(config: MLConfig, n_rows: int) -> TrainingCost:
    """The cost of cross-fitting and the final training on `n_rows` labelled rows."""
    training = config.training
    folds = min(config.folds, n_rows)
    cross_fits = 1 if uses_holdout(config, n_rows) else folds
    sizes = [n_rows - n_rows // folds] * cross_fits + [n_rows]
    kept = 1 - training.validation_share if training.patience else 1.0
    most = training.max_steps or float("inf")
    step = config.batch_size * training.gradient_accumulation
    passes = sum(min(size * kept * training.epochs, most * step) for size in sizes)
    return TrainingCost(len(sizes), training.epochs, round(passes))
