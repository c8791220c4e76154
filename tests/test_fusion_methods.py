"""The named combiners: what each computes, and what holds for all of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from labelfusion.config import FusionConfig
from labelfusion.errors import ConfigError
from labelfusion.fusion.baselines import fit_routing, fit_weights
from labelfusion.fusion.heads import METHODS
from labelfusion.fusion.mlp import MlpForm, fit_mlp
from labelfusion.fusion.model import FusionModel
from labelfusion.pooling import PoolForm, fit_pool
from labelfusion.tasks import signal_evidence, task_for
from tests.signals import accuracy, draw_signal, draw_targets, space, worth

NAMED = [method for method in METHODS if method != "auto"]


def evidence_of(targets, names, *strengths):
    task = task_for(names)
    signals = [
        draw_signal(f"s{i}", targets, 100 + i, strength=strength)
        for i, strength in enumerate(strengths)
    ]
    return task, np.stack([signal_evidence(task, signal) for signal in signals])


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("method", NAMED)
def test_a_named_method_is_used_and_survives_a_save(method, multi_label, tmp_path):
    names = space(3, multi_label=multi_label)
    targets = draw_targets(240, 3, 1, multi_label=multi_label)
    signals = {
        name: draw_signal(name, targets, i, strength=2.0, present=0.9)
        for i, name in enumerate("ab")
    }
    config = FusionConfig(method=method, cv_repeats=1, mlp_hidden=(8,), mlp_seeds=2)
    model = FusionModel.fit(signals, targets, space=names, config=config)
    assert model.choice.used == (model.choice.chosen,)
    assert model.choice.chosen.startswith(f"{method} (")
    assert {score.kind for score in model.choice.candidates} == {"source", "calibrated", method}
    prediction = model.predict(signals, contributions=True)
    assert np.isfinite(prediction.probabilities).all()
    better = max(
        worth(model.predict_alone(signal).decisions, targets, names) for signal in signals.values()
    )
    assert worth(prediction.decisions, targets, names) > better - 0.05
    total = prediction.contributions.sum(axis=1) + model.prior_log_odds()
    np.testing.assert_allclose(total, logit(prediction.probabilities), atol=1e-6)

    model.save(tmp_path)
    again = FusionModel.load(tmp_path, names).predict(signals)
    np.testing.assert_array_equal(again.probabilities, prediction.probabilities)


def test_an_unknown_method_is_refused_with_the_names_there_are():
    targets = draw_targets(30, 3, 1)
    with pytest.raises(ConfigError, match="class_routing"):
        FusionModel.fit(
            [draw_signal("a", targets, 1)], targets, config=FusionConfig(method="blend")
        )


@pytest.mark.parametrize("method", NAMED)
def test_without_labels_a_named_method_still_answers(method):
    targets = draw_targets(50, 3, 1)
    signals = {name: draw_signal(name, targets, i, strength=4.0) for i, name in enumerate("ab")}
    none = {name: signal.take(np.arange(0)) for name, signal in signals.items()}
    model = FusionModel.fit(none, targets[:0], space=space(3), config=FusionConfig(method=method))
    assert accuracy(model.predict(signals).decisions, targets) > 0.8 or method == "stack"


def test_the_majority_wins_a_vote():
    targets = draw_targets(300, 4, 2)
    _, evidence = evidence_of(targets, space(4), 1.0, 1.0, 1.0)
    signals = [draw_signal(f"s{i}", targets, 100 + i, strength=1.0) for i in range(3)]
    model = FusionModel.fit(
        signals, targets, space=space(4), config=FusionConfig(method="vote", cv_repeats=1)
    )
    votes = np.stack([np.eye(4)[z.argmax(axis=1)] for z in evidence]).sum(axis=0)
    clear = votes.max(axis=1) >= 2
    told = model.predict(signals).decisions.argmax(axis=1)
    np.testing.assert_array_equal(told[clear], votes[clear].argmax(axis=1))


@pytest.mark.parametrize("multi_label", [False, True])
def test_weights_are_at_the_maximum_of_their_likelihood(multi_label):
    names = space(3, multi_label=multi_label)
    targets = draw_targets(400, 3, 3, multi_label=multi_label)
    task, evidence = evidence_of(targets, names, 3.0, 1.0)
    weights = fit_weights(evidence, targets, task).weights
    p = task.probabilities(evidence)
    right = np.where(targets.astype(bool), p, 1 - p)
    likelihood = right.reshape(2, -1) if multi_label else (p * targets).sum(axis=2)

    def value(w):
        return np.log(w * likelihood[0] + (1 - w) * likelihood[1]).sum() + np.log(w * (1 - w))

    grid = np.linspace(0.005, 0.995, 991)
    assert weights[0] == pytest.approx(grid[np.argmax([value(w) for w in grid])], abs=2e-3)
    assert weights.sum() == pytest.approx(1)


def test_each_label_is_taken_from_the_source_that_knows_it():
    targets = draw_targets(600, 4, 5)
    task, evidence = evidence_of(targets, space(4), 3.0, 3.0)
    noise = np.random.default_rng(0).normal(size=evidence.shape)
    evidence[0][:, 2:], evidence[1][:, :2] = noise[0][:, 2:], noise[1][:, :2]
    np.testing.assert_array_equal(fit_routing(evidence, targets, task).source, [0, 0, 1, 1])


def test_an_untrained_residual_is_the_pool_and_a_trained_one_learns_what_it_cannot_say():
    rng = np.random.default_rng(8)
    # The label is the exclusive or of the two sources: no pool can say that.
    bits = rng.integers(0, 2, (800, 2))
    targets = np.eye(2, dtype=np.int8)[bits[:, 0] ^ bits[:, 1]]
    task = task_for(space(2))
    evidence = np.stack([task.normalise(4.0 * np.eye(2)[bits[:, s]]) for s in (0, 1)])
    form = MlpForm(residual=True, hidden=(16,), source_dropout=0.0, networks=3)
    fitted = fit_mlp(evidence, targets, task, form, seed=0)
    pool = fit_pool(evidence, targets, task, PoolForm(bias=True))
    assert (pool.apply(evidence, task).argmax(axis=1) == targets.argmax(axis=1)).mean() < 0.8
    assert (fitted.apply(evidence, task).argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.95

    unseen = draw_targets(800, 2, 9)
    chance = fit_mlp(evidence, unseen, task, form, seed=0)
    gap = chance.apply(evidence, task) - chance.pool.apply(evidence, task)
    assert np.abs(gap).max() < 0.5


def test_networks_repeat_with_their_seed_and_differ_with_another():
    targets = draw_targets(120, 3, 4)
    task, evidence = evidence_of(targets, space(3), 1.0, 2.0)
    form = MlpForm(residual=False, hidden=(8,), networks=2)
    first, second, other = (fit_mlp(evidence, targets, task, form, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.apply(evidence, task), second.apply(evidence, task))
    assert not np.array_equal(first.apply(evidence, task), other.apply(evidence, task))
