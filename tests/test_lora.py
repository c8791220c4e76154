"""Fine-tuning by adapters: they learn, the rest stays, and what is saved needs no peft."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from labelfusion.config import MLConfig, RunConfig
from labelfusion.encoders import checkpoint, load_encoder, make_encoder
from labelfusion.encoders.finetuned import FineTunedEncoder
from labelfusion.encoders.optimisation import Learner
from labelfusion.errors import ConfigError, MissingDependencyError
from tests.fine_tuning import SPACE, Interrupted, interrupt_at_step, word_rows

pytestmark = pytest.mark.usefixtures("one_torch_thread")
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is not installed"
)


@pytest.fixture
def lora_encoder(tiny):
    def make(cache_dir=None, rank=4, **training) -> FineTunedEncoder:
        values = {
            "encoder": str(tiny),
            "fine_tune": True,
            "c": 1.0,
            "batch_size": 4,
            "lora": {"rank": rank, "alpha": 8},
            "training": {"learning_rate": 1e-2, "epochs": 4, "patience": 0} | training,
        }
        made = make_encoder(MLConfig.model_validate(values), SPACE, seed=0, cache_dir=cache_dir)
        assert isinstance(made, FineTunedEncoder)
        return made

    return make


@needs_peft
def test_only_adapters_and_head_are_trained_and_the_result_is_a_plain_transformer(
    lora_encoder, tmp_path, monkeypatch
):
    texts, targets = word_rows(24)
    states, state = [], Learner.state

    def watched(self):
        states.append(state(self))
        return states[-1]

    monkeypatch.setattr(Learner, "state", watched)
    encoder = lora_encoder()
    encoder.fit(texts, targets)
    trained = [name for name in states[-1] if name.startswith("network.")]
    assert trained
    assert all("lora_" in name for name in trained)
    losses = [point["training_loss"] for point in encoder.curve]
    assert losses[-1] < losses[0]
    assert "LoRA" in encoder.origin
    encoder.save(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    loaded = load_encoder(tmp_path, SPACE, cache_dir=None)
    np.testing.assert_allclose(loaded.logits(texts), encoder.logits(texts), atol=1e-5)
    names = {path.name for path in (tmp_path / "transformer").iterdir()}
    assert "model.safetensors" in names
    assert not [name for name in names if "adapter" in name]


@needs_peft
def test_same_seed_same_logits_and_fit_starts_afresh(lora_encoder):
    texts, targets = word_rows(16)
    first, second = lora_encoder(), lora_encoder()
    first.fit(texts, targets)
    expected = first.logits(texts)
    second.fit(texts, 1 - targets)
    second.fit(texts, targets)
    np.testing.assert_array_equal(second.logits(texts), expected)
    other = lora_encoder(rank=2)
    other.fit(texts, targets)
    assert not np.allclose(other.logits(texts), expected)


@needs_peft
def test_interrupted_training_ends_where_it_would_have(lora_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    texts, targets = word_rows(24)
    through = lora_encoder(tmp_path / "through")
    through.fit(texts, targets)
    with monkeypatch.context() as patched:
        interrupt_at_step(patched, 15)
        with pytest.raises(Interrupted):
            lora_encoder(tmp_path / "cut").fit(texts, targets)
    resumed = lora_encoder(tmp_path / "cut")
    with monkeypatch.context() as patched:
        interrupt_at_step(patched, 13)
        resumed.fit(texts, targets)
    np.testing.assert_array_equal(resumed.logits(texts), through.logits(texts))


def test_an_absent_package_is_said_before_anything_is_trained(lora_encoder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"labelfusion\[lora\]"):
        lora_encoder()


def test_lora_without_fine_tuning_says_what_to_set():
    with pytest.raises(ConfigError, match="set fine_tune: true"):
        RunConfig.from_dict({"ml": {"lora": {"rank": 8}}})
    with pytest.raises(ConfigError, match="rank"):
        RunConfig.from_dict({"ml": {"fine_tune": True, "lora": {"rank": 0}}})
