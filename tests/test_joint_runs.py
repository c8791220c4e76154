"""Runs with a joint source: trained by YAML, resumed, routed, saved and predicted with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from labelfusion import pipeline
from labelfusion.classifier import FusedClassifier
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.errors import ConfigError, InputError
from labelfusion.estimator import AutoFusionClassifier
from labelfusion.pipeline import signals
from labelfusion.predict_file import Wishes, label_rows, result_table
from labelfusion.runs import ResultsManager
from labelfusion.types import Event, LabelSpace, Rows
from labelfusion.ui.progress import stages
from labelfusion.workspace import Workspace
from tests.command_line import labelfusion
from tests.fine_tuning import SPACE, run_settings, word_rows

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SAMPLES = Path(__file__).parent.parent / "sample_data"
ASPECTS = LabelSpace(("a", "b", "c"), multi_label=True)


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


@pytest.mark.parametrize("space", [SPACE, ASPECTS], ids=["multi-class", "multi-label"])
def test_run_by_yaml_has_a_joint_source_and_predicts_with_it(space, joint_run, tmp_path):
    settings = joint_run(space, share=0.8) | {"fusion": {"method": "joint", "cv_repeats": 1}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    workspace = tmp_path / "workspace"
    labelfusion("train", "--config", "run.yaml", "--workspace", workspace, cwd=tmp_path)
    run = ResultsManager(Workspace.at(workspace)).open("last")
    assert list(run.metrics["systems"]) == ["ml", "llm", "joint", "fusion"]
    assert run.metrics["choice"]["chosen"] == "joint"
    made, rows = run.signals, run.splits["split"].isin(["train", "test"]).to_numpy()
    np.testing.assert_array_equal(made["joint"].present[rows], made["llm"].present[rows])
    assert 0.6 < made["joint"].present[rows].mean() < 0.95
    assert made["ml"].present[rows].all()
    assert "FusionMLP" in made["joint"].origin
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
    unasked = result_table(label_rows(run, tmp_path / "data.csv", Wishes("never"), workspace=place))
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

    monkeypatch.setattr(signals, "cross_fit_jointly", refuse)
    monkeypatch.setattr(signals, "score_llm", refuse)
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
