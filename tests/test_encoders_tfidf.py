"""TF-IDF: learns, survives odd texts, and is the same after save and load."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelfusion.config import MLConfig
from labelfusion.encoders import load_encoder, make_encoder
from labelfusion.errors import ConfigError, InputError, ModelError
from labelfusion.types import LabelSpace

SPACE = LabelSpace(("bike", "money"), multi_label=False)
TEXTS = ["my bike broke", "the bike squeaks", "refund my money", "money back", "bike wheel", "pay"]
TARGETS = np.eye(2, dtype=np.int8)[[0, 0, 1, 1, 0, 1]]


@pytest.fixture
def encoder():
    made = make_encoder(MLConfig(encoder="tfidf"), SPACE, seed=0, cache_dir=None)
    made.fit(TEXTS, TARGETS)
    return made


def test_learns_and_scores_unknown_words(encoder):
    z = encoder.logits(["bikes", "moneybag", "", "öäü"])
    assert np.isfinite(z).all()
    assert z[:2].argmax(axis=1).tolist() == [0, 1]


def test_has_no_embedding_and_scores_no_rows(encoder):
    assert encoder.embed(TEXTS) is None
    assert encoder.logits([]).shape == (0, 2)


def test_loaded_encoder_gives_the_same_logits(encoder, tmp_path):
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path, SPACE, cache_dir=None)
    new = [*TEXTS, "something else about a bike", ""]
    np.testing.assert_allclose(loaded.logits(new), encoder.logits(new), atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"encoder.json", "encoder.safetensors"}
    assert loaded.origin == encoder.origin


def test_loaded_encoder_can_be_saved_again(encoder, tmp_path):
    encoder.save(tmp_path / "a")
    load_encoder(tmp_path / "a", SPACE, cache_dir=None).save(tmp_path / "b")
    again = load_encoder(tmp_path / "b", SPACE, cache_dir=None)
    np.testing.assert_allclose(again.logits(TEXTS), encoder.logits(TEXTS), atol=1e-6)


def test_fit_starts_afresh(encoder):
    encoder.fit(["alpha", "beta"], np.eye(2, dtype=np.int8))
    fresh = make_encoder(MLConfig(encoder="tfidf"), SPACE, seed=0, cache_dir=None)
    fresh.fit(["alpha", "beta"], np.eye(2, dtype=np.int8))
    np.testing.assert_array_equal(encoder.logits(TEXTS), fresh.logits(TEXTS))


def test_texts_without_words_are_told_apart_by_characters():
    made = make_encoder(MLConfig(encoder="tfidf"), SPACE, seed=0, cache_dir=None)
    made.fit(["🚲🚲", "💶💶", "🚲", "💶"], np.eye(2, dtype=np.int8)[[0, 1, 0, 1]])
    assert made.logits(["🚲🚲", "💶"]).argmax(axis=1).tolist() == [0, 1]


def test_only_empty_texts_are_refused():
    made = make_encoder(MLConfig(encoder="tfidf"), SPACE, seed=0, cache_dir=None)
    with pytest.raises(InputError, match="text column"):
        made.fit(["", "  "], np.eye(2, dtype=np.int8))


def test_multi_label():
    space = LabelSpace(("bike", "money", "never"), multi_label=True)
    targets = np.column_stack([TARGETS, np.zeros(6, dtype=np.int8)])
    made = make_encoder(MLConfig(encoder="tfidf"), space, seed=0, cache_dir=None)
    made.fit(TEXTS, targets)
    z = made.logits(["bike", "money"])
    assert ((z > 0) == [[True, False, False], [False, True, False]]).all()


def test_unfitted_encoder_says_so():
    with pytest.raises(ModelError, match="not been trained"):
        make_encoder(MLConfig(encoder="tfidf"), SPACE, seed=0, cache_dir=None).logits(["a"])


def test_no_encoder_is_not_made():
    with pytest.raises(ConfigError, match="no encoder"):
        make_encoder(MLConfig(encoder="none"), SPACE, seed=0, cache_dir=None)


def test_other_labels_are_refused(encoder, tmp_path):
    encoder.save(tmp_path)
    with pytest.raises(ModelError, match="other labels"):
        load_encoder(tmp_path, LabelSpace(("money", "bike"), multi_label=False), cache_dir=None)


def test_newer_format_is_refused(encoder, tmp_path):
    encoder.save(tmp_path)
    settings = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps(settings | {"format": 99}))
    with pytest.raises(ModelError, match="newer format"):
        load_encoder(tmp_path, SPACE, cache_dir=None)


@pytest.mark.parametrize("name", ["encoder.json", "encoder.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff\x00"])
def test_damaged_folder_is_a_model_error(encoder, tmp_path, name, content):
    encoder.save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="Train the run again"):
        load_encoder(tmp_path, SPACE, cache_dir=None)
