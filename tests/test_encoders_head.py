"""The logistic head: right against scikit-learn, and finite whatever the labels are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from labelfusion.encoders import head as heads
from labelfusion.encoders.head import C_GRID, fit_head
from labelfusion.errors import InputError
from labelfusion.tasks import MultiClass, MultiLabel


def _one_hot(y: np.ndarray, k: int) -> np.ndarray:
    return np.eye(k, dtype=np.int8)[y]


def _clusters(n: int, d: int, k: int, spread: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    centres = rng.normal(size=(k, d))
    return centres[y] + spread * rng.normal(size=(n, d)) + 1.0, y


@pytest.mark.parametrize(("n", "d"), [(120, 10), (30, 80)])
@pytest.mark.parametrize("form", [np.asarray, csr_matrix])
def test_multinomial_head_is_scikit_learns(n, d, form):
    from sklearn.linear_model import LogisticRegression

    x, y = _clusters(n, d, 3, spread=2.0)
    head = fit_head(form(x), _one_hot(y, 3), MultiClass(), c=0.5, seed=0)
    reference = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(x, y)
    expected = reference.predict_log_proba(x)
    np.testing.assert_allclose(head.logits(form(x), MultiClass()), expected, atol=2e-3)


def test_multi_label_head_is_one_binary_head_a_label():
    from sklearn.linear_model import LogisticRegression

    x, y = _clusters(100, 8, 4, spread=2.0)
    targets = np.stack([y % 2, y // 2], axis=1).astype(np.int8)
    z = fit_head(x, targets, MultiLabel(), c=2.0, seed=0).logits(x, MultiLabel())
    for j in range(2):
        reference = LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(x, targets[:, j])
        np.testing.assert_allclose(z[:, j], reference.decision_function(x), atol=5e-3)


def test_class_without_training_rows_is_finite_and_unlikely():
    x, y = _clusters(40, 6, 2, spread=0.1)
    head = fit_head(x, _one_hot(y, 3), MultiClass(), seed=0)
    z = head.logits(x, MultiClass())
    assert not head.fitted[2]
    np.testing.assert_allclose(z[:, 2], np.log(1 / 43))
    assert (z.argmax(axis=1) == y).all()


def test_one_class_only_predicts_it():
    x, _ = _clusters(5, 6, 2, spread=1.0)
    z = fit_head(x, _one_hot(np.ones(5, dtype=int), 3), MultiClass(), seed=0).logits(
        x, MultiClass()
    )
    assert np.isfinite(z).all()
    assert (z.argmax(axis=1) == 1).all()


def test_constant_labels_get_their_smoothed_frequency():
    x, y = _clusters(30, 6, 2, spread=0.5)
    targets = np.stack([np.ones(30), np.zeros(30), y], axis=1).astype(np.int8)
    z = fit_head(x, targets, MultiLabel(), seed=0).logits(x, MultiLabel())
    np.testing.assert_allclose(z[:, 0], np.log(31 / 1))
    np.testing.assert_allclose(z[:, 1], -np.log(31 / 1))
    assert ((z[:, 2] > 0) == y).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(1, 12), k=st.integers(1, 5), multi_label=st.booleans())
def test_any_targets_give_finite_logits(data, n, k, multi_label):
    task = MultiLabel() if multi_label else MultiClass()
    if multi_label:
        bits = data.draw(st.lists(st.integers(0, 1), min_size=n * k, max_size=n * k))
        targets = np.array(bits, dtype=np.int8).reshape(n, k)
    else:
        y = data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
        targets = _one_hot(np.array(y), k)
    x = np.random.default_rng(n).normal(size=(n, 4))
    z = fit_head(x, targets, task, seed=0).logits(x, task)
    assert z.shape == (n, k)
    assert np.isfinite(z).all()


@pytest.mark.parametrize("rows_a_class", [1, 2, 5])
def test_few_rows_a_class_are_learned(rows_a_class):
    y = np.repeat(np.arange(4), rows_a_class)
    x = np.eye(4)[y] + 0.01 * np.random.default_rng(0).normal(size=(len(y), 4))
    z = fit_head(x, _one_hot(y, 4), MultiClass(), seed=0).logits(np.eye(4), MultiClass())
    assert (z.argmax(axis=1) == np.arange(4)).all()


def test_auto_shrinks_noise_and_trusts_clear_data():
    rng = np.random.default_rng(0)
    noise = fit_head(
        rng.normal(size=(200, 20)), _one_hot(rng.integers(0, 3, 200), 3), MultiClass(), seed=0
    )
    x, y = _clusters(200, 20, 3, spread=0.05)
    clear = fit_head(x, _one_hot(y, 3), MultiClass(), seed=0)
    assert noise.c == C_GRID[0]
    assert clear.c == C_GRID[-1]


def test_same_seed_same_head():
    x, y = _clusters(60, 30, 3, spread=2.0)
    a, b = (fit_head(x, _one_hot(y, 3), MultiClass(), seed=7) for _ in range(2))
    assert a.c == b.c
    np.testing.assert_array_equal(a.weights, b.weights)


def test_unlabelled_row_is_refused_with_its_position():
    targets = _one_hot(np.array([0, 1, 0]), 2)
    targets[1] = 0
    with pytest.raises(InputError, match="row position 1"):
        fit_head(np.ones((3, 2)), targets, MultiClass(), seed=0)


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="at least one text"):
        fit_head(np.ones((0, 2)), np.zeros((0, 2), dtype=np.int8), MultiClass(), seed=0)


def test_the_penalty_of_many_rows_is_chosen_on_some_of_them(monkeypatch):
    x, y = _clusters(900, 20, 3, spread=4.0)
    targets, unseen = _one_hot(y[:600], 3), x[600:]
    on_all = fit_head(x[:600], targets, MultiClass(), seed=0)
    used = []
    choose = heads._choose_c
    monkeypatch.setattr(heads, "MOST_ROWS_TO_CHOOSE", 250)
    monkeypatch.setattr(
        heads, "_choose_c", lambda f, *rest: used.append(len(f)) or choose(f, *rest)
    )
    on_some = fit_head(x[:600], targets, MultiClass(), seed=0)
    assert used == [200]
    steps = abs(C_GRID.index(on_all.c) - C_GRID.index(on_some.c))
    assert steps <= 1
    agree = on_all.logits(unseen, MultiClass()).argmax(1) == on_some.logits(
        unseen, MultiClass()
    ).argmax(1)
    assert agree.mean() > 0.95
