"""What a source is worth: nothing, if another says the same; all, if it alone knows."""

from __future__ import annotations

import numpy as np
import pytest

from labelfusion.config import EvaluationConfig
from labelfusion.evaluation.source_value import error_overlap, overlap_sentence, source_values
from labelfusion.ui import source_charts
from tests.evaluation_data import make_space, make_system, make_targets

CONFIG = EvaluationConfig(bootstrap_draws=200)


@pytest.fixture(scope="module")
def entries():
    """Values of a source without which nothing changes, and of one without which half is lost."""
    y, space = make_targets(300, 3, False), make_space(3, False)
    good, bad = make_system(y, False, 0), make_system(np.roll(y, 1, axis=0), False, 1)
    without = {"needless": good, "needed": bad}
    used = dict.fromkeys(without, True)
    return source_values(y, good, without, used, space, metric="accuracy", config=CONFIG, seed=0)


def test_a_source_that_changes_nothing_can_be_dropped(entries):
    by_name = {entry["source"]: entry for entry in entries}
    assert by_name["needless"]["verdict"] == "drop"
    assert by_name["needless"]["sentence"].endswith("you can drop it and lose next to nothing.")
    assert by_name["needed"]["verdict"] == "adds"
    assert [entry["source"] for entry in entries] == ["needed", "needless"]


def test_the_figure_draws_points_and_reads_every_sentence(entries):
    chart = source_charts.values(entries, 0.95)
    drawn = [trace.x[0] for trace in chart.figure.data]
    assert drawn == pytest.approx([100 * entry["value"] for entry in entries])
    assert all(entry["sentence"] in chart.reading for entry in entries)
    assert chart.table["low"].le(chart.table["value"]).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([0, 1, 2, 3], "on the same texts more often than by chance"),
        ([4, 5, 6, 7], "where one is wrong, the other is more often right"),
        ([], "one of them is never wrong"),
    ],
)
def test_overlap_says_whether_errors_go_together(wrong, said):
    y = np.eye(2, dtype=np.int8)[np.zeros(10, dtype=int)]
    first, second = y.astype(bool), y.astype(bool)
    first[:4] = ~first[:4]
    second[wrong] = ~second[wrong]
    present = {"a": np.ones(10, dtype=bool), "b": np.ones(10, dtype=bool)}
    (entry,) = error_overlap(y, {"a": first, "b": second}, present)
    assert said in overlap_sentence(entry)
    assert source_charts.overlap_table([entry])["texts"].tolist() == [10]


def test_sources_that_never_answer_together_have_no_overlap():
    y = np.eye(2, dtype=np.int8)[np.zeros(4, dtype=int)]
    rows = np.arange(4) < 2
    (entry,) = error_overlap(y, dict.fromkeys("ab", y.astype(bool)), {"a": rows, "b": ~rows})
    assert "No test text was answered by both" in overlap_sentence(entry)
