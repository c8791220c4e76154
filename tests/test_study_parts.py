"""What studies are made of: nested subsets, cells on disk, figures over seeds, plots."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelfusion.errors import ConfigError, InputError
from labelfusion.evaluation.comparison import mcnemar_exact
from labelfusion.studies import Options, parse_sizes
from labelfusion.studies.cells import Cell, CellLog, as_frame
from labelfusion.studies.pages import figure
from labelfusion.studies.plots import Plot, Series, style
from labelfusion.studies.samples import nested_order, subset_sizes
from labelfusion.studies.statistics import against_best_source, interval, mean_ranks, over_seeds
from labelfusion.studies.svg import MAX_TICKS, nice_ticks, svg
from labelfusion.studies.systems import packed, unpacked

classes = st.lists(st.integers(0, 4), min_size=1, max_size=80)


def indicators(codes):
    return np.eye(5, dtype=np.int8)[np.array(codes)]


@given(classes, st.integers(0, 50))
def test_every_prefix_is_stratified_and_contains_the_smaller_ones(codes, seed):
    order = nested_order(indicators(codes), seed)
    assert sorted(order.tolist()) == list(range(len(codes)))
    counts = np.bincount(codes, minlength=5)
    taken = np.array(codes)[order]
    for m in range(1, len(codes) + 1):
        found = np.bincount(taken[:m], minlength=5)
        assert (found <= counts * m / len(codes) + 1 + 1e-9).all()
        if m >= (counts > 0).sum():
            assert ((found > 0) == (counts > 0)).all()


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 40), st.just(4)), elements=st.integers(0, 1)))
def test_rows_with_several_labels_or_none_are_ordered_too(targets):
    order = nested_order(targets, 3)
    assert sorted(order.tolist()) == list(range(len(targets)))
    groups = {tuple(row) for row in targets}
    seen = targets[order][: min(len(targets), 5)].any(axis=0)
    # A label alone in its rows is a group of its own, so the first rows show it.
    alone = {row.index(1) for row in groups if sum(row) == 1}
    assert all(seen[j] for j in alone if len(targets) >= 5 and targets[:, j].sum() == 1)


def test_seeds_draw_other_rows():
    targets = indicators([0, 1, 2, 3, 4] * 10)
    assert nested_order(targets, 1).tolist() != nested_order(targets, 2).tolist()
    assert nested_order(targets, 1).tolist() == nested_order(targets, 1).tolist()


def test_sizes_are_counts():
    assert subset_sizes(parse_sizes("5%, 0.5,100%,20"), 100, least=10) == [10, 20, 50, 100]
    for asked in ([101], [5], []):
        with pytest.raises(InputError, match="sizes"):
            subset_sizes(asked, 100, least=10)
    for text in ("many", "150%", "-3"):
        with pytest.raises(ConfigError, match=r"5%"):
            subset_sizes(parse_sizes(text), 100, least=10)


@pytest.mark.parametrize("settings", [{"seeds": 0}, {"rows": 3}])
def test_too_little_is_said(settings):
    with pytest.raises(ConfigError, match="at least"):
        Options(**settings)


def test_a_half_written_cell_costs_itself_only(tmp_path):
    log = CellLog(tmp_path / "cells.jsonl")
    first, second = Cell({"seed": 1}), Cell({"seed": 2})
    log.append(first.key("a"), first, [{"nll": 0.5}], 1.0)
    with log.path.open("a") as file:
        file.write('{"key": "half", "rows": [{"nl')
    log.append(second.key("a"), second, [{"nll": float("nan")}], 1.0)
    assert log.rows() == {first.key("a"): [{"nll": 0.5}], second.key("a"): [{"nll": None}]}
    frame = as_frame([second, first], log.rows(), "a")
    assert frame["seed"].tolist() == [2, 1]
    assert as_frame([first], log.rows(), "b").empty


def test_a_key_depends_on_everything_told():
    cell = Cell({"seed": 1}, {"draws": 100})
    others = [Cell({"seed": 2}, {"draws": 100}), Cell({"seed": 1}, {"draws": 200})]
    keys = {each.key("a") for each in [cell, *others]} | {cell.key("b")}
    assert len(keys) == 4
    assert cell.key("a") == Cell({"seed": 1}, {"draws": 100}).key("a")


@given(st.lists(st.booleans(), max_size=40))
def test_which_rows_are_right_is_kept_exactly(right):
    assert unpacked(packed(np.array(right, dtype=bool)), len(right)).tolist() == right


def cells(accuracy):
    """accuracy: {system: value by seed}; each has 10 test rows."""
    return pd.DataFrame(
        [
            {"system": system, "size": 20, "seed": seed, "accuracy": value, "test_rows": 10}
            | {"right": packed(np.arange(10) < round(10 * value))}
            for system, values in accuracy.items()
            for seed, value in enumerate(values)
        ]
    )


def test_means_intervals_and_ranks_over_seeds():
    frame = cells({"a": [0.5, 0.7, 0.6], "b": [0.5, 0.8, 0.9]})
    table = over_seeds(frame, ["size", "system"], ["accuracy", "absent"])
    a = table.iloc[0]
    assert (a["system"], a["seeds"]) == ("a", 3)
    assert a["accuracy"] == pytest.approx(0.6)
    assert a["accuracy_sd"] == pytest.approx(0.1)
    # Student's t with 2 degrees of freedom: 4.3027 standard errors.
    assert a["accuracy_high"] - a["accuracy"] == pytest.approx(4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert mean_ranks(frame, "system", ["size", "seed"], "accuracy") == pytest.approx(
        {"b": 3.5 / 3, "a": 5.5 / 3}
    )


def test_one_seed_has_no_interval():
    assert np.isnan(interval(np.array([0.5]))).all()
    table = over_seeds(cells({"a": [0.5]}), ["system"], ["accuracy"])
    assert np.isnan(table["accuracy_sd"].iloc[0])


def test_fusion_is_held_against_the_source_that_is_best_in_hindsight():
    frame = cells({"ml": [0.3, 0.3], "llm": [0.6, 0.4], "auto": [0.8, 0.6]})
    (record,) = against_best_source(frame, "auto", ["ml", "llm"], "accuracy")
    assert record["best_source"] == "llm"
    assert record["gain"] == pytest.approx(0.2)
    assert (record["seeds_ahead"], record["worst_seed"]) == (2, pytest.approx(0.2))
    assert (record["only_fusion_right"], record["only_source_right"]) == (2, 0)
    assert record["mcnemar_p_median"] == mcnemar_exact(2, 0)


@settings(max_examples=50)
@given(st.floats(-1e4, 1e4), st.floats(1e-4, 1e4))
def test_ticks_are_few_and_inside(low, span):
    ticks = nice_ticks(low, low + span)
    assert 1 <= len(ticks) <= MAX_TICKS
    slack = 1e-9 * max(abs(low), span)
    assert low - slack <= ticks[0] <= ticks[-1] <= low + span + slack


nan = float("nan")
PLOTS = {
    "lines": Plot(
        "a",
        "A & B",
        "x",
        "y",
        [Series("one <two>", [10, 100], [0.1, 0.9], [0, nan], [1, nan])],
        ".",
    ),
    "log": Plot("a", "t", "x", "y", [Series("s", [10, 100], [0.5, 0.5])], ".", log_x=True),
    "dots": Plot(
        "a",
        "t",
        "x",
        "",
        [Series(n, [0, 1], [0.4, nan]) for n in "ab"],
        ".",
        "dots",
        names=["p", "q"],
    ),
    "one point": Plot("a", "t", "x", "y", [Series("s", [10], [0.5], [nan], [nan])], "."),
}


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_a_plot_is_a_well_formed_picture_with_finite_places(plot):
    drawn = svg(plot)
    root = ElementTree.fromstring(drawn)
    assert "nan" not in drawn.lower()
    circles = [e for e in root.iter() if e.tag.endswith("circle")]
    width, height = float(root.get("width")), float(root.get("height"))
    finite = sum(np.isfinite(y) for series in plot.series for y in series.y)
    assert len(circles) == finite
    assert all(
        0 <= float(c.get("cx")) <= width and 0 <= float(c.get("cy")) <= height for c in circles
    )
    assert plot.title in [e.text for e in root.iter()]


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_the_page_draws_the_same_values(plot):
    axis = "x" if plot.kind == "dots" else "y"
    for trace, series in zip(figure(plot).data, plot.series, strict=True):
        np.testing.assert_array_equal(np.array(trace[axis], dtype=float), series.y)
        assert trace.name == series.name


def test_many_systems_look_different():
    series = Series("s", [], [])
    assert len({style(series, i) for i in range(24)}) == 24
    assert style(Series("s", [], [], look=3), 0) == style(series, 3)
