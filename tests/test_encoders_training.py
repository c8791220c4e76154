"""A training: epochs, early stopping, memory, and whatever interrupts it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfusion.encoders import checkpoint, cross_fit, training
from labelfusion.encoders.batches import BUCKET_BATCHES, bucketed_batches
from labelfusion.encoders.finetuned import CHECKPOINT_FOLDER
from labelfusion.encoders.optimisation import TrainingRows
from labelfusion.errors import ModelError
from labelfusion.types import Event
from tests.fine_tuning import Interrupted, interrupt_at_step, notes, word_rows

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("patience", [0, 2])
def test_interrupted_training_ends_where_it_would_have(
    patience, tiny_encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    # Enough for validation rows: 18 or 24 steps an epoch, 4 epochs.
    texts, targets = word_rows(96)
    settings = {"epochs": 4, "patience": patience, "validation_share": 0.25}
    through = tiny_encoder(tmp_path / "through", **settings)
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
