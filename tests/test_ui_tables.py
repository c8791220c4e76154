"""Tables, sentences and progress of the app, without Streamlit."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfusion.ui import charts, classify_charts, progress, tables
from tests.run_folders import write_run


@pytest.fixture
def report(tmp_path):
    return json.loads((write_run(tmp_path) / "metrics.json").read_text())


@pytest.fixture
def multi_label_report(tmp_path):
    return json.loads((write_run(tmp_path, multi_label=True) / "metrics.json").read_text())


def test_forest_reading_names_the_best_source_and_the_gain(report):
    metric = tables.primary_metric(report)
    values = tables.metric_table(report, metric).set_index("system")["value"]
    chart = charts.forest(tables.metric_table(report, metric), metric, 0.95)
    best = tables.best_source(report, metric)
    assert charts.system_name(best) in chart.reading
    assert f"{100 * (values['fusion'] - values[best]):+.1f} points" in chart.reading


def test_lower_is_better_for_a_loss(report):
    report["systems"]["ml"]["metrics"]["nll"] = 0.1
    nll = tables.metric_called("nll")
    assert tables.best_source(report, nll) == "ml"
    assert "worse than" in charts.forest(tables.metric_table(report, nll), nll, 0.95).reading


def test_a_metric_without_a_value_is_left_out(report):
    report["systems"]["llm"]["metrics"]["nll"] = None
    table = tables.metric_table(report, tables.metric_called("nll"))
    assert list(table["system"]) == ["fusion", "ml"]


def test_confusion_counts_add_up_and_shares_are_of_the_true_label(report):
    table = tables.confusion_table(report, "fusion")
    assert table["count"].sum() == report["n"]["test"]
    assert np.allclose(table.groupby("gold")["share"].sum(), 1)


def test_many_labels_show_the_most_confused_ones(tmp_path):
    labels = tuple(f"label{i}" for i in range(100))
    report = json.loads((write_run(tmp_path, labels=labels, n=3000) / "metrics.json").read_text())
    cells = tables.confusion_table(report, "ml")
    chart = charts.confusion(cells, list(labels), "ml")
    assert chart.table["gold"].nunique() == charts.MAX_CELLS
    wrong = cells[cells["gold"] != cells["predicted"]]
    errors = wrong.groupby("gold")["count"].sum() + wrong.groupby("predicted")["count"].sum()
    shown = set(chart.table["gold"])
    assert errors[list(shown)].min() >= errors.drop(list(shown)).max()
    assert len(charts.label_f1(tables.per_label_table(report), ["ml", "llm"]).table) == 30


def test_multi_label_counts(multi_label_report):
    table = tables.binary_confusion_table(multi_label_report, "fusion")
    counts = table[["found", "missed", "wrongly given", "rightly not given"]].sum(axis=1)
    assert (counts == multi_label_report["n"]["test"]).all()
    assert tables.metrics_of(multi_label_report)[0].name == "Exact match"
    assert "missed" in charts.label_counts(table, "fusion").reading


def test_rows_of_a_cell_are_those_counted_in_it(tmp_path):
    folder = write_run(tmp_path)
    report = json.loads((folder / "metrics.json").read_text())
    predictions = pd.read_parquet(folder / "predictions.parquet")
    labels = report["task"]["labels"]
    for cell in tables.confusion_table(report, "fusion").to_dict("records"):
        pair = (cell["gold"], cell["predicted"])
        rows = tables.rows_in_cells(predictions, [pair], labels)
        assert len(rows) == cell["count"]
        assert rows["probability"].is_monotonic_increasing


def test_the_chosen_candidate_is_marked_and_the_best_loss_comes_first(report):
    table = tables.candidates_table(report)
    assert table.loc[table["chosen"], "name"].tolist() == ["log_pool"]
    assert table["log_loss"].is_monotonic_increasing
    assert charts.candidates(table).reading.startswith("log_pool was chosen")


@given(st.lists(st.text(), min_size=1))
def test_no_csv_cell_starts_a_formula_and_none_is_lost(cells):
    table = pd.DataFrame({"text": cells, "number": -1.5})
    text = tables.safe_csv(table).decode("utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert [row[1] for row in rows] == ["-1.5"] * len(cells)
    for row, cell in zip(rows, cells, strict=True):
        assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row[0] in (cell, f"'{cell}")


def test_one_colour_a_source_everywhere():
    colours = charts.source_colours(["fusion", "ml", "llm", "other", "second"])
    assert len(set(colours.values())) == 5
    assert charts.source_colours(["ml"])["ml"] == colours["ml"]


def _event(stage, status, second, done=0, total=0):
    time = f"2026-01-31T10:00:{second:02}+00:00"
    return {"stage": stage, "status": status, "time": time, "done": done, "total": total}


def test_progress_says_rate_and_time_left():
    events = [_event("ml", "progress", 0, 0, 100), _event("ml", "progress", 10, 20, 100)]
    stage = next(s for s in progress.stages(events, "running") if s.state == "running")
    assert (stage.rate, stage.left, stage.share) == (2.0, 40.0, 0.2)


@pytest.mark.parametrize(
    ("run_state", "started", "unseen"),
    [
        ("running", "running", "waiting"),
        ("failed", "stopped", "waiting"),
        ("finished", "done", "not needed"),
    ],
)
def test_a_stage_reads_by_the_state_of_its_run(run_state, started, unseen):
    check, split, *_ = progress.stages([_event("check", "start", 0)], run_state)
    assert (check.state, split.state) == (started, unseen)


def _scored(source, status, **data):
    counts = {"source": source, "done": 0, "cached": 0, "failed": 0, "rate": 0.0, "eta": None}
    event = _event("llm", status, 0, total=100)
    return event | {"data": counts | {"spent": None, "unpriced": 0} | data}


def test_the_scoring_of_each_llm_reads_as_counts_and_the_spend_is_the_runs():
    events = [
        _scored("llm", "progress", done=50, cached=10, rate=8.0, eta=6.0, spent=0.1),
        _scored("llm", "done", done=98, cached=10, failed=2, rate=8.0, eta=0.0, spent=0.2),
        _scored("llm2", "start", done=30, cached=30, spent=0.2),
        _scored("llm2", "progress", done=40, cached=30, rate=5, eta=12, spent=0.25, unpriced=3),
    ]
    first, second = progress.scorings(events)
    assert first.words() == "98 of 100 texts · 10 from the cache · 2 without a score · 8.0 a second"
    assert second.words().endswith("5.0 a second · 12 s left")
    assert (first.share, second.share) == (1.0, 0.4)
    assert progress.spent(events) == (Decimal("0.25"), 3)
    assert progress.stages(events, "running")[3].state == "running"
    assert progress.stages(events[:2], "running")[3].state == "done"


def test_recorded_scores_are_no_scoring_and_cost_nothing():
    event = _event("llm", "done", 0, 10, 10) | {"data": {"source": "llm", "cached": 0}}
    assert progress.scorings([event]) == []
    assert progress.spent([event]) is None


def test_durations_read_well():
    shown = [progress.duration(seconds) for seconds in (None, 8.2, 200, 7500)]
    assert shown == ["–", "8 s", "3 min 20 s", "2 h 5 min"]


def test_the_fusion_is_a_ring_that_leaves_what_is_beneath_it_to_be_seen():
    marks = charts.markers(["ml", "llm", "fusion"])
    assert marks["fusion"]["symbol"] == "circle-open"
    assert len({mark["symbol"] for mark in marks.values()}) == 3
    assert all(mark["size"] < marks["fusion"]["size"] for mark in (marks["ml"], marks["llm"]))


def test_a_text_among_a_hundred_labels_is_shown_with_the_likeliest():
    names = tuple(f"a label with a name of some length, {i}" for i in range(100))
    p = np.linspace(0.0, 0.02, 100)
    chart = classify_charts.probabilities({"fusion": p, "ml": p[::-1]}, names)
    bars = chart.figure.data[0]
    assert len(set(bars.y)) == classify_charts.LIKELIEST
    assert bars.x.max() == pytest.approx(100 * p.max())
    assert "of 100 labels" in chart.title
    assert len(chart.table) == 100
