"""What can be known to go wrong is said here, before anything is trained or paid.

Reads data, recorded scores, keys and weights. Sends nothing.
"""

from __future__ import annotations

from labelfusion.classifier import score_llm
from labelfusion.config import RunConfig
from labelfusion.data import load_dataset, make_split
from labelfusion.encoders import make_encoder
from labelfusion.errors import InputError
from labelfusion.llm import asks, check_entry
from labelfusion.pipeline.rows import rows_at, scored_rows, training_texts
from labelfusion.types import Dataset, Split


def check(config: RunConfig) -> Dataset:
    """Read and check all of the input before anything is trained or paid.

    The data and its split, recorded scores, keys and the encoder's weights.
    Raises LabelFusionError.
    """
    dataset = load_dataset(config.data)
    split = make_split(dataset, config.data, config.seed)
    check_sources(dataset, split, config)
    return dataset


def check_sources(dataset: Dataset, split: Split, config: RunConfig) -> None:
    """Raises LabelFusionError unless every source can be had for the rows of the split."""
    if config.ml.encoder != "none":
        _check_trainable(dataset, split)
    training = training_texts(dataset, split)
    for entry in config.llm:
        check_entry(entry, dataset.space, config.costs, training)
        if not asks(entry):
            score_llm(entry, rows_at(dataset, scored_rows(split)), dataset.space, config)
    if config.ml.encoder != "none":
        make_encoder(config.ml, dataset.space, seed=config.seed, cache_dir=None)


def _check_trainable(dataset: Dataset, split: Split) -> None:
    """An encoder learns from rows of at least two labels; an LLM needs none."""
    labels = int(dataset.targets[split.train].any(axis=0).sum())
    if len(split.train) >= 2 and (labels >= 2 or dataset.space.multi_label):
        return
    raise InputError(
        "There are too few labelled rows to train an encoder",
        where=dataset.name,
        expected="at least 2 labelled training rows, of 2 labels",
        found=f"{len(split.train)} training rows, of {labels} labels",
        remedy="Label some rows, or set ml.encoder: none and let an LLM label without any",
    )
