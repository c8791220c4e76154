"""Routing: thresholds come from out-of-fold rows, are kept with the model, and are obeyed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion import AutoFusionClassifier, RunConfig, pipeline
from labelfusion.classifier import FusedClassifier, score_sent
from labelfusion.errors import ConfigError, RunError
from labelfusion.evaluation.certificate import Certificate
from labelfusion.evaluation.frontier import SEND_ALL, SEND_NONE, Routable, make_frontier
from labelfusion.evaluation.metrics import exact_match
from labelfusion.fusion.model import FusionModel
from labelfusion.fusion.routing import FILE, RoutingPolicy, always, choose_policy, fit_routing
from labelfusion.types import Rows, Signal
from tests.signals import draw_signal, draw_targets, space
from tests.test_frontier import draw_rows

TICKETS = Path(__file__).parent.parent / "sample_data" / "tickets.csv"
SCORES = TICKETS.with_name("tickets_llm_scores.csv")


def config(**routing: object) -> RunConfig:
    return RunConfig.from_dict(
        {
            "data": {"path": str(TICKETS), "id_column": "id", "label_column": "label"},
            "encoder": "tfidf",
            "llm_scores": str(SCORES),
            "evaluation": {"bootstrap_draws": 100},
            "fusion": {"cv_repeats": 1},
            "routing": routing,
        }
    )


def fitted(n: int = 400, seed: int = 1, **kinds: float) -> tuple[FusionModel, np.ndarray]:
    targets = draw_targets(n, 3, seed)
    strengths = kinds or {"ml": 2.0, "llm": 3.5}
    signals = {
        name: draw_signal(name, targets, seed + i + 1, strength=strength)
        for i, (name, strength) in enumerate(strengths.items())
    }
    return FusionModel.fit(signals, targets, space=space(3)), targets


@pytest.fixture(scope="module")
def model() -> tuple[FusionModel, np.ndarray]:
    return fitted()


def test_always_and_never_are_the_ends(model: tuple[FusionModel, np.ndarray]) -> None:
    for policy, share in (("always", 1.0), ("never", 0.0)):
        found = fit_routing(*model, config(policy=policy)).policy
        assert (found.policy, found.share) == (policy, share)
        assert found.sent(np.array([-2.0, -1.0, 0.0, 1.0])).tolist() == [bool(share)] * 4


def test_margin_sends_the_least_that_keeps_the_accuracy(
    model: tuple[FusionModel, np.ndarray],
) -> None:
    routing = fit_routing(*model, config(policy="margin", max_accuracy_loss=0.01))
    policy, frontier = routing.policy, routing.frontier
    assert frontier is not None
    at = [point.threshold for point in frontier.points].index(policy.threshold)
    assert all(point.loss <= 0.01 for point in frontier.points[at:])
    assert 400 * frontier.points[at - 1].loss + 1 > 401 * 0.01
    assert 0 < policy.share < 1
    assert frontier.points[at].lead_interval[0] > 0
    assert "400 labelled texts" in policy.reason


def test_the_loss_on_new_texts_is_tolerated_on_average_and_few_labels_send_all() -> None:
    settings = config(policy="margin", max_accuracy_loss=0.02).routing
    rng = np.random.default_rng(0)
    population = draw_rows(100_000, 2, 3)
    lost = []
    for _ in range(60):
        drawn = rng.integers(0, len(population), 300)
        rows = Routable(*(part[drawn] for part in vars(population).values()))
        policy = choose_policy(rows, make_frontier(rows, draws=2), settings)
        lost.append((population.losses() * ~policy.sent(population.margin)).mean())
        assert policy.share < 1
    assert 0.005 < np.mean(lost) < 0.02
    few = draw_rows(40, 2, 4)
    found = choose_policy(few, make_frontier(few, draws=2), settings)
    assert (found.policy, found.share) == ("always", 1)
    assert "40 labelled texts" in found.reason


@settings(max_examples=25, deadline=None)
@given(
    share=st.floats(0, 1),
    usd=st.floats(0, 20),
    seed=st.integers(0, 1000),
    n=st.integers(1, 100),
)
def test_a_budget_is_kept(share: float, usd: float, seed: int, n: int) -> None:
    targets = draw_targets(n, 2, seed)
    rng = np.random.default_rng(seed)
    cheap, full = (rng.random((n, 2)) < 0.5 for _ in range(2))
    rows = Routable(targets, rng.random(n).round(1), cheap, full)
    settings = config(policy="budget", share=share, usd_per_1000=usd, usd_per_text=0.01).routing
    policy = choose_policy(rows, make_frontier(rows, draws=2), settings)
    assert policy.share == policy.sent(rows.margin).mean()
    assert policy.share <= share + 1e-9
    assert 1000 * policy.share * 0.01 <= usd + 1e-9


def test_a_budget_needs_what_it_is_held_against() -> None:
    with pytest.raises(ConfigError, match="usd_per_1000 or share"):
        config(policy="budget")
    with pytest.raises(ConfigError, match="usd_per_text"):
        config(policy="budget", usd_per_1000=1.0)
    with pytest.raises(ConfigError, match=r"ml\.encoder"):
        config(policy="margin").updated({"ml.encoder": "none"})


def test_a_certificate_that_cannot_be_given_sends_everything(
    model: tuple[FusionModel, np.ndarray],
) -> None:
    refused = fit_routing(*model, config(policy="margin", certified=True)).policy
    assert (refused.policy, refused.threshold, refused.share) == ("always", SEND_ALL, 1.0)
    assert "too few" in refused.reason
    given = fit_routing(
        *model, config(policy="margin", certified=True, max_accuracy_loss=0.05)
    ).policy
    plain = fit_routing(*model, config(policy="margin", max_accuracy_loss=0.05)).policy
    assert given.certificate is not None
    assert given.certificate.certified
    assert plain.share <= given.share < 1


def test_where_there_is_nothing_to_route_it_says_so() -> None:
    alone, targets = fitted(60, ml=2.0)
    without_llm = config().model_copy(update={"llm": []})
    assert "no LLM" in fit_routing(alone, targets, without_llm).policy.reason
    only_llm, targets = fitted(60, llm=2.0)
    assert "no encoder" in fit_routing(only_llm, targets, config()).policy.reason
    unlabelled, targets = fitted(0)
    for policy, expected in (("margin", "always"), ("budget", "never")):
        found = fit_routing(unlabelled, targets, config(policy=policy, share=0.5))
        assert (found.policy.policy, found.frontier) == (expected, None)
        assert "no labelled texts" in found.policy.reason
        assert found.to_dict()["frontier"] == []


def test_rows_without_a_held_out_margin_are_left_out() -> None:
    targets = draw_targets(400, 3, 5)
    llm = draw_signal("llm", targets, 6, strength=3.5)
    whole = {"ml": draw_signal("ml", targets, 7), "llm": llm}
    held_out = np.arange(400) < 200
    scores = np.where(held_out[:, None], whole["ml"].scores, np.nan)
    half = whole | {"ml": Signal("ml", scores, "logits", held_out)}
    settings = config(policy="margin", max_accuracy_loss=0.05)
    found = [
        fit_routing(FusionModel.fit(signals, targets, space=space(3)), targets, settings)
        for signals in (whole, half)
    ]
    assert [routing.frontier.rows for routing in found] == [400, 200]
    assert abs(found[0].policy.share - found[1].policy.share) < 0.2
    assert found[1].policy.share < 0.8


POLICIES = st.builds(
    RoutingPolicy,
    policy=st.sampled_from(["always", "never", "margin", "budget"]),
    threshold=st.floats(SEND_NONE, SEND_ALL),
    share=st.floats(0, 1),
    reason=st.text(),
    certificate=st.none()
    | st.builds(
        Certificate,
        *(st.floats(0, 1) for _ in range(4)),
        st.integers(0, 10**6),
        *(st.floats(0, 1) for _ in range(2)),
        st.none() | st.integers(1, 10**6),
        st.text(),
    ),
)


@settings(max_examples=50, deadline=None)
@given(policy=POLICIES)
def test_a_policy_survives_json(policy: RoutingPolicy) -> None:
    assert RoutingPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


def test_a_policy_file_that_is_absent_damaged_or_newer(tmp_path: Path) -> None:
    assert RoutingPolicy.load(tmp_path).policy == "always"
    always("because").save(tmp_path)
    assert RoutingPolicy.load(tmp_path) == always("because")
    for text in ("{", "[]", '{"format": 1}', '{"format": 99}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(RunError, match="routing policy cannot be read"):
            RoutingPolicy.load(tmp_path)


class Asked:
    """Scores texts as an LLM would, and remembers which."""

    def __init__(self, k: int) -> None:
        self.k, self.texts = k, []

    def __call__(self, rows: Rows) -> Signal:
        self.texts += rows.texts
        scores = np.full((len(rows), self.k), 1 / self.k)
        return Signal("llm", scores, "probabilities", np.ones(len(rows), dtype=bool))


@pytest.fixture(scope="module")
def run() -> pipeline.FittedRun:
    settings = config(policy="budget", share=0.4, usd_per_text=0.001)
    dataset = pipeline.check(settings)
    return pipeline.fit(dataset.take(np.arange(200)), settings)


def test_a_saved_classifier_asks_only_about_the_texts_it_sends(
    run: pipeline.FittedRun, tmp_path: Path
) -> None:
    run.classifier.save(tmp_path)
    loaded = FusedClassifier.load(tmp_path)
    test = run.split.test
    rows = Rows([str(i) for i in test], [*(run.dataset.texts[i] for i in test[:-1]), " "])
    sent = loaded.route(rows)
    assert (sent == loaded.route(rows, loaded.encode(rows))).all()
    assert sent[-1], "nothing cheap is known of an empty text"
    assert 0.2 < sent.mean() < 0.6
    ask = Asked(len(run.dataset.space))
    signal = score_sent(sent, rows, loaded.space, ask, "llm")
    assert ask.texts == [rows.texts[i] for i in np.flatnonzero(sent)]
    prediction = loaded.predict(rows, {"llm": signal})
    assert (prediction.present[:, 1] == sent).all()
    assert loaded.route(rows, override="always").all()
    assert not loaded.route(rows, override="never").any()
    score_sent(np.zeros(len(rows), dtype=bool), rows, loaded.space, ask, "llm")
    assert len(ask.texts) == sent.sum()


def test_the_report_holds_the_frontier_and_the_headline_stays_full_fusion(
    run: pipeline.FittedRun,
) -> None:
    found = run.report["routing"]
    assert found["policy"] == "budget"
    assert found["threshold"] == run.classifier.routing.threshold
    assert 2 <= len(found["frontier"]) <= 50
    assert found["frontier"][-1]["usd_per_1000"] == pytest.approx(1)
    for rows, prediction, accuracy in (
        (run.split.train, run.train_prediction, found["frontier"][-1]["accuracy"]),
        (run.split.test, run.test_prediction, found["test"]["accuracy"] + found["test"]["loss"]),
    ):
        whole = exact_match(run.dataset.targets[rows], prediction.decisions).mean()
        assert accuracy == pytest.approx(whole)
        assert prediction.present.all()
    assert run.report["systems"]["fusion"]["metrics"]["accuracy"] == pytest.approx(whole)
    assert 0.2 < found["test"]["share"] < 0.6
    json.dumps(found, allow_nan=False)


def test_the_estimator_routes_too(tmp_path: Path) -> None:
    frame = pd.read_csv(TICKETS, dtype=str)
    settings = config(policy="budget", share=0.25)
    model = AutoFusionClassifier(settings).fit(frame.iloc[:150])
    held_out = frame.iloc[150:300]
    asked = model.explain(held_out)["llm_present"].mean()
    assert 0.05 < asked < 0.5
    loaded = AutoFusionClassifier.load(model.save(tmp_path))
    assert (loaded.predict(held_out) == model.predict(held_out)).all()
    assert loaded.explain(held_out)["llm_present"].mean() == asked
    everything = {"llm": np.full((len(held_out), 7), 1 / 7)}
    assert model.explain(held_out, llm_scores=everything)["llm_present"].all()
