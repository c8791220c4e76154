"""The joint model: encoder and FusionMLP trained end to end, one more source of the fusion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from labelfusion.encoders import (
    JointEncoder,
    LLMEvidence,
    checkpoint,
    cross_fit_jointly,
    load_encoder,
)
from labelfusion.encoders.finetuned import CHECKPOINT_FOLDER
from labelfusion.encoders.fusion_mlp import started
from labelfusion.errors import ModelError
from labelfusion.tasks import task_for
from labelfusion.types import LabelSpace, Signal
from tests.fine_tuning import SPACE, Interrupted, interrupt_at_step, word_rows

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SAMPLES = Path(__file__).parent.parent / "sample_data"
ASPECTS = LabelSpace(("a", "b", "c"), multi_label=True)


def said(
    targets: np.ndarray, space: LabelSpace = SPACE, *, share: float = 1.0, noise: float = 0.4
) -> LLMEvidence:
    """What a noisy LLM says of rows, `share` of which it scored."""
    rng = np.random.default_rng(1)
    scores = (1 - noise) * targets + noise * rng.random(targets.shape)
    present = rng.random(len(targets)) < share
    scores[~present] = np.nan
    signal = Signal("llm", scores, "probabilities", present)
    return LLMEvidence.of({"llm": signal}, ["llm"], len(targets), space)


@pytest.fixture
def joint_encoder(tiny_encoder):
    def make(*args, **settings) -> JointEncoder:
        made = tiny_encoder(*args, joint=True, **settings)
        assert isinstance(made, JointEncoder)
        return made

    return make


def test_evidence_is_centred_and_clipped_and_zero_where_it_is_missing():
    scores = np.array([[1.0, 0.0], [0.5, 0.5], [np.nan, np.nan]])
    signal = Signal("llm", scores, "probabilities", np.array([True, True, False]))
    evidence = LLMEvidence.of({"llm": signal}, ["other", "llm"], 3, SPACE)
    assert evidence.present.tolist() == [[False, True], [False, True], [False, False]]
    half = np.log(1.0 / 0.005) / 2
    expected = [[half, -half], [0, 0], [0, 0]]
    np.testing.assert_allclose(evidence.scores[:, 1], expected, atol=1e-2)
    assert not evidence.scores[:, 0].any()
    assert evidence.any_present.tolist() == [True, True, False]


@pytest.mark.parametrize("space", [SPACE, ASPECTS], ids=["multi-class", "multi-label"])
def test_training_starts_as_a_pool_of_text_and_llm(space, joint_encoder):
    texts, targets = word_rows(30, space)
    evidence = said(targets, space)
    encoder = joint_encoder(
        space=space, epochs=1, learning_rate=1e-30, head_learning_rate=1e-30, patience=0
    )
    encoder.fit_joint(texts, targets, evidence)
    task = task_for(space)
    pool = task.normalise(encoder.logits(texts) + evidence.scores[:, 0])
    np.testing.assert_allclose(encoder.joint_logits(texts, evidence), pool, atol=1e-4)
    none = evidence.take(np.arange(30))
    none.scores[:], none.present[:] = 0, False
    np.testing.assert_allclose(
        encoder.joint_logits(texts, none), task.normalise(encoder.logits(texts)), atol=1e-4
    )


def test_joint_model_learns_what_neither_side_says_alone(joint_encoder):
    # The labels are what the text says, turned round where the LLM says the first label.
    texts, words = word_rows(160, ASPECTS)
    turned = np.random.default_rng(0).random(160) < 0.3
    targets = np.where(turned[:, None], 1 - words, words).astype(np.int8)
    scores = np.where(turned[:, None], 0.9, 0.1) * np.array([1, 0, 0]) + 0.05
    signal = Signal("llm", scores, "probabilities", np.ones(160, dtype=bool))
    evidence = LLMEvidence.of({"llm": signal}, ["llm"], 160, ASPECTS)
    encoder = joint_encoder(
        space=ASPECTS, learning_rate=1e-2, head_learning_rate=1e-2, epochs=20, patience=0
    )
    encoder.fit_joint(texts[:120], targets[:120], evidence.take(np.arange(120)))
    joint, alone = encoder.joint_logits(texts, evidence), encoder.logits(texts)
    assert ((joint > 0) == targets)[120:].mean() > 0.85
    assert ((alone > 0) == targets)[120:].mean() < 0.75


def test_head_of_the_text_is_not_taught_what_the_llm_leaves_open(joint_encoder):
    texts, targets = word_rows(40)
    sure = said(targets, noise=0.01)
    encoder = joint_encoder(learning_rate=1e-12, head_learning_rate=1e-2, epochs=5, patience=0)
    encoder.fit_joint(texts, targets, sure)
    alone = joint_encoder(learning_rate=1e-12, head_learning_rate=1e-2, epochs=5, patience=0)
    alone.fit(texts, targets)
    gap = np.abs(encoder.logits(texts) - alone.logits(texts)).max()
    assert gap < 0.2 * np.abs(alone.logits(texts)).max()


def test_plain_fit_is_the_text_alone(joint_encoder, tiny_encoder):
    texts, targets = word_rows(16)
    encoder, plain = joint_encoder(), tiny_encoder()
    encoder.fit_joint(texts, targets, said(targets))
    encoder.fit(texts, targets)
    plain.fit(texts, targets)
    np.testing.assert_array_equal(encoder.logits(texts), plain.logits(texts))
    with pytest.raises(ModelError, match="not been trained jointly"):
        encoder.joint_logits(texts, said(targets))


def test_same_seed_same_joint_logits(joint_encoder):
    texts, targets = word_rows(24)
    evidence = said(targets, share=0.7)

    def logits(seed: int) -> np.ndarray:
        encoder = joint_encoder(seed=seed)
        encoder.fit_joint(texts, targets, evidence)
        return encoder.joint_logits(texts, evidence)

    np.testing.assert_array_equal(logits(1), logits(1))
    assert not np.allclose(logits(1), logits(2))


def test_embedding_is_not_that_of_other_texts(joint_encoder):
    texts, targets = word_rows(16)
    encoder, evidence = joint_encoder(), said(targets)
    encoder.fit_joint(texts, targets, evidence)
    first = encoder.joint_logits(texts, evidence)
    backwards = encoder.joint_logits(texts[::-1], evidence.take(np.arange(16)[::-1]))
    np.testing.assert_allclose(backwards[::-1], first, atol=1e-5)
    encoder.fit_joint(texts, 1 - targets, said(1 - targets))
    assert not np.allclose(encoder.joint_logits(texts, evidence), first)


@pytest.mark.parametrize("one_label", [False, True])
def test_label_without_rows_keeps_its_prior(one_label, joint_encoder):
    space = LabelSpace(("a", "b", "never"), multi_label=False)
    texts, targets = word_rows(20)
    targets = np.pad(targets, ((0, 0), (0, 1)))
    if one_label:
        targets[:] = [1, 0, 0]
    evidence = said(targets, space)
    encoder = joint_encoder(space=space)
    encoder.fit_joint(texts, targets, evidence)
    z = encoder.joint_logits(texts, evidence)
    assert np.isfinite(z).all()
    assert (z.argmax(axis=1) < 2).all()
    np.testing.assert_array_equal(z[:, 2], encoder.logits(texts)[:, 2])


def test_loaded_encoder_says_the_same(joint_encoder, tmp_path):
    texts, targets = word_rows(24)
    evidence = said(targets, share=0.7)
    encoder = joint_encoder()
    encoder.fit_joint(texts, targets, evidence)
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path, SPACE, cache_dir=None)
    assert isinstance(loaded, JointEncoder)
    assert loaded.sources == ("llm",)
    assert loaded.joint_origin == encoder.joint_origin
    np.testing.assert_array_equal(loaded.logits(texts), encoder.logits(texts))
    np.testing.assert_array_equal(
        loaded.joint_logits(texts, evidence), encoder.joint_logits(texts, evidence)
    )
    assert json.loads((tmp_path / "encoder.json").read_text())["backbone"] == "joint"
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".txt",
    }


def test_interrupted_joint_training_ends_where_it_would_have(joint_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    texts, targets = word_rows(40)
    evidence = said(targets, share=0.7)
    through = joint_encoder(tmp_path / "through", epochs=4)
    through.fit_joint(texts, targets, evidence)
    with monkeypatch.context() as patched:
        interrupt_at_step(patched, 25)
        with pytest.raises(Interrupted):
            joint_encoder(tmp_path, epochs=4).fit_joint(texts, targets, evidence)
    resumed = joint_encoder(tmp_path, epochs=4)
    with monkeypatch.context() as patched:
        interrupt_at_step(patched, 20)
        resumed.fit_joint(texts, targets, evidence)
    np.testing.assert_array_equal(
        resumed.joint_logits(texts, evidence), through.joint_logits(texts, evidence)
    )


def test_interrupted_joint_cross_fit_trains_no_fold_twice(joint_encoder, tmp_path, monkeypatch):
    texts, targets = word_rows(24)
    evidence, folds = said(targets, share=0.7), np.arange(24) % 3

    def signals(told: LLMEvidence) -> tuple[Signal, Signal]:
        return cross_fit_jointly(lambda: joint_encoder(tmp_path), texts, targets, told, folds)

    ml, joint = signals(evidence)
    assert ml.present.all()
    np.testing.assert_array_equal(joint.present, evidence.any_present)
    assert not list(tmp_path.glob(f"{CHECKPOINT_FOLDER}/*"))
    interrupt_at_step(monkeypatch, 0)
    for again, first in zip(signals(evidence), (ml, joint), strict=True):
        np.testing.assert_array_equal(again.scores, first.scores)
    with pytest.raises(Interrupted):
        signals(said(targets, share=0.9))


def test_held_out_rows_are_not_trained_on(joint_encoder):
    # Labels by the toss of a coin, and an LLM that knows nothing: nobody can be right unseen.
    texts, _ = word_rows(80)
    rng = np.random.default_rng(0)
    targets = np.eye(2, dtype=np.int8)[rng.integers(2, size=80)]
    evidence, folds = said(rng.permutation(targets), noise=1.0), np.arange(80) % 4

    def make() -> JointEncoder:
        return joint_encoder(epochs=10, learning_rate=1e-2, patience=0)

    _, joint = cross_fit_jointly(make, texts, targets, evidence, folds)
    assert 0.3 < (joint.scores.argmax(axis=1) == targets.argmax(axis=1)).mean() < 0.7


def test_last_layer_starts_at_zero():
    parameters = started(d=8, n_sources=2, k=3, seed=0)
    assert parameters["fusion.weights0"].shape == (8 + 2 * 3 + 2, 64)
    assert parameters["fusion.weights2"].shape == (32, 3)
    assert not parameters["fusion.weights2"].any()
    assert parameters["fusion.weights1"].any()
