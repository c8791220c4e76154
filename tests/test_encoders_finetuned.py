"""Fine-tuned transformers: they learn, twice alike, and are what they were when loaded."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfusion import pipeline
from labelfusion.config import MLConfig, RunConfig
from labelfusion.encoders import (
    NEVER_HELD_OUT,
    cross_fit,
    cross_fit_folds,
    load_encoder,
    make_encoder,
    training_cost,
)
from labelfusion.errors import ConfigError, ModelError
from labelfusion.types import Event, LabelSpace
from tests.fine_tuning import SPACE, notes, run_settings, word_rows
from tests.tiny_transformer import write_tiny_architecture

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TEXTS = [
    "The parcel never arrived",
    "I was charged twice",
    "Where is my package?",
    "The invoice is wrong",
    "Delivery was promised for Monday",
    "Please refund the double payment",
    "The courier left the box in the rain",
    "My card was billed again",
]
TARGETS = np.eye(2, dtype=np.int8)[[0, 1] * 4]


def test_minilm_is_trained_for_real(tmp_path):
    settings = {"learning_rate": 5e-5, "epochs": 4, "patience": 0}
    config = MLConfig.model_validate({"fine_tune": True, "batch_size": 4, "training": settings})
    encoder = make_encoder(config, SPACE, seed=0, cache_dir=None)
    encoder.fit(TEXTS, TARGETS)
    losses = [point["training_loss"] for point in encoder.curve]
    assert losses[-1] < 0.9 * losses[0]
    z = encoder.logits(["The courier lost my box", "Please correct my bill"])
    assert z.argmax(axis=1).tolist() == [0, 1]
    assert encoder.origin == "all-MiniLM-L6-v2 (fine-tuned)"
    frozen = make_encoder(MLConfig(), SPACE, seed=0, cache_dir=None)
    assert np.abs(encoder.embed(TEXTS) - frozen.embed(TEXTS)).max() > 1e-3
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path, SPACE, cache_dir=None)
    np.testing.assert_allclose(loaded.logits(TEXTS), encoder.logits(TEXTS), atol=1e-5)
    np.testing.assert_allclose(loaded.embed(TEXTS), encoder.embed(TEXTS), atol=1e-5)


@pytest.mark.parametrize("architecture", ["roberta", "modernbert", "deberta-v2", "distilbert"])
def test_other_architectures_train_and_load(architecture, tmp_path, tiny_encoder):
    folder = write_tiny_architecture(tmp_path / "model", architecture)
    texts, targets = word_rows(12)
    # Longer than the model has positions: it must be cut, at the right place.
    texts[0] = "bike " * 300
    encoder = tiny_encoder(folder=folder, learning_rate=1e-2, patience=0)
    encoder.fit(texts, targets)
    assert encoder.curve[-1]["training_loss"] < encoder.curve[0]["training_loss"]
    encoder.save(tmp_path / "saved")
    shutil.rmtree(folder)
    loaded = load_encoder(tmp_path / "saved", SPACE, cache_dir=None)
    np.testing.assert_allclose(loaded.logits(texts), encoder.logits(texts), atol=1e-5)
    assert loaded.curve == encoder.curve
    assert loaded.origin == encoder.origin == "model (fine-tuned)"


def test_multi_label_learns_each_label(tiny_encoder):
    space = LabelSpace(("a", "b", "c"), multi_label=True)
    texts, targets = word_rows(60, space)
    encoder = tiny_encoder(space=space, learning_rate=1e-2, epochs=15, patience=0)
    encoder.fit(texts, targets)
    assert ((encoder.logits(texts) > 0) == targets).mean() > 0.9


def test_label_without_rows_keeps_its_prior(tiny_encoder):
    space = LabelSpace(("a", "b", "never"), multi_label=False)
    texts, targets = word_rows(20)
    encoder = tiny_encoder(space=space)
    encoder.fit(texts, np.pad(targets, ((0, 0), (0, 1))))
    z = encoder.logits(texts)
    assert np.isfinite(z).all()
    assert (z.argmax(axis=1) < 2).all()


def test_one_label_only_needs_no_training(tiny_encoder):
    encoder = tiny_encoder()
    encoder.fit(["bike", "app"], np.array([[1, 0], [1, 0]]))
    assert encoder.curve == []
    assert encoder.logits(["parcel"]).argmax() == 0


def test_same_seed_same_logits_and_another_seed_others(tiny_encoder):
    texts, targets = word_rows(24)

    def logits(seed: int) -> np.ndarray:
        encoder = tiny_encoder(seed=seed)
        encoder.fit(texts, targets)
        return encoder.logits(texts)

    np.testing.assert_array_equal(logits(1), logits(1))
    assert not np.allclose(logits(1), logits(2))


def test_training_leaves_the_callers_random_numbers_alone(tiny_encoder):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    tiny_encoder(epochs=1).fit(*word_rows(8))
    assert torch.equal(torch.rand(1), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_cost_is_said_before_cross_fitting_and_time_once_measured(tiny_encoder):
    texts, targets = word_rows(40)
    events: list[Event] = []
    folds = np.arange(40) % 5
    cross_fit(lambda: tiny_encoder(patience=0), texts, targets, folds, events.append)
    # 5 folds of 32 rows and one training on 40, 3 epochs each.
    assert events[0].data["cost"] == {"trainings": 6, "epochs": 3, "passes": 600}
    assert "600 forward and backward passes" in events[0].message
    timed = notes(events, "texts_a_second")
    assert len(timed) == 5
    ratio = timed[0].data["seconds_of_all"] / timed[0].data["seconds"]  # type: ignore[operator]
    assert ratio == pytest.approx(600 / 96)


def test_cost_counts_the_holdout_the_validation_rows_and_max_steps():
    def cost(n: int, **settings) -> tuple[int, int]:
        config = MLConfig.model_validate({"fine_tune": True, "training": {"epochs": 2} | settings})
        found = training_cost(config, n)
        return found.trainings, found.passes

    assert cost(3000, patience=0) == (2, 2 * (2400 + 3000))
    assert cost(1000) == (6, round(2 * 0.9 * (5 * 800 + 1000)))
    # Too few rows for early stopping to keep some of them.
    assert cost(100) == (6, 2 * (5 * 80 + 100))
    assert cost(1000, max_steps=10) == (6, 6 * 10 * 32)


@pytest.mark.parametrize(
    ("cross_fit_policy", "n", "expected"),
    [("auto", 1999, 5), ("auto", 2000, 1), ("folds", 2000, 5), ("holdout", 40, 1)],
)
def test_holdout_takes_the_place_of_folds(cross_fit_policy, n, expected):
    targets = np.eye(2, dtype=np.int8)[np.arange(n) % 2]
    config = MLConfig.model_validate(
        {"fine_tune": True, "training": {"cross_fit": cross_fit_policy}}
    )
    folds = cross_fit_folds(config, targets, SPACE, seed=0)
    assert len(set(folds.tolist()) - {NEVER_HELD_OUT}) == expected
    assert (targets[folds == 0].mean(axis=0) == 0.5).all() or n == 1999
    assert (folds == NEVER_HELD_OUT).any() == (expected == 1)
    frozen = config.model_copy(update={"fine_tune": False})
    assert NEVER_HELD_OUT not in cross_fit_folds(frozen, targets, SPACE, seed=0)


def holdout_with(scored, folds=5):
    config = MLConfig.model_validate(
        {"fine_tune": True, "folds": folds, "training": {"cross_fit": "holdout"}}
    )
    targets = np.eye(2, dtype=np.int8)[np.arange(len(scored)) % 2]
    plain = cross_fit_folds(config, targets, SPACE, seed=0) == 0
    return plain, cross_fit_folds(config, targets, SPACE, seed=0, scored=scored) == 0


def test_a_holdout_takes_up_more_of_the_rows_that_an_llm_has_scored():
    scored = np.arange(1000) < 100
    plain, held_out = holdout_with(scored)
    assert scored[plain].sum() == pytest.approx(20, abs=8)
    assert scored[held_out].sum() > 60
    assert not (held_out & ~plain & ~scored).any()
    assert (held_out | ~plain).all()
    assert (scored & ~held_out).any(), "some are trained on"


@given(st.lists(st.booleans(), min_size=20, max_size=60), st.integers(2, 8))
def test_a_holdout_stays_small(scored, folds):
    plain, held_out = holdout_with(np.array(scored), folds)
    assert (held_out | ~plain).all()
    assert held_out.sum() <= 1.5 * plain.sum()


@pytest.mark.parametrize("scored", [True, False])
def test_where_all_rows_are_scored_or_none_a_holdout_is_a_fold(scored):
    plain, held_out = holdout_with(np.full(1000, scored))
    assert (plain == held_out).all()


def test_run_with_a_holdout_fuses_on_the_rows_held_out(tiny, tmp_path):
    texts, targets = word_rows(120)
    settings = run_settings(tmp_path, tiny, texts, targets, cross_fit="holdout", epochs=2)
    config = RunConfig.from_dict(settings)
    run = pipeline.fit(pipeline.check(config), config)
    train = run.signals["ml"].take(run.split.train)
    np.testing.assert_array_equal(train.present, run.folds == 0)
    assert 0.15 < train.coverage < 0.25
    assert run.signals["ml"].take(run.split.test).present.all()
    assert run.signals["llm"].take(run.split.train).present.all()
    assert run.classifier.fusion.choice.rows == train.present.sum()
    ml_used = run.train_prediction.present[:, 0]
    np.testing.assert_array_equal(ml_used, train.present)


def test_a_run_holds_out_more_of_the_rows_with_recorded_scores(tiny, tmp_path):
    texts, targets = word_rows(120)
    scored = np.arange(120) % 6 == 0
    settings = run_settings(
        tmp_path, tiny, texts, targets, scored=scored, cross_fit="holdout", epochs=1
    )
    config = RunConfig.from_dict(settings)
    run = pipeline.fit(pipeline.check(config), config)
    held_out = scored[run.split.train][run.folds == 0]
    assert held_out.mean() > 1.5 * scored.mean()


def test_saved_folder_holds_the_curves_and_no_pickle(tiny_encoder, tmp_path, capfd):
    encoder = tiny_encoder()
    encoder.fit(*word_rows(12))
    encoder.save(tmp_path)
    assert capfd.readouterr().err == "", "no progress bar in a job's log"
    saved = json.loads((tmp_path / "encoder.json").read_text())
    assert saved["backbone"] == "finetuned"
    assert saved["details"]["training"]["curve"] == encoder.curve
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_damaged_or_absent_weights_are_a_model_error(tiny_encoder, tmp_path):
    encoder = tiny_encoder()
    encoder.fit(*word_rows(8))
    encoder.save(tmp_path)
    weights = tmp_path / "transformer" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged or have been changed"):
        load_encoder(tmp_path, SPACE, cache_dir=None)
    weights.unlink()
    with pytest.raises(ModelError, match="no safetensors weights"):
        load_encoder(tmp_path, SPACE, cache_dir=None)


def test_fit_starts_afresh(tiny_encoder, tmp_path):
    texts, targets = word_rows(12)
    encoder = tiny_encoder()
    encoder.fit(texts, targets)
    expected = encoder.logits(texts)
    encoder.fit(texts, 1 - targets)
    encoder.fit(texts, targets)
    np.testing.assert_array_equal(encoder.logits(texts), expected)
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path, SPACE, cache_dir=None)
    loaded.fit(texts, targets)
    np.testing.assert_array_equal(loaded.logits(texts), expected)


def test_hub_failure_names_model_and_offline_default(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = MLConfig(encoder="FacebookAI/roberta-base", fine_tune=True)
    with pytest.raises(ModelError, match=r"'FacebookAI/roberta-base'.*disabled.*minilm"):
        make_encoder(config, SPACE, seed=0, cache_dir=None)


def test_mixed_precision_is_for_gpus(tiny_encoder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"bfloat16.*precision: auto"):
        tiny_encoder(precision="bf16").fit(*word_rows(8))


def test_words_cannot_be_fine_tuned():
    with pytest.raises(ConfigError, match="tfidf cannot be fine-tuned"):
        RunConfig.from_dict({"ml": {"encoder": "tfidf", "fine_tune": True}})
    with pytest.raises(ConfigError, match="Did you mean 'learning_rate'"):
        RunConfig.from_dict({"ml": {"training": {"learning_rat": 1e-5}}})


def test_untrained_encoder_says_so(tiny_encoder):
    with pytest.raises(ModelError, match="has not been trained"):
        tiny_encoder().logits(["bike"])


def test_no_rows_have_no_logits(tiny_encoder):
    encoder = tiny_encoder()
    encoder.fit(*word_rows(8))
    assert encoder.logits([]).shape == (0, 2)
