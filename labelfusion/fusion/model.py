"""FusionModel: signals in, fused probabilities, labels and contributions out.

Holds one combiner for every non-empty subset of its sources, so that a prediction works whatever is
missing. Knows signals and targets. Does not know texts, encoders, LLMs or run folders.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from labelfusion.config import FusionConfig
from labelfusion.data import make_folds
from labelfusion.errors import ConfigError, InputError
from labelfusion.fusion.candidates import (
    Combiner,
    CrossValidated,
    Fitter,
    cross_validate,
    list_candidates,
)
from labelfusion.fusion.choice import Choice, choose
from labelfusion.fusion.contributions import shapley
from labelfusion.fusion.decisions import DecisionRule, default_rule, learn_rule
from labelfusion.fusion.heads import METHODS
from labelfusion.fusion.inputs import check, check_shape, default_space, indicators, named
from labelfusion.fusion.persistence import SubsetModel, mixed, read_models, write_models
from labelfusion.tasks import evidence_present, signal_evidence, task_for
from labelfusion.types import LabelSpace, Prediction, Signal

Subset = tuple[int, ...]


class FusionModel:
    """A guarded combiner of several sources' signals.

    Attributes:
        space: the labels.
        sources: names of the S sources, in the order of contributions and presence columns.
    """

    def __init__(
        self,
        space: LabelSpace,
        sources: Sequence[str],
        prior: np.ndarray,
        alone: Sequence[SubsetModel],
        subsets: Mapping[Subset, SubsetModel],
        prior_rule: DecisionRule,
    ) -> None:
        self.space, self.sources = space, tuple(sources)
        self.task = task_for(space)
        self._training: _Training | None = None
        self._prior, self._prior_rule = prior, prior_rule
        self._alone, self._subsets = tuple(alone), dict(subsets)

    @classmethod
    def fit(
        cls,
        signals: Mapping[str, Signal] | Sequence[Signal],
        targets: Any,
        *,
        space: LabelSpace | None = None,
        config: FusionConfig | None = None,
        seed: int = 0,
    ) -> FusionModel:
        """Fit on labelled rows. An ML signal must be out of fold, or its errors are hidden.

        Args:
            signals: 1 to 4 sources over the same n rows, scores (n, k).
            targets: (n, k) 0/1 indicators, or (n,) integer class codes. n may be 0.
            space: the labels; "0" … "k-1", multi-class if rows have exactly one label, if absent.

        Raises InputError for shapes that do not fit, ConfigError for an unknown method.
        """
        by_name = named(signals)
        y = indicators(targets, next(iter(by_name.values())).scores.shape[1])
        space = space or default_space(y)
        check(by_name, y, space)
        # The matrices are small: more BLAS threads only get in each other's way.
        with threadpool_limits(1, user_api="blas"):
            return _fit(by_name, y, space, config or FusionConfig(), seed)

    @property
    def choice(self) -> Choice:
        """The choice for rows on which every source is present."""
        return self._subsets[tuple(range(len(self.sources)))].choice

    @property
    def choices(self) -> dict[tuple[str, ...], Choice]:
        """The choice of every subset of the sources."""
        return {model.choice.sources: model.choice for model in self._subsets.values()}

    @property
    def used(self) -> tuple[str, ...]:
        """The sources that decide rows on which every source is present."""
        members = self._subsets[tuple(range(len(self.sources)))].members
        return tuple(self.sources[s] for s in members)

    @property
    def rule(self) -> DecisionRule:
        """The decision rule for rows on which every source is present."""
        return self._subsets[tuple(range(len(self.sources)))].rule

    def with_rule(self, rule: DecisionRule) -> FusionModel:
        """The same model with another decision rule for rows on which every source is present."""
        whole = tuple(range(len(self.sources)))
        subsets = self._subsets | {whole: replace(self._subsets[whole], rule=rule)}
        parts = (self._prior, self._alone, subsets, self._prior_rule)
        return FusionModel(self.space, self.sources, *parts)

    def predict(
        self, signals: Mapping[str, Signal] | Sequence[Signal], *, contributions: bool = False
    ) -> Prediction:
        """Fuse n rows; a source that is absent from `signals` is missing on every row.

        A row on which every source is missing gets the class prior (see `Prediction.present`).
        Raises InputError for a source the model does not know or shapes that do not fit.
        """
        evidence, present = self._evidence(named(signals))
        n, k = evidence.shape[1:]
        z = np.empty((n, k))
        shares = np.zeros((n, len(self.sources), k)) if contributions else None
        for subset, rows in _by_pattern(present):
            part = evidence[:, rows]
            z[rows] = self._fused(subset, part)
            if shares is not None:
                for source, share in self._contributions(subset, part).items():
                    shares[rows, source] = share
        return self._decided(z, present, shares)

    @property
    def out_of_fold(self) -> Prediction | None:
        """The training rows by combiners that did not see them; None for a loaded model."""
        return self.out_of_fold_without(())

    def out_of_fold_without(self, absent: Collection[str]) -> Prediction | None:
        """The same as if the sources named in `absent` were missing on every row."""
        if self._training is None:
            return None
        present = self._training.present & ~np.isin(self.sources, list(absent))
        z = np.tile(self._prior, (len(present), 1))
        for subset, rows in _by_pattern(present):
            if subset:
                z[rows] = self._training.unseen[subset][rows]
        return self._decided(z, present, None)

    def _decided(self, z: np.ndarray, present: np.ndarray, shares: np.ndarray | None) -> Prediction:
        """(n, k) fused evidence -> Prediction, each row by the rule of its subset of sources."""
        decisions = np.zeros(z.shape, dtype=bool)
        for subset, rows in _by_pattern(present):
            rule = self._subsets[subset].rule if subset else self._prior_rule
            decisions[rows] = rule.decide(z[rows], self.task)
        p = self.task.probabilities(z)
        return Prediction(self.space, p, decisions, self.sources, present, shares)

    def predict_alone(self, signal: Signal) -> Prediction:
        """What one source says by itself: temperature-scaled, with thresholds of its own.

        This is the baseline a fusion is compared with; rows without a score get the prior.
        """
        evidence, present = self._evidence({signal.source: signal})
        s = self.sources.index(signal.source)
        model, rows = self._alone[s], present[:, s]
        z = np.tile(self._prior, (len(signal), 1))
        z[rows] = model.apply(evidence[:, rows], self.task)
        decisions = self._prior_rule.decide(z, self.task)
        decisions[rows] = model.rule.decide(z[rows], self.task)
        p = self.task.probabilities(z)
        return Prediction(self.space, p, decisions, self.sources, present)

    def alone_rule(self, source: str) -> DecisionRule:
        """The decision rule of one source by itself."""
        return self._alone[self.sources.index(source)].rule

    def calibrator(self, source: str) -> str:
        """Name of the calibrator chosen where `source` is the only one present."""
        model = self._subsets[(self.sources.index(source),)]
        return model.combiners[0].candidate.calibrator

    def prior_log_odds(self) -> np.ndarray:
        """(k,) the baseline that contributions start from."""
        return self.task.log_odds(self._prior)

    def _evidence(self, signals: Mapping[str, Signal]) -> tuple[np.ndarray, np.ndarray]:
        unknown = sorted(set(signals) - set(self.sources))
        if unknown or not signals:
            raise InputError(
                "The signals do not fit the model",
                expected=f"some of {', '.join(self.sources)}",
                found=", ".join(unknown) or "none",
            )
        n, k = len(next(iter(signals.values()))), len(self.space)
        evidence = np.full((len(self.sources), n, k), np.nan)
        for s, name in enumerate(self.sources):
            if name in signals:
                check_shape(signals[name], n, k)
                evidence[s] = signal_evidence(self.task, signals[name])
        return evidence, evidence_present(evidence).T

    def _fused(self, subset: Subset, evidence: np.ndarray) -> np.ndarray:
        """(S, n, k) evidence -> (n, k), as if only `subset` were present."""
        if not subset:
            return np.tile(self._prior, (evidence.shape[1], 1))
        return self._subsets[subset].apply(evidence, self.task)

    def _contributions(self, subset: Subset, evidence: np.ndarray) -> dict[int, np.ndarray]:
        if not subset:
            return {}
        # A source the combiner does not use has decided nothing: it is no player.
        used = self._subsets[subset].members
        return shapley(used, lambda c: self.task.log_odds(self._worth(c, used, subset, evidence)))

    def _worth(
        self, coalition: Subset, used: Subset, subset: Subset, evidence: np.ndarray
    ) -> np.ndarray:
        return self._fused(subset if coalition == used else coalition, evidence)

    def save(self, folder: Path) -> None:
        """Write fusion.json and fusion.safetensors into an existing folder."""
        models = {f"alone.{s}": model for s, model in enumerate(self._alone)}
        models |= {f"subset.{_key(subset)}": model for subset, model in self._subsets.items()}
        write_models(folder, self.sources, self._prior, self._prior_rule, models)

    @classmethod
    def load(cls, folder: Path, space: LabelSpace) -> FusionModel:
        """Inverse of `save`. Raises RunError for a damaged folder or a newer format."""
        sources, prior, rule, models = read_models(folder)
        alone = [models[f"alone.{s}"] for s in range(len(sources))]
        subsets = {
            tuple(int(s) for s in name.removeprefix("subset.").split("-")): model
            for name, model in models.items()
            if name.startswith("subset.")
        }
        return cls(space, sources, prior, alone, subsets, rule)


def _fit(
    signals: Mapping[str, Signal], y: np.ndarray, space: LabelSpace, config: FusionConfig, seed: int
) -> FusionModel:
    task, sources = task_for(space), tuple(signals)
    if config.method not in METHODS and config.method not in sources:
        raise ConfigError(
            f"Unknown fusion method {config.method!r}",
            expected=" | ".join((*METHODS, *sources)),
        )
    evidence = np.stack([signal_evidence(task, s) for s in signals.values()])
    candidates = list_candidates(sources, (len(y), len(space)), config)
    fitter = Fitter(evidence, y, task, seed)
    fitted = [fitter.fit(candidate) for candidate in candidates]
    folds = _folds(y, space, config, seed)
    cv = cross_validate(candidates, evidence, y, task, folds, fitted, seed)
    build = _Builder(fitted, cv, y, space, sources, config)
    subsets = {
        subset: build.subset(subset)
        for size in range(1, len(sources) + 1)
        for subset in combinations(range(len(sources)), size)
    }
    alone = [build.alone(s) for s in range(len(sources))]
    model = FusionModel(space, sources, task.prior(y), alone, subsets, default_rule(task, y))
    unseen = {subset: build.unseen(chosen.choice) for subset, chosen in subsets.items()}
    model._training = _Training(evidence_present(evidence).T, unseen)
    return model


@dataclass(frozen=True)
class _Training:
    """What is known of the training rows: `present` (n, S), and by subset the cross-validated
    evidence (n, k) of its combiner, NaN where a member is missing."""

    present: np.ndarray
    unseen: Mapping[Subset, np.ndarray]


class _Builder:
    """Turns fitted and cross-validated candidates into the models of each subset."""

    def __init__(
        self,
        fitted: list[Combiner],
        cv: CrossValidated,
        targets: np.ndarray,
        space: LabelSpace,
        sources: tuple[str, ...],
        config: FusionConfig,
    ) -> None:
        self.fitted, self.cv, self.targets = fitted, cv, targets
        self.task, self.sources, self.config = task_for(space), sources, config
        self.position = {c.name: i for i, c in enumerate(cv.candidates)}

    def subset(self, subset: Subset) -> SubsetModel:
        return self._model(subset, self.config.method)

    def alone(self, source: int) -> SubsetModel:
        return self._model((source,), self.sources[source])

    def _model(self, subset: Subset, method: str) -> SubsetModel:
        choice = choose(
            self.cv,
            self.sources,
            subset,
            self.targets,
            self.task,
            method=method,
            standard_errors=self.config.standard_errors,
        )
        rule = learn_rule(self.unseen(choice), self.targets, self.task)
        combiners = tuple(self.fitted[self.position[name]] for name in choice.used)
        return SubsetModel(combiners, rule, choice)

    def unseen(self, choice: Choice) -> np.ndarray:
        """(n, k) cross-validated evidence of what was chosen."""
        fused = [self.cv.evidence[self.position[name]] for name in choice.used]
        return mixed(fused, choice.weights, self.task)


def _folds(y: np.ndarray, space: LabelSpace, config: FusionConfig, seed: int) -> np.ndarray:
    """(R, n). Large samples need fewer repeats and folds: the noise of a split falls with n."""
    if len(y) < 2:
        return np.zeros((1, len(y)), dtype=int)
    most = config.cv_repeats if len(y) < 500 else 2 if len(y) < 2000 else 1
    folds = config.cv_folds if len(y) < 2000 else min(config.cv_folds, 3)
    repeats = range(min(config.cv_repeats, most))
    return np.stack([make_folds(y, space, folds, seed + 1000 * r) for r in repeats])


def _by_pattern(present: np.ndarray) -> list[tuple[Subset, np.ndarray]]:
    """(n, S) presence -> each subset that occurs with the positions of its rows."""
    codes = present @ (1 << np.arange(present.shape[1]))
    return [
        (tuple(int(s) for s in np.flatnonzero(present[rows[0]])), rows)
        for rows in (np.flatnonzero(codes == code) for code in np.unique(codes))
    ]


def _key(subset: Subset) -> str:
    return "-".join(str(s) for s in subset)
