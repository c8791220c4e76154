"""The encoder's frozen embedding under an MLP: the alternative to the encoder's logits.

Knows encoders and scikit-learn's MLP. Does not know what it is compared with.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from labelfusion.data import make_folds
from labelfusion.encoders import make_encoder
from labelfusion.pipeline import rows_at
from labelfusion.studies.material import Block, Material
from labelfusion.tasks import task_for
from labelfusion.types import LabelSpace, Signal

EMBEDDING = "embedding"
HIDDEN = (64, 32)
MAX_ITERATIONS = 300


def has_embedding(material: Material) -> bool:
    """Whether the configured encoder has one: tfidf has not, and `none` is no encoder."""
    return material.config.ml.encoder not in ("none", "tfidf")


def embedding_signal(material: Material, block: Block, hidden: Sequence[int] = HIDDEN) -> Signal:
    """Log-probabilities by an MLP over the embedding, over all rows of the dataset.

    Out of fold on the block's training rows; on its test rows by an MLP fitted on all of them.
    """
    return material.made(EMBEDDING, block, lambda: _signal(material, block, hidden))


def _signal(material: Material, block: Block, hidden: Sequence[int]) -> Signal:
    train, test = block.split.train, block.split.test
    frozen = material.config.ml.model_copy(update={"fine_tune": False})
    cache = material.place.workspace.cache
    encoder = make_encoder(frozen, block.space, seed=block.seed, cache_dir=cache)
    rows = rows_at(material.dataset, np.concatenate([train, test]))
    features = encoder.embed(rows.texts, material.quietly)
    assert features is not None
    known, unknown, targets = features[: len(train)], features[len(train) :], block.train_targets
    folds = make_folds(targets, block.space, material.config.ml.folds, block.seed)
    scores = np.full((len(material.dataset), len(block.space)), np.nan)
    for fold in np.unique(folds):
        inside, outside = folds != fold, folds == fold
        scores[train[outside]] = _scored(
            known[inside], targets[inside], known[outside], block, hidden
        )
    scores[test] = _scored(known, targets, unknown, block, hidden)
    origin = f"{encoder.origin.split(' + ')[0]} + MLP {tuple(hidden)}"
    return Signal(EMBEDDING, scores, "logits", np.asarray(np.isfinite(scores).all(axis=1)), origin)


def _scored(
    known: np.ndarray,
    targets: np.ndarray,
    unknown: np.ndarray,
    block: Block,
    hidden: Sequence[int],
) -> np.ndarray:
    """(m, d) features scored by an MLP fitted on (n, d) features and (n, k) targets: (m, k)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    answers = targets if block.space.multi_label else targets.argmax(axis=1)
    mlp = MLPClassifier(tuple(hidden), max_iter=MAX_ITERATIONS, random_state=block.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp.fit(known, answers)
    p = np.asarray(mlp.predict_proba(unknown))
    return _evidence(p, np.asarray(mlp.classes_), block.space)


def _evidence(p: np.ndarray, classes: np.ndarray, space: LabelSpace) -> np.ndarray:
    if not space.multi_label:
        # The MLP knows the labels of its rows only; the others are improbable, not impossible.
        every = np.zeros((len(p), len(space)))
        every[:, classes] = p
        p = every
    return task_for(space).evidence(p, "probabilities")
