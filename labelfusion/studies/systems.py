"""Systems fitted on a block's subset and measured on its test rows.

Knows FusionModel and the metrics. Does not know which systems a study compares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from labelfusion.config import FusionConfig
from labelfusion.evaluation.metrics import evaluate, exact_match
from labelfusion.fusion.heads import METHODS
from labelfusion.fusion.model import FusionModel
from labelfusion.studies.material import Block
from labelfusion.types import LabelSpace, Prediction, Signal

FUSION = "auto"  # the method that stands for fusion where a study needs one


def fusion_method(config: FusionConfig) -> str:
    """The configured method, or `auto` where the config asks for a single source."""
    return config.method if config.method in METHODS else FUSION


def changed(config: FusionConfig, **settings: Any) -> FusionConfig:
    """`config` with settings changed and checked. Raises pydantic's ValidationError."""
    return FusionConfig.model_validate(config.model_dump() | settings)


def fit(
    block: Block,
    config: FusionConfig,
    *,
    signals: Mapping[str, Signal] | None = None,
) -> FusionModel:
    """The fusion of a block's training signals (or of `signals` over the same rows)."""
    return FusionModel.fit(
        block.train if signals is None else signals,
        block.train_targets,
        space=block.space,
        config=config,
        seed=block.seed,
    )


def alone(block: Block, source: str, config: FusionConfig) -> Prediction:
    """One source by itself on the test rows: temperature-scaled, its thresholds learned."""
    model = fit(block, changed(config, method="auto"), signals={source: block.train[source]})
    return model.predict_alone(block.test[source])


def fused(block: Block, config: FusionConfig, without: Collection[str] = ()) -> Prediction:
    """The fusion of all sources but `without`, on the test rows."""
    kept = [name for name in block.train if name not in without]
    model = fit(block, config, signals={name: block.train[name] for name in kept})
    return model.predict({name: block.test[name] for name in kept})


def measured(targets: np.ndarray, prediction: Prediction) -> dict[str, Any]:
    """Every metric of a prediction, and which rows are right (see `unpacked`)."""
    found = evaluate(targets, prediction.probabilities, prediction.decisions, prediction.space)
    right = exact_match(targets, prediction.decisions)
    return found | {"test_rows": len(targets), "right": packed(right)}


def packed(right: np.ndarray) -> str:
    """(n,) bool -> hex digits, eight rows a byte."""
    return np.packbits(right).tobytes().hex()


def unpacked(right: str, n: int) -> np.ndarray:
    """Inverse of `packed` for n rows."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(right), np.uint8), count=n).astype(bool)


def primary(space: LabelSpace) -> str:
    """The metric that systems are ranked by."""
    return "macro_f1" if space.multi_label else "accuracy"
