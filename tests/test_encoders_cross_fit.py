"""Cross-fitting: no row is scored by an encoder that saw it, and shared work is done once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labelfusion.config import MLConfig
from labelfusion.encoders import cross_fit, make_encoder
from labelfusion.errors import InputError
from labelfusion.types import Event, LabelSpace
from tests.tiny_transformer import write_tiny_transformer

SPACE = LabelSpace(("a", "b"), multi_label=False)
TEXTS = [
    f"my bike {word}" for word in ["one", "two", "three", "four", "five", "six", "seven", "eight"]
]
TARGETS = np.eye(2, dtype=np.int8)[[0, 1, 0, 1, 0, 1, 0, 1]]
FOLDS = np.array([0, 0, 1, 1, 2, 2, 2, 0])


class Memoriser:
    """Knows the label of every text it was trained on, and nothing else."""

    origin = "memory"

    def __init__(self) -> None:
        self.known: dict[str, np.ndarray] = {}

    def fit(self, texts, targets, on_event=None) -> None:
        self.known |= dict(zip(texts, targets, strict=True))

    def logits(self, texts, on_event=None) -> np.ndarray:
        return np.array([10.0 * self.known.get(text, np.zeros(2)) for text in texts])

    def embed(self, texts, on_event=None) -> None:
        return None

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_no_row_is_scored_by_an_encoder_that_saw_it():
    signal = cross_fit(Memoriser, TEXTS, TARGETS, FOLDS)
    np.testing.assert_array_equal(signal.scores, np.zeros((8, 2)))
    assert (signal.source, signal.kind, signal.origin) == ("ml", "logits", "memory")
    assert signal.present.all()


def test_rows_of_the_other_folds_are_all_trained_on():
    trained: list[list[str]] = []

    class Watched(Memoriser):
        def fit(self, texts, targets, on_event=None) -> None:
            trained.append(list(texts))

    cross_fit(Watched, TEXTS, TARGETS, FOLDS)
    expected = [[t for t, f in zip(TEXTS, FOLDS, strict=True) if f != fold] for fold in range(3)]
    assert trained == expected


def test_rows_keep_their_order():
    config = MLConfig(encoder="tfidf", c=1.0)
    texts = ["red red", "blue blue", "red car", "blue car", "a red one", "a blue one"] * 2
    targets = np.eye(2, dtype=np.int8)[[0, 1] * 6]
    folds = np.arange(12) // 2 % 3
    signal = cross_fit(
        lambda: make_encoder(config, SPACE, seed=0, cache_dir=None), texts, targets, folds
    )
    np.testing.assert_array_equal(signal.scores.argmax(axis=1), targets.argmax(axis=1))


@pytest.mark.parametrize("on_disk", [True, False])
def test_each_text_is_embedded_once_for_all_folds(tmp_path, on_disk):
    folder = write_tiny_transformer(tmp_path / "model", seed=3 + on_disk)
    made = []

    def make():
        cache_dir = tmp_path / "cache" if on_disk else None
        config = MLConfig(encoder=str(folder))
        made.append(make_encoder(config, SPACE, seed=0, cache_dir=cache_dir))
        return made[-1]

    cross_fit(make, TEXTS, TARGETS, FOLDS)
    make().fit(TEXTS, TARGETS)
    embedders = {id(encoder.embedder): encoder.embedder for encoder in made}
    assert sum(embedder.forwarded for embedder in embedders.values()) == len(TEXTS)


def test_progress_ends_with_every_text():
    events: list[Event] = []
    cross_fit(Memoriser, TEXTS, TARGETS, FOLDS, events.append)
    assert [(e.stage, e.unit, e.done, e.total) for e in events] == [
        ("ml", "texts", done, 8) for done in (3, 5, 8)
    ]


def test_one_fold_is_refused():
    with pytest.raises(InputError, match="at least two folds"):
        cross_fit(Memoriser, TEXTS, TARGETS, np.zeros(8, dtype=int))


def test_lengths_must_agree():
    with pytest.raises(InputError, match="differ in length"):
        cross_fit(Memoriser, TEXTS, TARGETS[:5], FOLDS)


def test_import_is_light():
    code = (
        "import sys, labelfusion.encoders\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'huggingface_hub', 'pandas', 'streamlit'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
