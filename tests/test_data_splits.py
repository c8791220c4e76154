"""Splits and folds: disjoint, covering, stratified, without leakage, the same for a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.config import DataConfig
from labelfusion.data import (
    dataset_from_arrays,
    dataset_from_table,
    make_folds,
    make_split,
    normalised,
    read_table,
)
from labelfusion.errors import InputError
from labelfusion.types import Dataset, LabelSpace, Split

SAMPLES = Path(__file__).parent.parent / "sample_data"
CONFIG = DataConfig()


def space(k: int, multi_label: bool) -> LabelSpace:
    return LabelSpace(tuple(f"l{j}" for j in range(k)), multi_label)


def texts(n: int) -> list[str]:
    return [f"text {i}" for i in range(n)]


def used(split: Split) -> list[int]:
    return sorted([*split.train.tolist(), *split.test.tolist()])


class_lists = st.lists(st.integers(0, 4), min_size=10, max_size=120).filter(
    lambda labels: len(set(labels)) > 1
)


@settings(max_examples=100, deadline=None)
@given(class_lists, st.integers(0, 5), st.sampled_from([0.2, 0.25, 0.5]))
def test_multi_class_split_is_disjoint_covering_and_stratified(labels, seed, share) -> None:
    data = dataset_from_arrays(texts(len(labels)), labels)
    config = DataConfig(test_size=share)
    split = make_split(data, config, seed)
    assert used(split) == list(range(len(labels)))
    total, test = data.targets.sum(axis=0), data.targets[split.test].sum(axis=0)
    assert (np.abs(test - total * share) < 1 + 1e-9).all()
    assert (test[total == 1] == 0).all()
    assert (test < total).all()
    again = make_split(data, config, seed)
    assert (again.test == split.test).all()


indicator_rows = st.integers(12, 100).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=n, max_size=n)
)


@settings(max_examples=60, deadline=None)
@given(indicator_rows, st.integers(0, 5))
def test_multi_label_split_is_disjoint_and_covering(rows, seed) -> None:
    data = dataset_from_arrays(texts(len(rows)), rows, config=DataConfig(multi_label=True))
    split = make_split(data, CONFIG, seed)
    assert used(split) == list(range(len(rows)))
    total, test = data.targets.sum(axis=0), data.targets[split.test].sum(axis=0)
    assert (test[total > 0] < total[total > 0]).all()
    assert (make_split(data, CONFIG, seed).test == split.test).all()


@settings(max_examples=60, deadline=None)
@given(class_lists, st.integers(2, 7))
def test_multi_class_folds_are_even(labels, n_folds) -> None:
    targets = np.eye(5, dtype=np.int8)[labels]
    folds = make_folds(targets, space(5, False), n_folds, 3)
    counts = np.array([targets[folds == f].sum(axis=0) for f in range(n_folds)])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    sizes = counts.sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    assert sizes.sum() == len(labels)


@settings(max_examples=40, deadline=None)
@given(indicator_rows, st.integers(2, 6))
def test_multi_label_folds_cover_and_none_is_empty(rows, n_folds) -> None:
    targets = np.array(rows, dtype=np.int8)
    folds = make_folds(targets, space(4, True), n_folds, 0)
    assert set(folds.tolist()) == set(range(n_folds))


def test_iterative_stratification_spreads_rare_labels() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random((2000, 6)) < [0.005, 0.01, 0.03, 0.1, 0.3, 0.6]).astype(np.int8)
    folds = make_folds(targets, space(6, True), 5, 0)
    counts = np.array([targets[folds == f].sum(axis=0) for f in range(5)])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 2).all()
    data = dataset_from_arrays(texts(2000), targets)
    test = data.targets[make_split(data, CONFIG, 0).test].sum(axis=0)
    assert np.allclose(test, targets.sum(axis=0) / 4, atol=2)


def test_seeds_differ() -> None:
    data = dataset_from_arrays(texts(60), [i % 3 for i in range(60)])
    assert make_split(data, CONFIG, 0).test.tolist() != make_split(data, CONFIG, 1).test.tolist()


@pytest.mark.parametrize("multi_label", [False, True])
def test_few_rows_and_small_classes_give_fewer_folds(multi_label: bool) -> None:
    targets = np.eye(3, dtype=np.int8)
    folds = make_folds(targets, space(3, multi_label), 5, 0)
    assert sorted(folds.tolist()) == [0, 1, 2]
    with pytest.raises(InputError, match="at least 2 labelled rows"):
        make_folds(targets[:1], space(3, multi_label), 5, 0)


@pytest.mark.parametrize("file", ["tickets.csv", "reviews.csv"])
def test_samples_are_stratified(file: str) -> None:
    table = read_table(SAMPLES / file)
    config = (
        DataConfig(label_column="label")
        if file == "tickets.csv"
        else DataConfig(label_columns=table.columns[2:])
    )
    data = dataset_from_table(table, config)
    split = make_split(data, config, 0)
    assert len(split.test) == pytest.approx(len(data) / 4, abs=2)
    share = data.targets[split.test].sum(axis=0) / data.targets.sum(axis=0)
    assert np.allclose(share, 0.25, atol=0.04)


def with_copies() -> Dataset:
    base = texts(40)
    labels: list[str | None] = ["ab"[i % 2] for i in range(40)]
    # 40: agrees with 0; 41: contradicts 1; 42: no label; 43: no text.
    return dataset_from_arrays(
        [*base, "TEXT  0", "Text 1", "new", ""], [*labels, "a", "a", None, "a"]
    )


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_never_leak_and_contradictions_are_left_out(seed: int) -> None:
    data = with_copies()
    split = make_split(data, CONFIG, seed)
    assert used(split) == [0, *range(2, 40)]
    assert not {normalised(data.texts[i]) for i in split.train} & {
        normalised(data.texts[i]) for i in split.test
    }
    kept = make_split(data, DataConfig(deduplicate=False), seed)
    assert used(kept) == list(range(42))


def own(rows: list[str]) -> tuple[Dataset, DataConfig]:
    config = DataConfig(label_column="label", split_column="split")
    text = "\n".join(["text,label,split", *rows])
    return dataset_from_table(read_table(text.encode(), name="x.csv"), config), config


def test_own_split_is_taken_as_it_is() -> None:
    rows = [f"t{i},{'ab'[i % 2]},{'test' if i > 8 else 'train'}" for i in range(12)]
    data, config = own([*rows, "t0,,train", "t1,a,"])
    split = make_split(data, config, 0)
    assert split.train.tolist() == list(range(9))
    assert split.test.tolist() == [9, 10, 11]


def test_own_split_with_one_part_only() -> None:
    """Nothing to test on, or nothing to learn from: an LLM can label, or be measured, without."""
    data, config = own([*(f"t{i},{'ab'[i % 2]},train" for i in range(12)), "u,,", ",,"])
    split = make_split(data, config, 0)
    assert (len(split.train), len(split.test), split.predict.tolist()) == (12, 0, [12])
    data, config = own([*(f"t{i},{'ab'[i % 2]},test" for i in range(12)), "u,,"])
    split = make_split(data, config, 0)
    assert (len(split.train), len(split.test), len(split.predict)) == (0, 12, 0)


def test_too_few_rows_for_a_test_part_are_all_trained_on() -> None:
    data = dataset_from_arrays([*texts(6), "TEXT 0", "u", ""], [*"abab", "a", "b", "a", None, None])
    split = make_split(data, CONFIG, 0)
    assert split.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(split.test) == 0
    assert split.predict.tolist() == [7]


def test_one_label_cannot_be_learned_unless_another_is_described() -> None:
    with pytest.raises(InputError, match="same label"):
        make_split(dataset_from_arrays(texts(20), ["a"] * 20), CONFIG, 0)
    described = DataConfig(labels={"other": "anything else"})
    data = dataset_from_arrays(texts(20), ["a"] * 20, config=described)
    assert data.space.names == ("a", "other")
    assert used(make_split(data, CONFIG, 0)) == list(range(20))


def test_a_test_share_that_draws_nothing_leaves_all_for_training() -> None:
    data = dataset_from_arrays(texts(12), [*"ab"] * 6)
    split = make_split(data, DataConfig(test_size=0.0001), 0)
    assert (len(split.train), len(split.test)) == (12, 0)


def test_unlabelled_data_are_to_be_predicted() -> None:
    data = dataset_from_arrays(
        [*texts(20), ""], None, config=DataConfig(labels={"a": "", "b": ""}, multi_label=False)
    )
    split = make_split(data, CONFIG, 0)
    assert split.predict.tolist() == list(range(20))
    assert used(split) == []
    with pytest.raises(InputError, match="no text"):
        make_split(data.take(np.array([20])), CONFIG, 0)
