"""The pipeline end to end: what enters the fusion, what resume means, what the report says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelfusion import pipeline
from labelfusion.classifier import FusedClassifier
from labelfusion.config import RunConfig
from labelfusion.errors import InputError
from labelfusion.pipeline import signals
from labelfusion.types import Event, Rows, Signal

SAMPLES = Path(__file__).parent.parent / "sample_data"


def config(name: str = "tickets", **settings: object) -> RunConfig:
    labels = {
        "tickets": {"label_column": "label"},
        "reviews": {
            "label_columns": [
                "comfort", "durability", "app_experience", "content",
                "value", "support", "setup", "results",
            ]
        },
    }  # fmt: skip
    values = {
        "data": {"path": str(SAMPLES / f"{name}.csv"), "id_column": "id", **labels[name]},
        "ml": {"encoder": "tfidf"},
        "llm_scores": str(SAMPLES / f"{name}_llm_scores.csv"),
        "evaluation": {"bootstrap_draws": 200},
    }
    return RunConfig.from_dict(values | settings)


class Memoriser:
    """An encoder that is certain of every text it was trained on, and guesses the others."""

    origin = "memoriser"

    def __init__(self, k: int) -> None:
        self.k = k
        self.seen: dict[str, np.ndarray] = {}

    def fit(self, texts: list[str], targets: np.ndarray, on_event: object = None) -> None:
        self.seen = {text: 20.0 * row for text, row in zip(texts, targets, strict=True)}

    def logits(self, texts: list[str], on_event: object = None) -> np.ndarray:
        guess = np.random.default_rng(0).normal(size=(len(texts), self.k))
        return np.array([self.seen.get(text, row) for text, row in zip(texts, guess, strict=True)])


@pytest.mark.parametrize("seed", range(3))
def test_a_memorised_signal_does_not_enter_the_fusion(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(seed=seed)
    dataset = pipeline.check(settings)
    monkeypatch.setattr(signals, "make_encoder", lambda _, space, **__: Memoriser(len(space)))
    run = pipeline.fit(dataset, settings)
    systems = run.report["systems"]
    assert systems["ml"]["metrics"]["accuracy"] < 0.4
    difference = systems["fusion"]["metrics"]["accuracy"] - systems["llm"]["metrics"]["accuracy"]
    assert difference >= -0.01
    in_sample = run.signals["ml"].take(run.split.train).scores.argmax(axis=1)
    gold = dataset.targets[run.split.train].argmax(axis=1)
    assert (in_sample == gold).mean() < 0.4


def test_fusion_beats_both_sources_on_the_tickets() -> None:
    gains = []
    for seed in range(3):
        settings = config(seed=seed)
        systems = pipeline.fit(pipeline.check(settings), settings).report["systems"]
        figures = {name: part["metrics"]["accuracy"] for name, part in systems.items()}
        gains.append(figures["fusion"] - max(figures["ml"], figures["llm"]))
    assert np.mean(gains) > 0.03


def test_multi_label_fusion_keeps_up_with_a_source_near_the_ceiling() -> None:
    settings = config("reviews")
    systems = pipeline.fit(pipeline.check(settings), settings).report["systems"]
    figures = {name: part["metrics"]["macro_f1"] for name, part in systems.items()}
    assert figures["fusion"] >= max(figures["ml"], figures["llm"]) - 0.005


def test_what_is_in_the_store_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config()
    dataset = pipeline.check(settings)
    store: dict[str, Signal] = {}
    whole = pipeline.fit(dataset, settings, store=store)
    assert set(store) == {"ml", "llm"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stored signal was made again")

    monkeypatch.setattr(signals, "cross_fit", refuse)
    monkeypatch.setattr(signals, "score_llm", refuse)
    again = pipeline.fit(dataset, settings, store=store)
    assert again.report == whole.report
    assert (
        again.test_prediction.probabilities.tolist() == whole.test_prediction.probabilities.tolist()
    )


def test_stages_are_told_in_order() -> None:
    events: list[Event] = []
    settings = config()
    pipeline.fit(pipeline.check(settings), settings, on_event=events.append)
    finished = [event.stage for event in events if event.status == "done"]
    assert finished == ["split", "ml", "llm", "fusion", "evaluate"]


def test_llm_scores_alone(tmp_path: Path) -> None:
    settings = config(ml={"encoder": "none"})
    run = pipeline.fit(pipeline.check(settings), settings)
    assert run.classifier.source_names == ("llm",)
    run.classifier.save(tmp_path / "model")
    loaded = FusedClassifier.load(tmp_path / "model")
    rows = Rows(ids=["1"], texts=["nobody scored this"])
    prediction = loaded.predict(rows)
    assert not prediction.present.any()
    prior = (run.dataset.targets[run.split.train].sum(axis=0) + 1) / (len(run.split.train) + 7)
    np.testing.assert_allclose(prediction.probabilities[0], prior)


def test_encoder_alone() -> None:
    values = config().to_dict() | {"llm": []}
    settings = RunConfig.from_dict(values)
    run = pipeline.fit(pipeline.check(settings), settings)
    assert run.report["choice"]["sources"] == ["ml"]
    fusion, ml = (run.report["systems"][name]["metrics"] for name in ("fusion", "ml"))
    assert fusion["accuracy"] >= ml["accuracy"] - 0.02


def test_partly_scored_rows_are_fused_by_what_they_have(tmp_path: Path) -> None:
    lines = (SAMPLES / "tickets_llm_scores.csv").read_text().splitlines()
    partial = tmp_path / "scores.csv"
    partial.write_text("\n".join([lines[0], *lines[1::2]]))
    settings = config(llm_scores=str(partial))
    run = pipeline.fit(pipeline.check(settings), settings)
    coverage = run.report["systems"]["llm"]["coverage"]
    assert 0.35 < coverage < 0.65
    fusion, ml = (run.report["systems"][name]["metrics"] for name in ("fusion", "ml"))
    assert fusion["accuracy"] > ml["accuracy"] + 0.1


def test_bad_scores_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    bad = tmp_path / "scores.csv"
    text = (SAMPLES / "tickets_llm_scores.csv").read_text()
    bad.write_text(text.replace("0.84", "lots", 1))
    with pytest.raises(InputError, match=r"row 3, column 'technical'.*'lots'"):
        pipeline.check(config(llm_scores=str(bad)))
