"""The ML side: encoders that turn texts into logits, one file per backbone.

    base.py             what an encoder is; cross-fitting
    frozen.py           frozen sentence encoder + logistic head (the default)
    tfidf.py            words and characters + logistic head
    finetuned.py        a transformer trained whole, with its head
    joint.py            the same, trained together with an MLP that reads LLM scores too
    fusion_mlp.py       that MLP
    head.py             the logistic head
    pretrained.py       transformers on disk or hub: found, checked, loaded
    tokens.py           texts -> token ids, each text once
    embeddings.py       texts -> vectors, each text once
    embedding_cache.py  bytes by content hash, on disk or in memory
    backbone.py         a transformer on a device: precision, memory
    batches.py          length-sorted batches, halved when memory is short
    lora.py             adapters in place of training all weights
    optimisation.py     steps: losses, gradients, two learning rates
    training.py         epochs: schedule, early stopping, resume, the check before
    team.py             several processes that train: shares, sums of gradients
    launch.py           these processes, from their start to their end
    training_cost.py    what fine-tuning costs, beforehand
    checkpoint.py       a training's state on disk
    progress.py         events now and then
    storage.py          an encoder's folder

A new backbone is a file with a class like the two above, and a line in `make_encoder` and
`load_encoder`. No torch, transformers or sklearn is imported before an encoder works.
"""

from __future__ import annotations

from pathlib import Path

from labelfusion.config import MLConfig
from labelfusion.encoders import finetuned, joint, storage, tfidf
from labelfusion.encoders.base import (
    NEVER_HELD_OUT,
    Encoder,
    Prepares,
    cross_fit,
    cross_fit_folds,
    uses_holdout,
)
from labelfusion.encoders.finetuned import FineTunedEncoder
from labelfusion.encoders.frozen import FrozenEncoder
from labelfusion.encoders.fusion_mlp import LLMEvidence
from labelfusion.encoders.joint import JointEncoder, cross_fit_jointly
from labelfusion.encoders.tfidf import TfidfEncoder
from labelfusion.encoders.training_cost import TrainingCost, training_cost
from labelfusion.errors import ConfigError
from labelfusion.types import LabelSpace

__all__ = [
    "NEVER_HELD_OUT",
    "Encoder",
    "JointEncoder",
    "LLMEvidence",
    "Prepares",
    "TrainingCost",
    "cross_fit",
    "cross_fit_folds",
    "cross_fit_jointly",
    "load_encoder",
    "make_encoder",
    "training_cost",
    "uses_holdout",
]


def make_encoder(
    config: MLConfig, space: LabelSpace, *, seed: int, cache_dir: Path | None
) -> Encoder:
    """A new encoder: "tfidf", or a transformer ("minilm", a folder, a hub id).

    The transformer is frozen under a trained head, or with `fine_tune` trained whole; with `joint`
    it is a `JointEncoder`, which can be trained on LLM scores too.

    Args:
        config: the `ml` section.
        space: the labels.
        seed: for everything that is drawn.
        cache_dir: where embeddings, and trainings under way, are kept for later; None keeps them
            in this process.

    Raises:
        ConfigError: `encoder: none`, which has no encoder to make.
        MissingDependencyError: `lora` is set and peft is not installed, or several processes are to
            train and accelerate is not.
        ModelError: the model cannot be found, fetched or trusted.
    """
    if config.encoder == "none":
        raise ConfigError("There is no encoder to train", where="ml.encoder", found="none")
    if config.encoder == "tfidf":
        return TfidfEncoder(config, space, seed=seed)
    if config.joint:
        return JointEncoder(config, space, seed=seed, cache_dir=cache_dir)
    if config.fine_tune:
        return FineTunedEncoder(config, space, seed=seed, cache_dir=cache_dir)
    return FrozenEncoder(config, space, seed=seed, cache_dir=cache_dir)


def load_encoder(folder: Path, space: LabelSpace, *, cache_dir: Path | None) -> Encoder:
    """The encoder that `save` wrote into `folder`.

    Raises:
        ModelError: damaged, of a newer format, of other labels, or its model is absent or changed.
    """
    stored = storage.read(Path(folder), space)
    if stored.backbone == tfidf.BACKBONE:
        return TfidfEncoder.restore(stored, space)
    if stored.backbone == joint.BACKBONE:
        return JointEncoder.restore(stored, space, Path(folder), cache_dir)
    if stored.backbone == finetuned.BACKBONE:
        return FineTunedEncoder.restore(stored, space, Path(folder), cache_dir)
    return FrozenEncoder.restore(stored, space, cache_dir)
