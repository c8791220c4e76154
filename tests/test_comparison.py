"""Fusion against a source: the exact test, and words that claim no more than it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from labelfusion.evaluation.comparison import (
    Comparison,
    compare_systems,
    describe_comparison,
    mcnemar_exact,
)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (9, 2), (2, 9), (5, 5), (40, 3), (300, 250)])
def test_mcnemar_equals_the_binomial_test(b, c):
    want = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(want, rel=1e-9)


def _compare(only_fusion, only_source, both=100, draws=None):
    right = [(1, 0)] * only_fusion + [(0, 1)] * only_source + [(1, 1)] * both
    fusion, source = np.array(right, dtype=bool).T
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(right), (2000, len(right)))
    difference = fusion.astype(float) - source
    return compare_systems(
        "llm",
        metric="accuracy",
        difference=float(difference.mean()),
        difference_draws=difference[rows].mean(axis=1),
        fusion_right=fusion,
        source_right=source,
        confidence=0.95,
    )


def test_counts_and_difference():
    got = _compare(9, 2)
    assert (got["only_fusion_right"], got["only_source_right"]) == (9, 2)
    assert got["difference"] == pytest.approx(7 / 111)
    assert got["p_value"] == pytest.approx(0.0654, abs=1e-4)
    low, high = got["interval"]
    assert low < got["difference"] < high


@pytest.mark.parametrize(
    ("only_fusion", "only_source", "both", "words"),
    [
        (0, 0, 100, "rests on 0 texts only: the test split is too small"),
        (1, 0, 100, "rests on 1 text only: the test split is too small"),
        (5, 0, 100, "rests on 5 texts only: the test split is too small"),
        (9, 2, 100, "the McNemar test leaves chance open"),
        (6, 5, 100, "may be chance"),
        (30, 5, 100, "is in favour of fusion and more than chance alone explains."),
        (5, 30, 100, "is against fusion and more than chance alone explains."),
        (10, 0, 5000, "more than chance alone explains, but small"),
    ],
)
def test_the_verdict_fits_the_evidence(only_fusion, only_source, both, words):
    sentence = _compare(only_fusion, only_source, both)["sentence"]
    assert words in sentence
    assert "significant" not in sentence


def test_the_sentence_gives_the_figures():
    comparison = Comparison("accuracy", 0.061, (0.009, 0.113), 9, 2, 0.0654)
    assert describe_comparison(comparison, "llm", 115, 0.95).startswith(
        "Fusion is right on 9 texts where llm is wrong, and wrong on 2 where llm is right (exact "
        "McNemar p = 0.065): on 115 test texts the difference in accuracy of +6.1 points "
        "(95 % interval +0.9 to +11.3) "
    )


def test_macro_f1_does_not_rest_on_exact_matches_alone():
    comparison = Comparison("macro_f1", 0.05, (0.01, 0.09), 3, 1, 0.625)
    sentence = describe_comparison(comparison, "llm", 115, 0.95)
    assert sentence.startswith("Fusion is right in every label on 3 texts")
    assert "the difference in macro F1 of +5.0 points" in sentence
    assert "rests on" not in sentence
    assert "the McNemar test leaves chance open" in sentence


def test_no_rows_cannot_be_compared():
    nothing = np.zeros(0, dtype=bool)
    got = compare_systems(
        "ml",
        metric="accuracy",
        difference=float("nan"),
        difference_draws=np.full(10, np.nan),
        fusion_right=nothing,
        source_right=nothing,
        confidence=0.95,
    )
    assert got["sentence"] == "There are no test texts, so fusion and ml cannot be compared."
