"""Slices: what was planted is found, and noise is not, at the rate that is stated."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from labelfusion.review import find_slices, slice_candidates
from labelfusion.review.slices import FALSE_SHARE, adjusted, newcombe
from labelfusion.review.words import find_words
from tests.review_data import simulated


def planted(n, where, seed=0):
    """Rows of which those in `where` (n,) err half of the time, the others at one in twenty."""
    return simulated(n, error=np.where(where, 0.5, 0.05), seed=seed)


def test_a_bad_value_of_a_column_is_found_first_with_an_interval_that_holds_the_truth():
    channel = np.random.default_rng(1).choice(["mail", "chat", "phone"], 900, p=[0.6, 0.25, 0.15])
    rows = planted(900, channel == "phone")
    rows = replace(rows, metadata=pd.DataFrame({"channel": channel}))
    found = find_slices(rows)
    assert found["slice"][0] == "channel: phone"
    first = found.loc[0]
    assert first["low"] < 0.45 < first["high"]
    assert first["errors"] == (~rows.right)[channel == "phone"].sum()


def test_a_bad_word_and_a_bad_pair_of_words_are_found():
    rng = np.random.default_rng(3)
    bad = rng.random(1500) < 0.08
    rows = planted(1500, bad)
    texts = tuple(f"{t} Parcel, lost!" if b else t for t, b in zip(rows.texts, bad, strict=True))
    found = find_slices(replace(rows, texts=texts))
    assert {found["slice"][0], *found["also"][0]} == {
        "words: parcel",
        "words: lost",
        "words: parcel lost",
    }


def test_long_texts_and_a_bad_label_are_found():
    rows = simulated(1500)
    long = np.arange(1500) % 5 == 0
    texts = tuple(t + " x" * 60 if at else t for t, at in zip(rows.texts, long, strict=True))
    spoilt = planted(1500, long | rows.gold[:, 1])
    rows = replace(rows, texts=texts, decided=rows.gold.copy())
    rows.decided[~spoilt.right] = np.roll(rows.gold[~spoilt.right], 1, axis=1)
    found = find_slices(rows)
    assert "label: delivery" in set(found["slice"])
    assert (found["kind"] == "length").any()


def test_noise_gives_slices_no_more_often_than_stated():
    hits = sum(not find_slices(simulated(400, seed=seed)).empty for seed in range(60))
    # At the stated rate more than 8 of 60 would come by chance in 1 of 500 trials.
    assert hits <= 8


def test_the_interval_of_a_slice_widens_with_what_else_was_looked_at():
    counts = [np.array([30]), np.array([100]), np.array([50]), np.array([1000])]
    alone = newcombe(*counts, FALSE_SHARE)
    among = newcombe(*counts, FALSE_SHARE / 500)
    assert among[0] < alone[0] < 0.25 < alone[1] < among[1]


def test_newcombe_agrees_with_the_published_example():
    # Newcombe (1998), table II, 56/70 against 48/80: .0524 to .3339.
    low, high = newcombe(np.array([56]), np.array([70]), np.array([48]), np.array([80]), 0.05)
    assert (low[0], high[0]) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_p_values_are_fishers():
    rows = planted(500, np.arange(500) % 3 == 0)
    wrong = int((~rows.right).sum())
    found = find_slices(rows, slice_candidates(rows), false_share=1.0)
    worse = found[found["excess"] > 0].head(5)
    assert len(worse) == 5
    for errors, size, p in worse[["errors", "rows", "p_value"]].itertuples(index=False):
        table = [[errors, size - errors], [wrong - errors, 500 - size - wrong + errors]]
        assert p == pytest.approx(fisher_exact(table, "greater").pvalue)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_p_values_are_monotone_and_never_smaller(values):
    p = np.array(values)
    q = adjusted(p)
    assert (q >= p - 1e-12).all()
    assert (q <= 1).all()
    assert (np.diff(q[np.argsort(p, kind="stable")]) >= -1e-12).all()


def test_slices_of_the_same_rows_are_one():
    rows = planted(900, np.arange(900) % 6 == 0)
    marks = np.where(np.arange(900) % 6 == 0, "a", "b")
    rows = replace(rows, metadata=pd.DataFrame({"one": marks, "two": marks}))
    found = find_slices(rows)
    assert found["slice"][0] == "one: a"
    assert found["also"][0] == ["two: a"]
    assert "two: a" not in set(found["slice"])


@pytest.mark.parametrize("multi_label", [False, True])
def test_candidates_hold_the_rows_they_name(multi_label):
    rows = simulated(300, multi_label=multi_label)
    groups = slice_candidates(rows, 5)
    assert (groups.members("label: returns") == rows.gold[:, 2]).all()
    assert (groups.members("words: word7") == ["word7" in t.split() for t in rows.texts]).all()
    assert (groups.members("channel: chat") == (rows.metadata["channel"] == "chat")).all()
    assert groups.members("no such slice") is None
    size = np.asarray(groups.matrix.sum(axis=0)).ravel()
    assert size.min() >= 5
    assert size.max() <= 295


@given(st.lists(st.text(alphabet="ab ,.é\ud800", max_size=12), max_size=30))
def test_words_and_pairs_are_those_of_a_plain_count(texts):
    found = find_words(texts, 1, 10_000)
    clean = [t.encode("utf-8", "replace").decode().lower() for t in texts]
    tokens = ["".join(c if c.isalnum() else " " for c in t).split() for t in clean]
    expected = [{*row, *(f"{a} {b}" for a, b in pairwise(row))} for row in tokens]
    dense = found.matrix.toarray()
    held = [{t for t, x in zip(found.terms, row, strict=True) if x} for row in dense]
    assert held == expected


def test_no_rows_that_err_gives_no_slices():
    assert find_slices(simulated(200, error=0.0)).empty
