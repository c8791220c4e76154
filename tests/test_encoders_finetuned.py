"""Fine-tuned transformers: they learn, twice alike, whatever interrupts them or lacks memory."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfusion import pipeline
from labelfusion.config import MLConfig, RunConfig
from labelfusion.encoders import (
    NEVER_HELD_OUT,
    checkpoint,
    cross_fit,
    cross_fit_folds,
    load_encoder,
    make_encoder,
    training,
    training_cost,
)
from labelfusion.encoders.batches import BUCKET_BATCHES, bucketed_batches
from labelfusion.encoders.finetuned import CHECKPOINT_FOLDER, FineTunedEncoder
from labelfusion.encoders.optimisation import Learner, TrainingRows
from labelfusion.errors import ConfigError, ModelError
from labelfusion.types import Event, LabelSpace
from tests.tiny_transformer import WORDS, write_tiny_architecture, write_tiny_transformer

SPACE = LabelSpace(("delivery", "billing"), multi_label=False)
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


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_tiny_transformer(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def without_dropout(tiny, tmp_path) -> Path:
    """The tiny model, with nothing random in its passes."""
    folder = shutil.copytree(tiny, tmp_path / "without_dropout")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def tiny_encoder(tiny):
    """Makes an encoder of the tiny model; keywords are settings of its training."""

    def make(
        cache_dir: Path | None = None,
        space=SPACE,
        seed=0,
        folder=tiny,
        batch_size=4,
        **training,
    ) -> FineTunedEncoder:
        ml = {"encoder": str(folder), "fine_tune": True, "batch_size": batch_size, "c": 1.0}
        training = {"learning_rate": 1e-3, "epochs": 3} | training
        config = MLConfig.model_validate(ml | {"training": training})
        made = make_encoder(config, space, seed=seed, cache_dir=cache_dir)
        assert isinstance(made, FineTunedEncoder)
        return made

    return make


def word_rows(n: int, space: LabelSpace = SPACE) -> tuple[list[str], np.ndarray]:
    """Texts whose label j is said by the j-th word (any number of them for multi-label)."""
    rng = np.random.default_rng(5)
    targets = np.eye(len(space), dtype=np.int8)[rng.integers(len(space), size=n)]
    if space.multi_label:
        targets = (rng.random((n, len(space))) < 0.4).astype(np.int8)
    words = WORDS[len(space) :]
    texts = [
        " ".join([*np.array(WORDS)[: len(space)][row > 0], *rng.choice(words, rng.integers(1, 9))])
        for row in targets
    ]
    return texts, targets


def notes(events: list[Event], key: str) -> list[Event]:
    return [event for event in events if event.status == "note" and key in event.data]


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


class Interrupted(Exception):
    """Stands for a process that is killed."""


def interrupt_at_step(monkeypatch, number: int) -> None:
    steps, step = [], Learner.step

    def interrupted(self, *args):
        steps.append(1)
        if len(steps) > number:
            raise Interrupted
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", interrupted)


@pytest.mark.parametrize("patience", [0, 2])
def test_interrupted_training_ends_where_it_would_have(
    patience, tiny_encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    # Enough for validation rows: 18 or 24 steps an epoch, 4 epochs.
    texts, targets = word_rows(96)
    settings = {"epochs": 4, "patience": patience, "validation_share": 0.25}
    through = tiny_encoder(**settings)
    through.fit(texts, targets)
    with monkeypatch.context() as patched:
        interrupt_at_step(patched, 50)
        with pytest.raises(Interrupted):
            tiny_encoder(tmp_path, **settings).fit(texts, targets)
    events: list[Event] = []
    resumed = tiny_encoder(tmp_path, **settings)
    with monkeypatch.context() as patched:
        interrupt_at_step(patched, 60)
        resumed.fit(texts, targets, events.append)
    assert any("Taken up from a checkpoint after epoch 2" in event.message for event in events)
    np.testing.assert_array_equal(resumed.logits(texts), through.logits(texts))
    assert resumed.curve == through.curve


def test_finished_training_is_not_done_again_before_it_is_saved(
    tiny_encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    texts, targets = word_rows(12)
    first = tiny_encoder(tmp_path / "cache")
    first.fit(texts, targets)
    with monkeypatch.context() as patched:
        interrupt_at_step(patched, 0)
        again = tiny_encoder(tmp_path / "cache")
        again.fit(texts, targets)
    np.testing.assert_array_equal(again.logits(texts), first.logits(texts))
    again.save(tmp_path / "saved")
    assert list((tmp_path / "cache" / CHECKPOINT_FOLDER).iterdir()) == []


def test_damaged_checkpoint_is_begun_afresh(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    texts, targets = word_rows(12)
    first = tiny_encoder(tmp_path)
    first.fit(texts, targets)
    for path in tmp_path.glob(f"{CHECKPOINT_FOLDER}/*/*.safetensors"):
        path.write_bytes(b"damaged")
    events: list[Event] = []
    again = tiny_encoder(tmp_path)
    again.fit(texts, targets, events.append)
    assert any("training starts afresh" in event.message for event in events)
    np.testing.assert_array_equal(again.logits(texts), first.logits(texts))


def test_changed_settings_do_not_take_up_another_training(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    texts, targets = word_rows(12)
    tiny_encoder(tmp_path, epochs=1).fit(texts, targets)
    longer = tiny_encoder(tmp_path, epochs=2)
    longer.fit(texts, targets)
    assert [point["epoch"] for point in longer.curve] == [1, 2]


@pytest.mark.parametrize("message", ["CUDA out of memory.", "MPS backend out of memory"])
def test_out_of_memory_halves_the_batch_and_changes_no_result(
    message, tiny_encoder, without_dropout, monkeypatch
):
    import torch
    from transformers import BertModel

    texts, targets = word_rows(16)
    plain = tiny_encoder(folder=without_dropout)
    plain.fit(texts, targets)
    kind = torch.OutOfMemoryError if "CUDA" in message else RuntimeError
    forward, sizes = BertModel.forward, []

    def forward_of_few(self, input_ids=None, **rest):
        if len(input_ids) > 1 and self.training:
            raise kind(message)
        sizes.append(len(input_ids))
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(BertModel, "forward", forward_of_few)
    short = tiny_encoder(folder=without_dropout)
    events: list[Event] = []
    short.fit(texts, targets, events.append)
    assert [event.data["micro_batch"] for event in notes(events, "micro_batch")] == [2, 1]
    assert sizes.count(1) == 3 * 16
    np.testing.assert_allclose(short.logits(texts), plain.logits(texts), atol=1e-4)


def test_memory_too_short_for_one_text_says_what_to_do(tiny_encoder, monkeypatch):
    import torch
    from transformers import BertModel

    def forward(self, **_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(BertModel, "forward", forward)
    with pytest.raises(ModelError, match=r"too little memory for one text.*max_tokens"):
        tiny_encoder().fit(*word_rows(8))


def test_other_runtime_errors_are_not_taken_for_memory(tiny_encoder, monkeypatch):
    from transformers import BertModel

    def forward(self, **_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(BertModel, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes differ"):
        tiny_encoder().fit(*word_rows(8))


def test_accumulated_gradients_are_those_of_the_large_batch(tiny_encoder, without_dropout):
    texts, targets = word_rows(16)
    once = tiny_encoder(folder=without_dropout, batch_size=8)
    twice = tiny_encoder(folder=without_dropout, batch_size=4, gradient_accumulation=2)
    once.fit(texts, targets)
    twice.fit(texts, targets)
    np.testing.assert_allclose(twice.logits(texts), once.logits(texts), atol=1e-4)


def test_training_stops_early_and_keeps_the_best_epoch(tiny_encoder):
    # Labels by the toss of a coin: what is learned by heart cannot hold for other rows.
    texts, _ = word_rows(96)
    targets = np.eye(2, dtype=np.int8)[np.random.default_rng(0).integers(2, size=96)]
    events: list[Event] = []
    encoder = tiny_encoder(learning_rate=1e-2, epochs=40, patience=2, validation_share=0.25)
    encoder.fit(texts, targets, events.append)
    losses = [point["validation_loss"] for point in encoder.curve]
    best = int(np.argmin(losses))
    assert len(losses) - 1 == best + 2 < 40
    assert encoder.progress.best_epoch == best
    assert encoder.progress.best_loss == losses[best]
    assert "stopped" in [e for e in events if e.status == "note"][-1].message
    assert [e.data["curve"] for e in notes(events, "curve")] == encoder.curve


def test_class_weights_raise_the_rare_label(tiny_encoder):
    # Texts that say nothing: only how often each label occurs can be learned.
    targets = np.eye(2, dtype=np.int8)[(np.arange(60) % 10 == 0).astype(int)]

    def odds(class_weights: str) -> float:
        rates = {"learning_rate": 1e-9, "head_learning_rate": 0.05}
        encoder = tiny_encoder(
            batch_size=30, class_weights=class_weights, epochs=45, patience=0, **rates
        )
        encoder.fit(["bike"] * 60, targets)
        z = encoder.logits(["bike"])[0]
        return float(z[1] - z[0])

    assert odds("none") == pytest.approx(np.log(1 / 9), abs=0.3)
    assert odds("balanced") == pytest.approx(0.0, abs=0.3)


def test_balanced_rows_weigh_alike():
    targets = np.eye(2, dtype=np.int8)[[0, 0, 0, 1]]
    rows = TrainingRows.weighted([[1]] * 4, targets, multi_label=False, balanced=True)
    assert rows.row_weights[3] == pytest.approx(rows.row_weights[:3].sum())
    labels = np.array([[1, 1], [0, 1], [0, 0], [0, 0]], dtype=np.int8)
    rows = TrainingRows.weighted([[1]] * 4, labels, multi_label=True, balanced=True)
    assert rows.positive_weights.tolist() == [3.0, 1.0]


@given(steps=st.integers(1, 500), share=st.floats(0, 0.99))
def test_schedule_rises_then_falls_and_is_never_zero(steps, share):
    rates = np.array([training.schedule(i, steps, share) for i in range(steps)])
    assert (rates > 0).all()
    assert (rates <= 1).all()
    peak = int(rates.argmax())
    assert (np.diff(rates[: peak + 1]) >= 0).all()
    assert (np.diff(rates[peak:]) < 0).all()


@given(n=st.integers(0, 300), size=st.integers(1, 40), seed=st.integers(0, 9))
def test_batches_hold_each_row_once_and_like_lengths(n, size, seed):
    lengths = np.random.default_rng(seed).integers(1, 200, size=n)
    batches = bucketed_batches(lengths, size, np.random.default_rng(seed))
    assert sorted(np.concatenate([*batches, []]).tolist()) == list(range(n))
    assert all(len(batch) <= size for batch in batches)
    if n <= size * BUCKET_BATCHES:
        # One bucket: batches do not overlap in length.
        spans = sorted((int(lengths[b].min()), int(lengths[b].max())) for b in batches)
        assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_max_steps_end_the_training(tiny_encoder):
    encoder = tiny_encoder(max_steps=5, epochs=10)
    encoder.fit(*word_rows(12))
    assert encoder.progress.step == 5
    assert encoder.progress.epoch == 2


def test_long_training_is_checked_first_and_unchanged_by_it(tiny_encoder, monkeypatch):
    texts, targets = word_rows(16)

    def trained(events: list[Event]) -> np.ndarray:
        encoder = tiny_encoder(learning_rate=1e-2, max_steps=10)
        encoder.fit(texts, targets, events.append)
        return encoder.logits(texts)

    unchecked: list[Event] = []
    expected = trained(unchecked)
    assert notes(unchecked, "losses") == []
    monkeypatch.setattr(training, "LONG_TRAINING_STEPS", 1)
    checked: list[Event] = []
    np.testing.assert_array_equal(trained(checked), expected)
    losses = notes(checked, "losses")[0].data["losses"]
    assert losses[-1] < 0.5 * losses[0]  # type: ignore[index]


def test_model_that_does_not_learn_is_refused_before_a_long_training(tiny_encoder):
    encoder = tiny_encoder(learning_rate=1e-12, head_learning_rate=1e-12, epochs=100)
    with pytest.raises(ModelError, match=r"does not learn.*learning_rate \(1e-12\)"):
        encoder.fit(*word_rows(16))


def test_loss_that_is_no_number_is_said(tiny_encoder, monkeypatch):
    from transformers import BertModel

    forward = BertModel.forward

    def forward_nan(self, **inputs):
        out = forward(self, **inputs)
        if self.training:
            out.last_hidden_state = out.last_hidden_state * float("nan")
        return out

    monkeypatch.setattr(BertModel, "forward", forward_nan)
    with pytest.raises(ModelError, match=r"diverged.*Lower learning_rate"):
        tiny_encoder().fit(*word_rows(8))


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


def test_interrupted_cross_fit_trains_no_fold_twice(tiny_encoder, tmp_path, monkeypatch):
    texts, targets = word_rows(24)
    folds = np.arange(24) % 3
    first = cross_fit(lambda: tiny_encoder(tmp_path), texts, targets, folds)
    assert not list(tmp_path.glob(f"{CHECKPOINT_FOLDER}/*"))
    interrupt_at_step(monkeypatch, 0)
    events: list[Event] = []
    again = cross_fit(lambda: tiny_encoder(tmp_path), texts, targets, folds, events.append)
    np.testing.assert_array_equal(again.scores, first.scores)
    assert sum("earlier training" in event.message for event in events) == 3
    targets = targets.copy()
    targets[0] = 1 - targets[0]
    with pytest.raises(Interrupted):
        cross_fit(lambda: tiny_encoder(tmp_path), texts, targets, folds)


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


def test_run_with_a_holdout_fuses_on_the_rows_held_out(tiny, tmp_path):
    texts, targets = word_rows(120)
    rng = np.random.default_rng(0)
    labels = np.array(SPACE.names)[targets.argmax(axis=1)]
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(120)], "text": texts, "label": labels})
    frame.to_csv(tmp_path / "data.csv", index=False)
    noisy = 0.6 * targets + 0.4 * rng.random(targets.shape)
    scores = pd.DataFrame(noisy / noisy.sum(axis=1, keepdims=True), columns=list(SPACE.names))
    scores.assign(id=frame["id"]).to_csv(tmp_path / "scores.csv", index=False)
    config = RunConfig.from_dict(
        {
            "data": {"path": str(tmp_path / "data.csv"), "id_column": "id", "deduplicate": False},
            "label_column": "label",
            "llm_scores": str(tmp_path / "scores.csv"),
            "ml": {
                "encoder": str(tiny),
                "fine_tune": True,
                "training": {"cross_fit": "holdout", "epochs": 2, "learning_rate": 1e-2},
            },
            "fusion": {"cv_repeats": 1, "cv_folds": 3},
            "evaluation": {"bootstrap_draws": 100},
        }
    )
    run = pipeline.fit(pipeline.check(config), config)
    train = run.signals["ml"].take(run.split.train)
    np.testing.assert_array_equal(train.present, run.folds == 0)
    assert 0.15 < train.coverage < 0.25
    assert run.signals["ml"].take(run.split.test).present.all()
    assert run.signals["llm"].take(run.split.train).present.all()
    assert run.classifier.fusion.choice.rows == train.present.sum()
    ml_used = run.train_prediction.present[:, 0]
    np.testing.assert_array_equal(ml_used, train.present)


def test_saved_folder_holds_the_curves_and_no_pickle(tiny_encoder, tmp_path):
    encoder = tiny_encoder()
    encoder.fit(*word_rows(12))
    encoder.save(tmp_path)
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
