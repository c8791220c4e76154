"""The joint model: encoder and FusionMLP trained end to end, one more source of the fusion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from labelfusion import pipeline
from labelfusion.classifier import FusedClassifier
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.encoders import (
    JointEncoder,
    LLMEvidence,
    checkpoint,
    cross_fit_jointly,
    load_encoder,
)
from labelfusion.encoders.finetuned import CHECKPOINT_FOLDER
from labelfusion.encoders.fusion_mlp import started
from labelfusion.errors import ConfigError, InputError, ModelError
from labelfusion.estimator import AutoFusionClassifier
from labelfusion.predict_file import label_rows, result_table
from labelfusion.runs import ResultsManager
from labelfusion.tasks import task_for
from labelfusion.types import Event, LabelSpace, Rows, Signal
from labelfusion.ui.progress import stages
from labelfusion.workspace import Workspace
from tests.command_line import labelfusion
from tests.fine_tuning import SPACE, Interrupted, interrupt_at_step, run_settings, word_rows

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


@pytest.fixture
def joint_run(tiny, tmp_path):
    """Writes the files of a run and gives its settings."""

    def write(space: LabelSpace = SPACE, n: int = 60, share: float = 1.0, **training):
        texts, targets = word_rows(n, space)
        scored = np.random.default_rng(2).random(n) < share
        settings = run_settings(
            tmp_path, tiny, texts, targets, space=space, scored=scored, **training
        )
        settings["ml"] |= {"joint": True, "folds": 3}
        return settings

    return write


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
    through = joint_encoder(epochs=4)
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


@pytest.mark.parametrize("space", [SPACE, ASPECTS], ids=["multi-class", "multi-label"])
def test_run_by_yaml_has_a_joint_source_and_predicts_with_it(space, joint_run, tmp_path):
    settings = joint_run(space, share=0.8) | {"fusion": {"method": "joint", "cv_repeats": 1}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    workspace = tmp_path / "workspace"
    labelfusion("train", "--config", "run.yaml", "--workspace", workspace, cwd=tmp_path)
    run = ResultsManager(Workspace.at(workspace)).open("last")
    assert list(run.metrics["systems"]) == ["ml", "llm", "joint", "fusion"]
    assert run.metrics["choice"]["chosen"] == "joint"
    signals, rows = run.signals, run.splits["split"].isin(["train", "test"]).to_numpy()
    np.testing.assert_array_equal(signals["joint"].present[rows], signals["llm"].present[rows])
    assert 0.6 < signals["joint"].present[rows].mean() < 0.95
    assert signals["ml"].present[rows].all()
    assert "FusionMLP" in signals["joint"].origin
    assert (run.folder.model / "encoder" / "encoder.safetensors").is_file()
    stored = run.predictions.set_index("id")
    share = stored.filter(regex="^contribution_joint_").abs().to_numpy()[: len(stored) // 4]
    assert np.nanmax(share) > 0
    place = Workspace.at(workspace)
    table = result_table(label_rows(run, tmp_path / "data.csv", workspace=place)).set_index("id")
    test = stored.index[stored["split"] == "test"]
    columns = [f"p_{name}" for name in space.names]
    np.testing.assert_allclose(
        table.loc[test, columns].to_numpy(), stored.loc[test, columns].to_numpy(), atol=1e-5
    )
    assert (table["joint_present"] == table["llm_present"]).all()
    unasked = result_table(label_rows(run, tmp_path / "data.csv", routing="never", workspace=place))
    assert not unasked["joint_present"].any()
    assert unasked["ml_present"].all()


def test_run_is_the_same_twice_and_takes_its_signals_from_the_store(joint_run, monkeypatch):
    config = RunConfig.from_dict(joint_run())
    dataset, store = pipeline.check(config), {}
    events: list[Event] = []
    first = pipeline.fit(dataset, config, store=store, on_event=events.append)
    assert list(first.signals) == list(first.classifier.source_names) == ["ml", "llm", "joint"]
    costs = [event for event in events if "cost" in event.data]
    assert costs[0].data["cost"]["trainings"] == 4  # type: ignore[index]
    again = pipeline.fit(dataset, config)
    for name, signal in first.signals.items():
        np.testing.assert_array_equal(again.signals[name].scores, signal.scores)
    assert again.report == first.report

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stored signal was made again")

    monkeypatch.setattr(pipeline, "cross_fit_jointly", refuse)
    monkeypatch.setattr(pipeline, "score_llm", refuse)
    assert pipeline.fit(dataset, config, store=store).report == first.report


def test_stages_are_shown_in_the_order_of_the_run(joint_run):
    config = RunConfig.from_dict(joint_run(n=30, epochs=1))
    events: list[Event] = []
    pipeline.fit(pipeline.check(config), config, on_event=events.append)
    done = [event.stage for event in events if event.status == "done"]
    assert done == ["split", "llm", "ml", "fusion", "evaluate"]
    asked = next(i for i, event in enumerate(events) if event.stage == "llm")
    told = [
        {"stage": e.stage, "status": e.status, "data": e.data, "time": "2026-01-31T12:00:00Z"}
        for e in events[: asked + 1]
    ]
    shown = {stage.name: stage.state for stage in stages(told, "running")}
    assert shown["Train the encoder"] == "waiting"


def test_classifier_uses_the_joint_source_once_an_llm_has_answered(joint_run, tmp_path):
    config = RunConfig.from_dict(joint_run())
    run = pipeline.fit(pipeline.check(config), config)
    run.classifier.save(tmp_path / "model")
    loaded = FusedClassifier.load(tmp_path / "model")
    dataset = run.dataset
    rows = Rows(dataset.ids.tolist(), dataset.texts)
    llm = run.signals["llm"].take(np.arange(len(rows)))
    known = loaded.encode(rows)
    assert list(known) == ["ml"]
    prediction = loaded.predict(rows, known | {"llm": llm})
    expected = run.classifier.predict(rows, {"llm": llm})
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-6)
    assert prediction.present.all()
    assert prediction.contributions is not None
    log_odds = loaded.fusion.task.log_odds(np.log(prediction.probabilities))
    total = prediction.contributions.sum(axis=1) + loaded.fusion.prior_log_odds()
    np.testing.assert_allclose(total, log_odds, atol=1e-6)
    assert not loaded.predict(rows).present[:, 2].any()
    few = Rows(["x", "y"], ["", "bike"])
    with pytest.raises(InputError, match="shape that does not fit"):
        loaded.predict(few, {"llm": llm})
    blank = loaded.predict(few, {"llm": llm.take(np.arange(2))})
    assert blank.present.tolist() == [[False, True, False], [True, True, True]]


def test_estimator_trains_jointly(joint_run, tmp_path):
    settings = joint_run()
    frame = pd.read_csv(tmp_path / "data.csv", dtype=str)
    model = AutoFusionClassifier(settings).fit(frame)
    assert model.classifier_.source_names == ("ml", "llm", "joint")
    table = model.explain(frame.drop(columns=list(SPACE.names)))
    assert table["joint_present"].all()
    probabilities = model.predict_proba(frame)
    loaded = AutoFusionClassifier.load(model.save(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.predict_proba(frame), probabilities, atol=1e-6)


def test_routing_counts_joint_among_the_sources_that_need_an_llm(joint_run):
    config = RunConfig.from_dict(joint_run() | {"routing": {"policy": "budget", "share": 0.4}})
    assert config.dear_source_names == ["llm", "joint"]
    run = pipeline.fit(pipeline.check(config), config)
    routing = run.report["routing"]
    assert routing["share"] == pytest.approx(0.4, abs=0.05)
    without = run.classifier.fusion.out_of_fold_without(config.dear_source_names)
    assert without is not None
    assert without.present.any(axis=0).tolist() == [True, False, False]


def llm(name: str) -> dict[str, str]:
    return LLMConfig(provider="recorded", name=name, path="scores.csv").model_dump()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ml": {"joint": True}}, r"set fine_tune: true too, or joint: false"),
        ({"ml": {"joint": True, "fine_tune": True}}, r"no LLM source: add an llm entry, or set"),
        (
            {"ml": {"joint": True, "fine_tune": True}, "llm": [llm("a"), llm("b"), llm("c")]},
            r"At most 4 sources.*found 5 \(ml, a, b, c, joint\).*or set ml.joint: false",
        ),
        (
            {"ml": {"joint": True, "fine_tune": True}, "llm": [llm("joint")]},
            r"different names, found ml, joint, joint",
        ),
    ],
)
def test_config_that_cannot_be_trained_jointly_says_why(settings, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_dict(settings)


def test_last_layer_starts_at_zero():
    parameters = started(d=8, n_sources=2, k=3, seed=0)
    assert parameters["fusion.weights0"].shape == (8 + 2 * 3 + 2, 64)
    assert parameters["fusion.weights2"].shape == (32, 3)
    assert not parameters["fusion.weights2"].any()
    assert parameters["fusion.weights1"].any()


@pytest.mark.slow
def test_real_encoder_is_trained_jointly_on_tickets(tmp_path):
    tickets = pd.read_csv(SAMPLES / "tickets.csv", dtype=str).iloc[:60]
    tickets.to_csv(tmp_path / "tickets.csv", index=False)
    shutil.copy(SAMPLES / "tickets_llm_scores.csv", tmp_path / "scores.csv")
    training = {"epochs": 1, "learning_rate": 5e-5}
    config = RunConfig.from_dict(
        {
            "data": {"path": str(tmp_path / "tickets.csv"), "id_column": "id"},
            "label_column": "label",
            "llm_scores": str(tmp_path / "scores.csv"),
            "ml": {"fine_tune": True, "joint": True, "folds": 2, "training": training},
            "evaluation": {"bootstrap_draws": 100},
        }
    )
    run = pipeline.fit(pipeline.check(config), config)
    seen = run.train_prediction
    assert seen.sources == ("ml", "llm", "joint")
    targets = run.dataset.targets[run.split.train].argmax(axis=1)
    right = {
        name: (signal.take(run.split.train).scores.argmax(axis=1) == targets).mean()
        for name, signal in run.signals.items()
    }
    assert right["joint"] > right["ml"]
    assert right["joint"] >= right["llm"] - 0.05
