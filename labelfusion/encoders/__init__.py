"""The ML side: encoders that turn texts into logits, one file per backbone.

    base.py             what an encoder is; cross-fitting
    frozen.py           frozen sentence encoder + logistic head (the default)
    tfidf.py            words and characters + logistic head
    head.py             the logistic head
    pretrained.py       transformers on disk or hub: found, checked, loaded
    embeddings.py       texts -> vectors, each text once
    embedding_cache.py  bytes by content hash, on disk or in memory
    storage.py          an encoder's folder

A new backbone is a file with a class like the two above, and a line in `make_encoder` and
`load_encoder`. No torch, transformers or sklearn is imported before an encoder works.
"""

from __future__ import annotations

from pathlib import Path

from labelfusion.config import MLConfig
from labelfusion.encoders import storage
from labelfusion.encoders.base import Encoder, Prepares, cross_fit
from labelfusion.encoders.frozen import FrozenEncoder
from labelfusion.encoders.tfidf import TfidfEncoder
from labelfusion.errors import ConfigError
from labelfusion.types import LabelSpace

__all__ = ["Encoder", "Prepares", "cross_fit", "load_encoder", "make_encoder"]


def make_encoder(
    config: MLConfig, space: LabelSpace, *, seed: int, cache_dir: Path | None
) -> Encoder:
    """A new encoder: "tfidf", or a frozen transformer ("minilm", a folder, a hub id).

    Args:
        config: the `ml` section.
        space: the labels.
        seed: for everything that is drawn.
        cache_dir: where embeddings are kept for later; None keeps them in this process.

    Raises:
        ConfigError: `encoder: none`, which has no encoder to make.
        ModelError: the model cannot be found, fetched or trusted.
    """
    if config.encoder == "none":
        raise ConfigError("There is no encoder to train", where="ml.encoder", found="none")
    if config.encoder == "tfidf":
        return TfidfEncoder(config, space, seed=seed)
    return FrozenEncoder(config, space, seed=seed, cache_dir=cache_dir)


def load_encoder(folder: Path, space: LabelSpace, *, cache_dir: Path | None) -> Encoder:
    """The encoder that `save` wrote into `folder`.

    Raises:
        ModelError: damaged, of a newer format, of other labels, or its model is absent or changed.
    """
    stored = storage.read(Path(folder), space)
    if stored.backbone == "tfidf":
        return TfidfEncoder.restore(stored, space)
    return FrozenEncoder.restore(stored, space, cache_dir)
