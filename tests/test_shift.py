"""Shift: few false alarms on texts of the same kind, and alarms on texts of another."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from labelfusion.config import MLConfig
from labelfusion.encoders.frozen import FrozenEncoder
from labelfusion.errors import RunError
from labelfusion.fusion.model import FusionModel
from labelfusion.predict_file import label_rows, result_table
from labelfusion.runs import ResultsManager, create_run
from labelfusion.shift import (
    Reference,
    find_unlike,
    make_reference,
    measure_drift,
    nearest_training,
)
from labelfusion.shift.reference import MAX_REFERENCE
from labelfusion.types import LabelSpace, Prediction, Signal
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.run_data import SAMPLE, small_config

SPACE = LabelSpace(("a", "b"), multi_label=False)
REVIEWS = pd.read_csv(SAMPLE / "reviews.csv")["text"].tolist()
TICKETS = pd.read_csv(SAMPLE / "tickets.csv")["text"].tolist()


def signals(rng, n, spread=1.0):
    truth = rng.integers(0, 2, n)
    return truth, {
        name: Signal(name, (2 * np.eye(2)[truth] - 1) + rng.normal(0, spread, (n, 2)), "logits",
                     np.ones(n, dtype=bool))
        for name in ("ml", "llm")
    }  # fmt: skip


def fitted(rng, n=200):
    truth, said = signals(rng, n)
    fusion = FusionModel.fit(said, truth, space=SPACE)
    return fusion, [(said, fusion.out_of_fold)]


def reference_of(texts, rng, encoder=None):
    fusion, unseen = fitted(rng)
    ids = [f"t{i}" for i in range(len(texts))]
    made = make_reference(encoder, texts, ids, ["a"] * len(texts), fusion, unseen, seed=0)
    assert made is not None
    return made, fusion


def compared(reference, fusion, texts, said, **options):
    features = reference.features(None, [t for t in texts if t.strip()])
    unlike = find_unlike(reference, texts, features, fusion=fusion, signals=said, **options)
    return unlike, measure_drift(reference, unlike, features, fusion.predict(said))


def of_vectors(vectors, fusion, unseen):
    """A reference of given vectors, as an encoder would have made them."""

    class Given(FrozenEncoder):
        def __init__(self):
            self.asked = 0

        def embed(self, texts, on_event=None):
            return vectors[[int(t) for t in texts]]

    texts = [str(i) for i in range(len(vectors))]
    return make_reference(Given(), texts, texts, texts, fusion, unseen, seed=0)


def unit(rng, n, centre=0.0):
    raw = rng.normal(size=(n, 8)) + centre
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("m", [20, 61, 150])
def test_at_most_alpha_of_exchangeable_texts_are_flagged(m):
    rng = np.random.default_rng(m)
    fusion, unseen = fitted(rng)
    flags, small_p = [], []
    for _ in range(60):
        reference = of_vectors(unit(rng, m), fusion, unseen)
        _, said = signals(rng, 40)
        new = [f"new {i}" for i in range(40)]
        unlike = find_unlike(reference, new, unit(rng, 40), fusion=fusion, signals=said, alpha=0.1)
        flags.append(unlike.flagged.mean())
        small_p.append((unlike.distance_p <= 0.1).mean())
    # 2,400 texts on 60 references: three standard errors of a rate near .1 are about .03.
    assert np.mean(flags) <= 0.13
    assert np.mean(small_p) == pytest.approx(0.1, abs=0.035)


def test_p_values_are_those_of_the_new_text_among_all():
    """Each p-value is the rank of the text among all texts, had it been one of them."""
    rng = np.random.default_rng(3)
    fusion, unseen = fitted(rng)
    vectors, new = unit(rng, 30), unit(rng, 5)
    reference = of_vectors(vectors, fusion, unseen)
    texts = [f"new {i}" for i in range(5)]
    unlike = find_unlike(reference, texts, new, fusion=fusion, signals={})
    for row, vector in enumerate(new):
        everything = np.vstack([vectors, vector])
        distances = np.maximum(1 - everything.astype(float) @ everything.T, 0)
        np.fill_diagonal(distances, np.inf)
        strange = np.sort(distances, axis=1)[:, :5].mean(axis=1)
        assert unlike.distance_p[row] == pytest.approx((strange >= strange[-1] - 1e-9).mean())
        assert unlike.distance[row] == pytest.approx(strange[-1], abs=1e-5)


def test_other_texts_are_found_and_like_ones_are_left_alone():
    rng = np.random.default_rng(0)
    reference, fusion = reference_of(TICKETS[:300], rng)
    _, said = signals(rng, 160)
    like, calm = compared(reference, fusion, TICKETS[300:460], said)
    other, drift = compared(reference, fusion, REVIEWS[:160], said)
    assert like.flagged.mean() < 0.1
    assert calm.verdict == "alike"
    assert "nothing to do" in calm.sentence
    assert np.median(other.distance_p) < np.median(like.distance_p) - 0.1
    assert drift.verdict in ("some unlike", "shifted")
    assert drift.share > drift.expected_share > calm.share - 0.02
    assert drift.distance_p < 0.001 < calm.distance_p
    assert "train again" in drift.sentence


def test_reviews_are_unlike_tickets_to_the_sentence_encoder():
    rng = np.random.default_rng(0)
    config = MLConfig(encoder="minilm")
    encoder = FrozenEncoder(config, SPACE, seed=0, cache_dir=None)
    reference, fusion = reference_of(TICKETS[:150], rng, encoder)
    _, said = signals(rng, 60)
    before = encoder.embedder.forwarded
    shares = []
    for texts in (TICKETS[150:210], REVIEWS[:60]):
        encoder.embed(texts)
        forwarded = encoder.embedder.forwarded
        features = reference.features(encoder, texts)
        assert encoder.embedder.forwarded == forwarded
        unlike = find_unlike(reference, texts, features, fusion=fusion, signals=said)
        shares.append((unlike.distance_p <= 0.05).mean())
    assert encoder.embedder.forwarded == before + 120
    assert shares[0] < 0.12
    assert shares[1] > shares[0] + 0.1


def test_sources_that_disagree_are_a_reason_unless_texts_were_picked():
    rng = np.random.default_rng(1)
    reference, fusion = reference_of(TICKETS[:200], rng)
    new, n = TICKETS[200:240], 40
    _, said = signals(rng, n)
    torn = said | {"llm": Signal("llm", -30 * np.sign(said["ml"].scores - said["ml"].scores.mean(
        axis=1, keepdims=True)), "logits", np.ones(n, dtype=bool))}  # fmt: skip
    unlike, _ = compared(reference, fusion, new, torn)
    assert "sources disagree" in " ".join(unlike.reasons)
    picked, _ = compared(reference, fusion, new, torn, selected=True)
    assert "sources disagree" not in " ".join(picked.reasons)
    assert np.isnan(picked.disagreement_p).all()


def test_empty_texts_are_not_judged_and_few_texts_say_so():
    rng = np.random.default_rng(2)
    reference, fusion = reference_of(TICKETS[:60], rng)
    _, said = signals(rng, 3)
    unlike, drift = compared(reference, fusion, ["", TICKETS[60], "  "], said)
    assert np.isnan(unlike.distance).tolist() == [True, False, True]
    assert not unlike.flagged[[0, 2]].any()
    assert drift.verdict == "too few"
    assert drift.distance_p is None
    assert drift.confidence is None
    _, said = signals(rng, 1)
    unlike, _ = compared(reference, fusion, [""], said)
    assert not unlike.flagged.any()


def test_drift_tells_confidence_and_labels():
    rng = np.random.default_rng(4)
    reference, fusion = reference_of(TICKETS[:200], rng)
    one_sided = {
        name: Signal(name, np.tile([6.0, -6.0], (150, 1)), "logits", np.ones(150, dtype=bool))
        for name in ("ml", "llm")
    }
    _, drift = compared(reference, fusion, TICKETS[200:350], one_sided)
    assert drift.confidence > drift.training_confidence
    assert drift.confidence_interval[0] > 0
    assert drift.label.share in (0.0, 1.0)
    assert drift.label.p_value < 0.01
    assert "more sure" in drift.sentence
    assert "The label" in drift.sentence
    lonely = {"ml": one_sided["ml"]}
    _, drift = compared(reference, fusion, TICKETS[200:350], lonely)
    assert drift.confidence is None
    assert drift.label is None
    assert "Confidence is not compared" in drift.sentence


def test_the_reference_is_bounded_and_read_back(tmp_path):
    rng = np.random.default_rng(5)
    texts = [f"{TICKETS[i % 460]} {i}" for i in range(MAX_REFERENCE + 300)]
    reference, fusion = reference_of(texts, rng)
    assert len(reference) == MAX_REFERENCE
    reference.save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20e6
    assert not any(text[:40] in (tmp_path / "shift.json").read_text() for text in texts)
    again = Reference.load(tmp_path)
    _, said = signals(rng, 20)
    first, _ = compared(reference, fusion, REVIEWS[:20], said)
    second, _ = compared(again, fusion, REVIEWS[:20], said)
    assert (first.distance_p == second.distance_p).all()
    assert first.reasons == second.reasons
    nearest = nearest_training(again, second, 0)
    assert nearest["similarity"].is_monotonic_decreasing
    assert set(nearest["id"]) <= {f"t{i}" for i in range(len(texts))}
    (tmp_path / "shift.safetensors").write_bytes(b"torn")
    with pytest.raises(RunError, match="delete both"):
        Reference.load(tmp_path)


def test_too_few_training_texts_make_no_reference():
    rng = np.random.default_rng(6)
    fusion, unseen = fitted(rng)
    assert make_reference(None, ["one", ""], ["1", "2"], ["a", "b"], fusion, unseen, seed=0) is None
    none = Prediction(
        SPACE, np.zeros((0, 2)), np.zeros((0, 2), bool), ("ml",), np.zeros((0, 1), bool)
    )
    made = make_reference(
        None, ["one", "two"], ["1", "2"], ["a", "b"], fusion, [({}, none)], seed=0
    )
    assert made is not None
    assert len(made.confidence) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    workspace = Workspace.at(folder / "ws")
    made = create_run(workspace, small_config(folder))
    work(made, workspace)
    return ResultsManager(workspace).open(made.id), workspace


def test_predict_writes_the_warning_and_an_older_model_does_without(run, tmp_path):
    found, workspace = run
    pd.DataFrame({"id": range(60), "text": REVIEWS[:60]}).to_csv(tmp_path / "new.csv")
    labelled = label_rows(found, tmp_path / "new.csv", workspace=workspace)
    table = result_table(labelled)
    assert table["unlike_training"].dtype == bool
    assert (table["unlike_training"] == (table["unlike_training_reason"] != "")).all()
    assert table["unlike_training"].sum() == labelled.drift.flagged
    older = tmp_path / "older"
    shutil.copytree(found.folder.path, older)
    for name in ("shift.json", "shift.safetensors"):
        (older / "model" / name).unlink()
    old = label_rows(
        ResultsManager(workspace).open(older), tmp_path / "new.csv", workspace=workspace
    )
    assert old.unlike is None
    assert old.drift is None
    assert "unlike_training" not in result_table(old)
    assert np.allclose(old.prediction.probabilities, labelled.prediction.probabilities)
