"""Calibrators and pools: what each can and cannot do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from labelfusion import FusionModel, LabelSpace, Signal
from labelfusion.calibration import CALIBRATOR_NAMES, candidate_calibrators, fit_calibrator
from labelfusion.config import FusionConfig
from labelfusion.errors import ConfigError
from labelfusion.pooling import Pool, PoolForm, fit_pool
from labelfusion.tasks import MultiClass, MultiLabel, Task, score_floor
from tests.signals import draw_targets

TASKS: list[Task] = [MultiClass(), MultiLabel()]


def overconfident(n: int, k: int, seed: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Evidence that is right about the classes but `factor` times too sure, and its targets."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=1.5, size=(n, k))
    p = softmax(z, axis=1)
    codes = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return log_softmax(factor * z, axis=1), np.eye(k, dtype=np.int8)[codes]


def test_temperature_is_recovered() -> None:
    z, targets = overconfident(4000, 5, 1, factor=3.0)
    calibrator = fit_calibrator("temperature", z, targets, MultiClass())
    assert calibrator.pool.weights[0] == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("n", [50, 200, 1000, 5000])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_calibration_never_costs_more_than_a_percent(n: int, factor: float) -> None:
    task, losses = MultiClass(), []
    for seed in range(12 if n < 1000 else 2):
        z, targets = overconfident(n + 8000, 4, seed, factor)
        fit, fresh = (task.evidence(part, "logits") for part in (z[:n], z[n:]))
        ways = {
            name: fit_calibrator(name, fit, targets[:n], task).apply(fresh, task)
            for name in ("identity", "temperature", "isotonic")
        }
        losses.append([task.row_loss(out, targets[n:]).mean() for out in ways.values()])
    as_it_came, scaled, isotonic = np.mean(losses, axis=0)
    assert scaled < 1.01 * as_it_came
    # Much clipped evidence is no longer a power of the truth: many rows then tell its true shape.
    assert scaled < isotonic or n * factor >= 3000


def fresh_losses(z: np.ndarray, targets: np.ndarray, n: int, ways: list[str]) -> list[float]:
    """Log-loss of each calibration, fitted on the first n rows, on the others."""
    signal = Signal("s", z, "logits", np.ones(len(z), bool))
    known, fresh = np.arange(n), np.arange(n, len(z))
    space = LabelSpace(tuple("abcdef"[: z.shape[1]]), multi_label=False)
    found = []
    for way in ways:
        config = FusionConfig(calibration=way)
        model = FusionModel.fit([signal.take(known)], targets[:n], space=space, config=config)
        p = model.predict([signal.take(fresh)]).probabilities
        found.append(float(-np.log(p[targets[n:] == 1]).mean()))
    return found


def test_auto_bends_what_is_clipped_though_no_decision_gets_better() -> None:
    ways = ["auto", "temperature", "isotonic"]
    draws = [overconfident(9000, 4, seed, factor=3.0) for seed in range(5)]
    losses = [fresh_losses(*draw, 1000, ways) for draw in draws]
    auto, scaled, bent = np.mean(losses, axis=0)
    assert auto < (scaled + bent) / 2


def test_auto_finds_two_labels_mixed_up_from_fifty_rows() -> None:
    z, targets = overconfident(4050, 4, 1, factor=1.0)
    auto, scaled = fresh_losses(z[:, [1, 0, 2, 3]], targets, 50, ["auto", "temperature"])
    assert auto < scaled - 0.2


def test_matrix_learns_a_convention_that_temperature_cannot() -> None:
    """Label 0 of the source is label 1 of the team, and the other way round."""
    rng = np.random.default_rng(2)
    targets = draw_targets(600, 3, 3)
    z = MultiClass().evidence(2.0 * targets[:, [1, 0, 2]] + rng.normal(size=(600, 3)), "logits")
    losses = {
        name: MultiClass()
        .row_loss(fit_calibrator(name, z, targets, MultiClass()).apply(z, MultiClass()), targets)
        .mean()
        for name in ("temperature", "matrix")
    }
    assert losses["matrix"] < losses["temperature"] - 0.3


@pytest.mark.parametrize("name", CALIBRATOR_NAMES)
@pytest.mark.parametrize("task", TASKS, ids=["multi-class", "multi-label"])
def test_every_calibrator_gives_probabilities_and_keeps_missing_rows(name: str, task: Task) -> None:
    targets = draw_targets(150, 4, 4, multi_label=task.multi_label)
    z = task.evidence(targets + np.random.default_rng(5).normal(size=(150, 4)), "logits")
    calibrator = fit_calibrator(name, z, targets, task)
    z[::7] = np.nan
    out = calibrator.apply(z, task)
    assert np.isnan(out[::7]).all()
    p = task.probabilities(np.delete(out, np.s_[::7], axis=0))
    assert ((p > 0) & (p < 1)).all()
    if not task.multi_label:
        np.testing.assert_allclose(p.sum(axis=1), 1)


def test_isotonic_is_monotone_with_tied_scores() -> None:
    targets = draw_targets(200, 2, 6)
    z = MultiClass().evidence(
        np.round(targets + np.random.default_rng(7).random((200, 2)), 1), "logits"
    )
    calibrator = fit_calibrator("isotonic", z, targets, MultiClass())
    assert (np.diff(calibrator.y, axis=1) >= -1e-12).all()
    assert (np.diff(calibrator.x, axis=1) >= 0).all()


def test_small_samples_are_offered_simple_calibrators_only() -> None:
    assert candidate_calibrators(39) == ("identity", "temperature")
    assert set(candidate_calibrators(99)) == {*CALIBRATOR_NAMES} - {"isotonic"}
    assert "isotonic" in candidate_calibrators(100)
    with pytest.raises(ConfigError, match="isotonic"):
        fit_calibrator("platt", np.zeros((3, 2)), draw_targets(3, 2, 1), MultiClass())


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000), multi_label=st.booleans(), form=st.sampled_from(["none", "full"])
)
def test_pool_gradient_is_the_derivative_of_its_loss(
    seed: int, multi_label: bool, form: str
) -> None:
    from scipy.optimize import check_grad

    from labelfusion.pooling import _Problem

    task = TASKS[multi_label]
    targets = draw_targets(60, 3, seed, multi_label=multi_label)
    features = np.random.default_rng(seed).normal(size=(2, 60, 3))
    problem = _Problem(features, targets, task, PoolForm(form, bias=True, ridge=2.0))
    at = np.random.default_rng(seed + 1).normal(size=len(problem.start(None))) ** 2
    error = check_grad(
        lambda x: problem.loss_and_gradient(x)[0], lambda x: problem.loss_and_gradient(x)[1], at
    )
    assert error < 1e-3 * max(1.0, np.abs(problem.loss_and_gradient(at)[1]).max())


@pytest.mark.parametrize("task", TASKS, ids=["multi-class", "multi-label"])
def test_a_warm_start_changes_the_time_not_the_answer(task: Task) -> None:
    targets = draw_targets(200, 3, 8, multi_label=task.multi_label)
    rng = np.random.default_rng(9)
    evidence = np.stack([task.evidence(targets + rng.normal(size=(200, 3)), "logits")] * 2)
    evidence[1] += rng.normal(size=(200, 3))
    form = PoolForm("full", bias=True, ridge=3.0)
    cold = fit_pool(evidence, targets, task, form)
    far = Pool(np.array([3.0, 0.5]), np.ones(3), rng.normal(size=(2, 3, 3)))
    warm = fit_pool(evidence, targets, task, form, start=far)
    np.testing.assert_allclose(warm.apply(evidence, task), cold.apply(evidence, task), atol=2e-3)
    assert (cold.weights >= 0).all()


@pytest.mark.parametrize("task", TASKS, ids=["multi-class", "multi-label"])
def test_evidence_is_clipped_finite_and_keeps_missing_rows(task: Task) -> None:
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [np.nan] * 3])
    z = task.evidence(scores, "hard")
    assert np.isfinite(z[:2]).all()
    assert np.isnan(z[2]).all()
    if not task.multi_label:
        np.testing.assert_allclose(np.exp(z[1]), 1 / 3)
        assert np.exp(z[0, 1]) == pytest.approx(score_floor(3), rel=0.02)


def test_probabilities_are_not_taken_through_a_softmax_again() -> None:
    p = np.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(np.exp(MultiClass().evidence(p, "probabilities")), p)
    np.testing.assert_allclose(
        MultiClass().evidence(np.log(p), "logits"), MultiClass().evidence(p, "probabilities")
    )
