"""What asking costs and how that is known, and what is saved is what predictions obey."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from labelfusion.config import RunConfig
from labelfusion.costs import CostLine
from labelfusion.errors import RunError
from labelfusion.evaluation.frontier import SEND_ALL, SEND_NONE, AskingCost
from labelfusion.operating_point import (
    KnownCost,
    forecast,
    known_cost,
    nearest_point,
    policy_at,
    priced,
    save_policy,
    save_thresholds,
    saved_policy,
    saved_rule,
)
from labelfusion.runs import ResultsManager
from labelfusion.ui.decisions import rows_of
from tests.report_runs import reviews_run
from tests.run_folders import write_run

ASKED = {"source": "llm", "texts": 50, "requests": 10, "usd": 0.5, "unpriced": 0}
ASKED |= {"mean_latency_s": 2.0, "cached_texts": 0, "saved_usd": None}
NOBODY = ASKED | {"texts": 0, "requests": 0, "usd": 0, "mean_latency_s": 0}
POINT = {"threshold": 0.4, "share": 0.25, "accuracy": 0.9, "loss": 0.01}
LINE = CostLine("m", 5, 40, 0, 0, 0, 0, Decimal(1), 0, 3.0, 0, None)


def config(*names, **routing):
    llm = [{"provider": "openai", "model": "m", "name": name} for name in names or ("llm",)]
    return RunConfig.from_dict({"llm": llm, "routing": routing})


def test_the_config_comes_before_what_was_measured():
    known = known_cost(config(usd_per_text=0.2, seconds_per_text=9), [ASKED], {})
    assert known.cost == AskingCost(0.2, 9)
    assert "config" in known.usd_origin
    assert "config" in known.seconds_origin


def test_what_was_measured_is_a_mean_over_texts_and_requests():
    known = known_cost(config(), [ASKED], {})
    assert known.cost == AskingCost(0.01, 2.0)
    assert "50 texts" in known.usd_origin
    assert "10 requests" in known.seconds_origin
    assert known.parallel == 64


def test_sources_are_asked_one_after_the_other():
    records = [ASKED, ASKED | {"source": "second", "usd": 1.0}]
    assert known_cost(config("llm", "second"), records, {}).cost == AskingCost(0.03, 4.0)


@pytest.mark.parametrize(
    "record",
    [NOBODY, ASKED | {"unpriced": 1}, {"source": "another"}],
    ids=["asked nobody", "unknown price", "no record"],
)
def test_an_unknown_price_is_none_and_never_nothing(record):
    known = known_cost(config(), [record], {})
    assert known.cost.usd is None
    assert "unknown" in known.usd_origin
    assert priced(POINT, known.cost)["usd_per_1000"] is None
    assert forecast(POINT, 100, known).usd is None


def test_one_unknown_source_makes_the_sum_unknown():
    assert known_cost(config("llm", "second"), [ASKED], {}).cost == AskingCost(None, None)


def test_a_run_from_the_cache_is_priced_by_the_ledger():
    record = NOBODY | {"cached_texts": 20, "saved_usd": 0.4}
    known = known_cost(config(), [record], {"m": LINE})
    assert known.cost == AskingCost(0.02, 3.0)
    assert "cache" in known.usd_origin


def test_recorded_scores_have_no_price():
    recorded = RunConfig.from_dict({"llm": [{"provider": "recorded", "path": "s.csv"}]})
    known = known_cost(recorded, [NOBODY], {"m": LINE})
    assert known.cost == AskingCost(None, None)


def test_a_forecast_counts_the_texts_that_are_sent():
    known = KnownCost(AskingCost(0.01, 2.0), "", "", 8)
    found = forecast(POINT, 1000, known)
    assert (found.sent, found.usd, found.seconds) == (250, 2.5, 62.5)
    assert priced(POINT, known.cost)["usd_per_1000"] == 2.5
    assert priced(POINT, known.cost)["seconds"] == 0.5


@pytest.mark.parametrize(
    ("threshold", "policy"), [(SEND_NONE, "never"), (0.4, "margin"), (SEND_ALL, "always")]
)
def test_a_point_becomes_the_policy_that_sends_its_share(threshold, policy):
    share = {"never": 0.0, "margin": 0.25, "always": 1.0}[policy]
    made = policy_at(POINT | {"threshold": threshold, "share": share}, 80)
    assert (made.policy, made.threshold, made.share) == (policy, threshold, share)
    assert "80 labelled texts" in made.reason


def test_the_nearest_point():
    points = [{"share": share} for share in (0.0, 0.4, 1.0)]
    assert [nearest_point(points, "share", s) for s in (-3, 0.3, 0.8)] == [0, 1, 2]


def test_a_run_without_a_model_keeps_no_operating_point(tmp_path):
    folder = write_run(tmp_path)
    run = ResultsManager(tmp_path).open(folder.name)
    with pytest.raises(RunError, match="no model"):
        save_policy(run, policy_at(POINT, 80))
    with pytest.raises(RunError, match="no model"):
        saved_policy(run)


def test_saved_thresholds_decide_what_the_model_gives(tmp_path):
    run = ResultsManager(tmp_path).open(reviews_run(tmp_path))
    trained = saved_rule(run)
    rows = rows_of(run.predictions, run.metrics, "test")
    assert (rows.decided(trained) == rows.decisions).all()
    thresholds = trained.probabilities.copy()
    thresholds[0] = 0.99
    before = run.model()
    save_thresholds(run, thresholds)
    assert saved_rule(run).probabilities == pytest.approx(thresholds)
    assert saved_rule(run).at_least_one == trained.at_least_one
    after, signals = run.model(), {n: s.take(np.arange(20)) for n, s in run.signals.items()}
    fused, changed = before.fusion.predict(signals), after.fusion.predict(signals)
    assert (fused.probabilities == changed.probabilities).all()
    assert changed.decisions[:, 0].sum() <= fused.decisions[:, 0].sum()
    ml_only = {"ml": signals["ml"]}
    same = before.fusion.predict(ml_only).decisions == after.fusion.predict(ml_only).decisions
    assert same.all()
