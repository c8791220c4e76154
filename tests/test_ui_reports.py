"""Figures and tables of the report pages, without Streamlit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from labelfusion.evaluation import curves
from labelfusion.evaluation.reliability import reliability
from labelfusion.ui import calibration_charts, calibration_tables, curve_charts, decisions
from labelfusion.ui.routing_charts import frontier, spend
from labelfusion.ui.tables import metric_called
from tests.evaluation_data import make_space, make_system, make_targets


@pytest.fixture
def overconfident():
    """A report of one source whose raw scores are far too sure, and of which half were mended."""
    space = make_space(3, False)
    y = make_targets(600, 3, False)
    fair = make_system(y, False).probabilities
    sharp = fair**6 / (fair**6).sum(axis=1, keepdims=True)
    kept = {w: reliability(y, p, space, 0.95) for w, p in (("before", sharp), ("after", fair))}
    quality = {"nll": 1.0, "brier": 0.5, "ece_classwise": 0.1, "ece_mass": 0.2}
    entry = {"chosen": "temperature", "before": quality, "after": quality | {"nll": 0.5}}
    system = {"metrics": quality, "reliability": kept["after"]}
    return {
        "task": {"multi_label": False, "labels": list(space.names), "primary": "accuracy"},
        "systems": {"llm": system, "fusion": system},
        "calibration": {"llm": entry | {"reliability": kept}},
    }


def test_reliability_reads_what_it_draws_the_right_way_up(overconfident):
    before, after = calibration_tables.diagrams(overconfident, "llm", None)
    chart = calibration_charts.reliability(before, "llm", None)
    assert chart.reading.endswith("over-confident.")
    assert chart.title == "LLM, before calibration"
    assert chart.table["count"].sum() == sum(before.histogram) == sum(after.histogram) == 600
    axis = chart.figure.layout.yaxis
    assert axis.autorange is False
    assert axis.range[0] < axis.range[1]
    assert chart.figure.layout.yaxis2.autorange is True


def test_a_label_has_a_diagram_of_its_own(overconfident):
    label = overconfident["task"]["labels"][0]
    bins = calibration_tables.diagrams(overconfident, "llm", label)[0].bins
    assert bins == overconfident["calibration"]["llm"]["reliability"]["before"]["labels"][label]


def test_labels_are_ranked_by_how_far_off_they_are(overconfident):
    table = calibration_tables.label_table(overconfident, "llm")
    assert table["calibration error"].is_monotonic_decreasing
    assert table["texts with it"].sum() == 600


@pytest.mark.parametrize(
    ("nll", "verdict"), [(0.5, "it helped"), (1.5, "it did not help on these texts")]
)
def test_why_says_whether_it_helped(overconfident, nll, verdict):
    overconfident["calibration"]["llm"]["after"]["nll"] = nll
    *_, changed = calibration_tables.why(overconfident, "llm")
    assert changed.endswith(f"{verdict}.")
    assert calibration_tables.why({"calibration": {}}, "llm") == [
        "This run did not keep which calibrator it chose."
    ]


def point(share, **more):
    ends = {"accuracy_interval": [0.7, 0.95], "macro_f1_interval": [0.6, 0.9]}
    values = {"share": share, "threshold": share, "accuracy": 0.8 + share / 10, "macro_f1": 0.7}
    values |= {"random_accuracy": 0.8, "random_macro_f1": 0.7, "loss": 0, "lead": 0}
    return values | ends | {"usd_per_1000": None, "seconds": None} | more


def test_the_frontier_is_over_money_once_it_is_known():
    accuracy = metric_called("accuracy")
    unpriced = frontier([point(0.0), point(1.0)], accuracy, 1, 0, 80)
    assert "sent" in unpriced.title
    assert "usd_per_1000" not in unpriced.table
    assert "+10.0 points against the same share sent at random" in unpriced.reading
    paid = [point(0.0, usd_per_1000=0.0), point(1.0, usd_per_1000=3.0)]
    chart = frontier(paid, accuracy, 1, 0, 80)
    assert "cost" in chart.title
    assert chart.figure.data[2].x == (0.0, 3.0)
    assert chart.figure.layout.yaxis.autorange is True


def test_the_ledgers_reading_names_the_dearest_and_what_has_no_price():
    table = pd.DataFrame(
        {"model": ["a", "b", "c"], "money ($)": [1.0, 3.0, None]}
        | {"requests of unknown price": [0, 0, 7]}
    )
    reading = spend(table, "model").reading
    assert "the most by model is b with $3.0000 (75 %)" in reading
    assert "7 requests have no known price" in reading
    nothing = spend(table.assign(**{"money ($)": 0.0}), "model")
    assert nothing.reading.startswith("Nothing has been paid")


def make_rows(multi_label):
    space, y = make_space(3, multi_label), make_targets(300, 3, multi_label)
    out = make_system(y, multi_label)
    gold, given = y.astype(bool), out.decisions
    return decisions.Rows(space.names, gold, out.probabilities, given, np.ones(300, bool))


def test_curves_are_drawn_the_right_way_up():
    rows = make_rows(False)
    observed, scores = rows.pairs("label1")
    points = pd.DataFrame({"system": ["fusion"], "precision": 0.8, "recall": 0.7})
    points["false positive rate"] = 0.1
    found = curves.precision_recall(observed, scores), curves.roc(observed, scores)
    drawn = curve_charts.precision_recall(found[0], points, 0.3, "label1")
    other = curve_charts.roc(found[1], points, "label1")
    for chart in (drawn, other):
        axis = chart.figure.layout.yaxis
        assert (axis.autorange, axis.range[0] < axis.range[1]) == (False, True)
    assert f"{found[0].area:.3f}" in drawn.reading


def test_a_threshold_curve_says_what_each_threshold_gives():
    rows = make_rows(True)
    table = decisions.threshold_curve(rows, "label0")
    at = table.iloc[49]
    given = rows.probabilities[:, 0] >= at["threshold"]
    assert at["precision"] == pytest.approx(rows.targets[given, 0].mean())
    assert table["recall"].is_monotonic_decreasing
    best = table.loc[table["f1"] == table["f1"].max(), "threshold"]
    reading = curve_charts.threshold(table, "label0", 0.5, 0.6).reading
    assert f"{best.iloc[len(best) // 2]:.2f}" in reading


def test_operating_points_follow_from_the_confusion_counts():
    report = {
        "task": {"labels": ["a", "b"], "multi_label": False},
        "systems": {
            "fusion": {"confusion": [[8, 2], [1, 9]]},
            "ml": {"confusion": [[0, 0], [0, 0]]},
        },
    }
    fused = decisions.operating_points(report, "a").iloc[0]
    assert (fused["precision"], fused["recall"]) == pytest.approx((8 / 9, 0.8))
    assert fused["false positive rate"] == pytest.approx(0.1)
    together = decisions.operating_points(report, None).iloc[0]
    assert together["precision"] == together["recall"] == pytest.approx(0.85)
    multi = {"labels": ["a"], "multi_label": True}
    report = {"task": multi, "systems": {"fusion": {"confusion": [[5, 1, 2, 4]]}}}
    found = decisions.operating_points(report, "a").iloc[0]
    assert (found["precision"], found["recall"]) == pytest.approx((0.8, 4 / 6))
