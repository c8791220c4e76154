"""FusionModel: what holds for any signals, and what the guard must and must not do."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.config import FusionConfig
from labelfusion.errors import ConfigError, InputError, RunError
from labelfusion.fusion.model import FusionModel
from labelfusion.types import LabelSpace, Signal
from tests.signals import accuracy, draw_signal, draw_targets, space, worth

FAST = FusionConfig(cv_repeats=1, cv_folds=3)


def draw_problem(
    n: int, k: int, sources: int, seed: int, *, multi_label: bool = False, present: float = 0.8
) -> tuple[dict[str, Signal], np.ndarray]:
    targets = draw_targets(n, k, seed, multi_label=multi_label)
    signals = {
        f"s{i}": draw_signal(f"s{i}", targets, seed + i + 1, strength=1 + i, present=present)
        for i in range(sources)
    }
    return signals, targets


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(30, 80),
    k=st.integers(1, 5),
    sources=st.integers(1, 3),
    multi_label=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_what_holds_for_any_signals(
    n: int, k: int, sources: int, multi_label: bool, seed: int
) -> None:
    signals, targets = draw_problem(n, k, sources, seed, multi_label=multi_label, present=0.7)
    model = FusionModel.fit(
        signals, targets, space=space(k, multi_label=multi_label), config=FAST, seed=seed
    )
    prediction = model.predict(signals, contributions=True)
    p = prediction.probabilities
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()
    if not multi_label:
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert (prediction.decisions.sum(axis=1) == 1).all()
    assert (
        prediction.present.tolist()
        == np.stack([signal.present for signal in signals.values()], axis=1).tolist()
    )
    if k > 1 or multi_label:
        fused = np.log(p) - np.log1p(-p)
        assert prediction.contributions is not None
        total = prediction.contributions.sum(axis=1) + model.prior_log_odds()
        np.testing.assert_allclose(total, fused, atol=1e-6)
    absent = ~prediction.present
    assert (prediction.contributions[absent] == 0).all()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), multi_label=st.booleans())
def test_the_order_of_labels_does_not_matter(seed: int, multi_label: bool) -> None:
    signals, targets = draw_problem(60, 4, 2, seed, multi_label=multi_label, present=1.0)
    order = np.random.default_rng(seed).permutation(4)
    names = space(4, multi_label=multi_label)
    turned = LabelSpace(tuple(names.names[j] for j in order), multi_label)
    # The same folds for both: stratification may deal rows differently under another order.
    config = FusionConfig(method="matrix_pool")
    model = FusionModel.fit(signals, targets, space=names, config=config)
    other = FusionModel.fit(
        {name: _permuted(signal, order) for name, signal in signals.items()},
        targets[:, order],
        space=turned,
        config=config,
    )
    chosen = {model.choice.chosen, other.choice.chosen}
    if len(chosen) == 1:
        p = model.predict(signals).probabilities[:, order]
        q = other.predict({n: _permuted(s, order) for n, s in signals.items()}).probabilities
        np.testing.assert_allclose(p, q, atol=2e-3)


def _permuted(signal: Signal, order: np.ndarray) -> Signal:
    return Signal(signal.source, signal.scores[:, order], signal.kind, signal.present)


def test_one_row_at_a_time_is_the_same_as_all_at_once() -> None:
    signals, targets = draw_problem(80, 3, 2, 5)
    model = FusionModel.fit(signals, targets, space=space(3), config=FAST)
    together = model.predict(signals).probabilities
    for row in range(0, 80, 7):
        one = {name: signal.take(np.array([row])) for name, signal in signals.items()}
        np.testing.assert_allclose(model.predict(one).probabilities[0], together[row], atol=1e-12)


def test_a_source_left_out_is_a_source_missing() -> None:
    signals, targets = draw_problem(90, 3, 2, 6, present=1.0)
    model = FusionModel.fit(signals, targets, space=space(3), config=FAST)
    blank = Signal.missing("s0", 90, 3)
    with_blank = model.predict({"s0": blank, "s1": signals["s1"]})
    without = model.predict({"s1": signals["s1"]})
    assert with_blank.probabilities.tolist() == without.probabilities.tolist()
    nothing = model.predict({"s0": blank, "s1": Signal.missing("s1", 90, 3)}, contributions=True)
    expected = (targets.sum(axis=0) + 1) / (90 + 3)
    np.testing.assert_allclose(nothing.probabilities[0], expected)
    assert not nothing.present.any()
    assert not nothing.contributions.any()


@pytest.mark.parametrize("multi_label", [False, True])
def test_out_of_fold_of_a_subset_is_that_of_its_own_model(multi_label: bool) -> None:
    signals, targets = draw_problem(150, 3, 2, 7, multi_label=multi_label)
    names = space(3, multi_label=multi_label)
    model = FusionModel.fit(signals, targets, space=names, config=FAST)
    without = model.out_of_fold_without(["s1"])
    only = FusionModel.fit({"s0": signals["s0"]}, targets, space=names, config=FAST).out_of_fold
    np.testing.assert_allclose(without.probabilities, only.probabilities)
    assert (without.decisions == only.decisions).all()
    assert (without.present == [[shown, False] for shown in signals["s0"].present]).all()
    assert not (without.probabilities == model.predict({"s0": signals["s0"]}).probabilities).all()


def test_complementary_sources_are_combined() -> None:
    targets = draw_targets(1200, 4, 1)
    signals = {name: draw_signal(name, targets, seed) for name, seed in (("a", 2), ("b", 3))}
    train, test = np.arange(600), np.arange(600, 1200)
    model = _fitted(signals, targets, train, space(4))
    fused = _accuracy(model, signals, targets, test)
    alone = max(_alone(model, signals[name], targets, test) for name in signals)
    assert model.choice.chosen not in signals
    assert fused > alone + 0.03


def test_few_labels_go_part_of_the_way_to_a_combiner() -> None:
    targets = draw_targets(90, 4, 1)
    signals = {name: draw_signal(name, targets, seed) for name, seed in (("a", 2), ("b", 3))}
    model = FusionModel.fit(signals, targets, space=space(4))
    choice = model.choice
    weights = dict(zip(choice.used, choice.weights, strict=True))
    steps = {score.name: score.step for score in choice.candidates}
    single = next(name for name in choice.used if name in signals)
    combiners = [name for name in choice.used if name != single]
    assert 0 < weights[single] < 1
    assert sum(choice.weights) == pytest.approx(1)
    assert [weights[name] * len(combiners) for name in combiners] == pytest.approx(
        [steps[name] for name in combiners]
    )
    assert {s.name: s.weight for s in choice.candidates if s.used} == pytest.approx(weights)
    assert "of the way" in choice.reason


@pytest.mark.parametrize("bad", ["chance", "constant", "hard chance", "opposite"])
@pytest.mark.parametrize("n", [60, 400])
def test_a_worthless_source_does_no_harm(bad: str, n: int) -> None:
    targets = draw_targets(n + 1000, 4, 11)
    good = draw_signal("good", targets, 12, strength=3.0)
    kind = "hard" if bad == "hard chance" else "logits"
    other = draw_signal(
        "other", targets, 13, strength=-1.0 if bad == "opposite" else 0.0, kind=kind
    )
    if bad == "constant":
        other = Signal("other", np.ones_like(other.scores), "logits", other.present)
    signals = {"good": good, "other": other}
    train, test = np.arange(n), np.arange(n, n + 1000)
    model = _fitted(signals, targets, train, space(4))
    fused = _accuracy(model, signals, targets, test)
    assert fused >= _alone(model, good, targets, test) - 0.01


def test_a_rare_source_is_used_only_where_it_is_present() -> None:
    targets = draw_targets(1500, 3, 21)
    signals = {
        "often": draw_signal("often", targets, 22, strength=1.5),
        "rare": draw_signal("rare", targets, 23, strength=4.0, present=0.05),
    }
    train, test = np.arange(750), np.arange(750, 1500)
    model = _fitted(signals, targets, train, space(3))
    fused = _accuracy(model, signals, targets, test)
    assert fused >= _alone(model, signals["often"], targets, test) - 0.01


@pytest.mark.parametrize("multi_label", [False, True])
def test_any_subset_is_as_good_as_its_best_member(multi_label: bool) -> None:
    targets = draw_targets(3000, 4, 31, multi_label=multi_label)
    signals = {
        name: draw_signal(name, targets, 32 + i, strength=strength)
        for i, (name, strength) in enumerate((("a", 1.0), ("b", 2.0), ("c", 3.0)))
    }
    train, test = np.arange(1000), np.arange(1000, 3000)
    model = _fitted(signals, targets, train, space(4, multi_label=multi_label))
    for size in (1, 2, 3):
        for subset in combinations(signals, size):
            chosen = {name: signals[name] for name in subset}
            best = max(_worth_alone(model, signals[name], targets, test) for name in subset)
            assert _worth(model, chosen, targets, test) >= best - 0.005, subset


@pytest.mark.parametrize("k", [1, 2, 100])
def test_one_to_a_hundred_classes(k: int) -> None:
    signals, targets = draw_problem(300, k, 2, 41)
    model = FusionModel.fit(signals, targets, space=space(k), config=FAST)
    fused = model.predict(signals)
    best = max(accuracy(model.predict_alone(s).decisions, targets) for s in signals.values())
    assert accuracy(fused.decisions, targets) >= best - 0.01


@pytest.mark.parametrize("n", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("multi_label", [False, True])
def test_hardly_any_label(n: int, multi_label: bool) -> None:
    names = space(3, multi_label=multi_label)
    signals, targets = draw_problem(200, 3, 2, 51, multi_label=multi_label, present=1.0)
    few = {name: signal.take(np.arange(n)) for name, signal in signals.items()}
    model = FusionModel.fit(few, targets[:n], space=names)
    p = model.predict(signals).probabilities
    assert np.isfinite(p).all()
    assert "Only" in model.choice.reason
    if n == 0 and not multi_label:
        a, b = (model.task.evidence(s.scores, s.kind) for s in signals.values())
        pooled = model.task.probabilities((a + b) / 2)
        np.testing.assert_allclose(p, pooled, atol=1e-6)


def test_a_method_asked_for_by_name() -> None:
    signals, targets = draw_problem(120, 3, 2, 61)
    for method, chosen in (("s0", "s0"), ("log_pool", "log_pool (s0 + s1)")):
        config = FusionConfig(method=method, cv_repeats=1)
        model = FusionModel.fit(signals, targets, space=space(3), config=config)
        assert model.choice.chosen == chosen
        assert method in model.choice.reason
    with pytest.raises(ConfigError, match="log_pool"):
        FusionModel.fit(signals, targets, space=space(3), config=FusionConfig(method="voting?"))


@pytest.mark.parametrize("calibration", ["identity", "temperature", "bias", "matrix", "isotonic"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_saved_and_loaded_model_predicts_the_same(
    calibration: str, multi_label: bool, tmp_path: Path
) -> None:
    signals, targets = draw_problem(120, 3, 2, 71, multi_label=multi_label)
    names = space(3, multi_label=multi_label)
    config = FusionConfig(calibration=calibration, cv_repeats=1)
    model = FusionModel.fit(signals, targets, space=names, config=config)
    model.save(tmp_path)
    loaded = FusionModel.load(tmp_path, names)
    before, after = (m.predict(signals, contributions=True) for m in (model, loaded))
    assert after.probabilities.tolist() == before.probabilities.tolist()
    assert after.decisions.tolist() == before.decisions.tolist()
    assert after.contributions.tolist() == before.contributions.tolist()
    assert loaded.choices == model.choices


def test_a_damaged_model_says_so(tmp_path: Path) -> None:
    signals, targets = draw_problem(60, 3, 2, 81)
    FusionModel.fit(signals, targets, space=space(3), config=FAST).save(tmp_path)
    (tmp_path / "fusion.safetensors").write_bytes(b"not tensors")
    with pytest.raises(RunError, match="Train again"):
        FusionModel.load(tmp_path, space(3))


def test_input_that_does_not_fit() -> None:
    signals, targets = draw_problem(60, 3, 2, 91)
    with pytest.raises(InputError, match=r"\(60, 2\)"):
        FusionModel.fit(signals, targets, space=space(2))
    with pytest.raises(InputError, match="indicators"):
        FusionModel.fit(signals, targets[:, :2])
    with pytest.raises(InputError, match="multi_label=True"):
        FusionModel.fit(signals, np.ones_like(targets), space=space(3))
    with pytest.raises(InputError, match="s0, s1"):
        FusionModel.fit(signals, targets, config=FAST).predict(
            {"gpt": draw_signal("gpt", targets, 1)}
        )
    five = {f"s{i}": draw_signal(f"s{i}", targets, i) for i in range(5)}
    with pytest.raises(InputError, match="1 to 4"):
        FusionModel.fit(five, targets)


def test_integer_codes_are_accepted() -> None:
    signals, targets = draw_problem(60, 3, 2, 95)
    by_code = FusionModel.fit(list(signals.values()), targets.argmax(axis=1), config=FAST)
    by_row = FusionModel.fit(signals, targets, config=FAST)
    expected = by_row.predict(signals).probabilities.tolist()
    assert by_code.predict(signals).probabilities.tolist() == expected


def test_the_same_seed_gives_the_same_model() -> None:
    signals, targets = draw_problem(150, 3, 2, 97)
    first, second = (FusionModel.fit(signals, targets, space=space(3), seed=3) for _ in range(2))
    assert first.choices == second.choices
    assert (
        first.predict(signals).probabilities.tolist()
        == second.predict(signals).probabilities.tolist()
    )


def _fitted(
    signals: dict[str, Signal], targets: np.ndarray, train: np.ndarray, names: LabelSpace
) -> FusionModel:
    rows = {name: signal.take(train) for name, signal in signals.items()}
    return FusionModel.fit(rows, targets[train], space=names)


def _accuracy(
    model: FusionModel, signals: dict[str, Signal], targets: np.ndarray, rows: np.ndarray
) -> float:
    prediction = model.predict({name: signal.take(rows) for name, signal in signals.items()})
    return accuracy(prediction.decisions, targets[rows])


def _worth(
    model: FusionModel, signals: dict[str, Signal], targets: np.ndarray, rows: np.ndarray
) -> float:
    prediction = model.predict({name: signal.take(rows) for name, signal in signals.items()})
    return worth(prediction.decisions, targets[rows], model.space)


def _worth_alone(
    model: FusionModel, signal: Signal, targets: np.ndarray, rows: np.ndarray
) -> float:
    return worth(model.predict_alone(signal.take(rows)).decisions, targets[rows], model.space)


def _alone(model: FusionModel, signal: Signal, targets: np.ndarray, rows: np.ndarray) -> float:
    return accuracy(model.predict_alone(signal.take(rows)).decisions, targets[rows])
