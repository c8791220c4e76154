"""What fine-tuning will cost, before it begins.

Knows the settings and the number of rows. Knows no weights, and no seconds: those are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from labelfusion.config import MLConfig, TrainingConfig
from labelfusion.encoders.base import uses_holdout

# Fewer rows of validation than this tell epochs apart by chance, and are better trained on.
MIN_VALIDATION_ROWS = 20


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


def stops_early(training: TrainingConfig, n_rows: int) -> bool:
    """Whether a training on `n_rows` keeps some of them for early stopping."""
    return training.patience > 0 and n_rows * training.validation_share >= MIN_VALIDATION_ROWS


def training_cost(config: MLConfig, n_rows: int) -> TrainingCost:
    """The cost of cross-fitting and the final training on `n_rows` labelled rows."""
    training = config.training
    folds = min(config.folds, n_rows)
    cross_fits = 1 if uses_holdout(config, n_rows) else folds
    sizes = [n_rows - n_rows // folds] * cross_fits + [n_rows]
    most = training.max_steps or float("inf")
    step = config.batch_size * training.gradient_accumulation
    share = 1 - training.validation_share
    trained = [size * share if stops_early(training, size) else size for size in sizes]
    passes = sum(min(size * training.epochs, most * step) for size in trained)
    return TrainingCost(len(sizes), training.epochs, round(passes))
