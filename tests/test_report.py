"""The report is the JSON that metrics.json promises, at every size."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelfusion.config import EvaluationConfig
from labelfusion.errors import InputError
from labelfusion.evaluation import SystemOutput, build_report
from labelfusion.evaluation.report import before_and_after
from tests.evaluation_data import make_space, make_system, make_targets

CONFIG = EvaluationConfig(bootstrap_draws=200)
METRICS = {
    "accuracy", "macro_f1", "micro_f1", "weighted_f1", "samples_f1",
    "nll", "brier", "ece_classwise", "ece_mass", "ece_smooth",
}  # fmt: skip


def _report(n, k=3, multi_label=False, seed=0):
    y = make_targets(n, k, multi_label)
    systems = {
        "ml": make_system(y, multi_label, 1, skill=1),
        "llm": make_system(y, multi_label, 2, skill=2),
        "fusion": make_system(y, multi_label, 3, skill=3),
    }
    return build_report(y, systems, make_space(k, multi_label), config=CONFIG, seed=seed)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 80])
@pytest.mark.parametrize("k", [1, 3])
def test_the_report_is_strict_json_of_the_documented_shape(n, k, multi_label):
    report = _report(n, k, multi_label)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert set(report) == {"format", "task", "n", "systems", "comparisons"}
    assert report["task"]["primary"] == ("macro_f1" if multi_label else "accuracy")
    assert report["n"] == {"test": n}
    assert list(report["systems"]) == ["ml", "llm", "fusion"]
    assert list(report["comparisons"]) == ["ml", "llm"]
    for part in report["systems"].values():
        assert set(part["metrics"]) == METRICS
        assert set(part["intervals"]) == {"accuracy", "macro_f1", "micro_f1", "nll", "brier"}
        assert len(part["per_label"]) == len(part["confusion"]) == k
        assert (part["metrics"]["accuracy"] is None) == (n == 0)
        assert bool(part["reliability"]["overall"]) == (n > 0)


def test_intervals_hold_their_figure():
    for part in _report(80, 4, True)["systems"].values():
        for metric, (low, high) in part["intervals"].items():
            assert low <= part["metrics"][metric] <= high


def test_the_difference_is_fusion_minus_source():
    report = _report(80)
    for name, comparison in report["comparisons"].items():
        fusion, source = (report["systems"][s]["metrics"]["accuracy"] for s in ("fusion", name))
        assert comparison["difference"] == pytest.approx(fusion - source)
        gained = comparison["only_fusion_right"] - comparison["only_source_right"]
        assert comparison["difference"] == pytest.approx(gained / 80)


def test_the_same_seed_gives_the_same_report():
    assert _report(30, seed=5) == _report(30, seed=5)
    assert _report(30, seed=5) != _report(30, seed=6)


def test_thresholds_and_coverage_are_kept():
    part = _report(10, 3, True)["systems"]["ml"]
    assert part["coverage"] == 0.9
    assert [record["threshold"] for record in part["per_label"]] == [0.5] * 3


def test_without_fusion_there_is_nothing_to_compare():
    y = make_targets(10, 3, False)
    systems = {"ml": make_system(y, False)}
    report = build_report(y, systems, make_space(3, False), config=CONFIG, seed=0)
    assert report["comparisons"] == {}


def test_arrays_that_do_not_fit_are_refused():
    y = make_targets(10, 3, False)
    good = make_system(y, False)
    short = SystemOutput(good.probabilities[:9], good.decisions)
    with pytest.raises(InputError, match=r"shape \(10, 3\)"):
        build_report(y, {"ml": short}, make_space(3, False), config=CONFIG, seed=0)


def test_missing_probabilities_are_refused_with_the_row():
    y = make_targets(10, 3, False)
    good = make_system(y, False)
    p = good.probabilities.copy()
    p[4] = np.nan
    with pytest.raises(InputError, match=r"test row position 4.*class prior"):
        build_report(
            y, {"llm": SystemOutput(p, good.decisions)}, make_space(3, False), config=CONFIG, seed=0
        )


@pytest.mark.parametrize("n", [0, 80])
def test_calibration_is_told_before_and_after_with_its_diagrams(n):
    y, space = make_targets(n, 3, False), make_space(3, False)
    before = make_system(y, False).probabilities
    part = before_and_after(y, before, np.full((n, 3), 1 / 3), space, CONFIG)
    assert json.loads(json.dumps(part, allow_nan=False)) == part
    assert set(part) == {"before", "after", "reliability"}
    for when in ("before", "after"):
        diagram = part["reliability"][when]
        assert set(diagram["labels"]) == set(space.names)
        assert sum(b["count"] for b in diagram["overall"]) == n
    if n:
        assert part["after"]["nll"] == pytest.approx(np.log(3))
        assert part["after"]["nll"] != part["before"]["nll"]
