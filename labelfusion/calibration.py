"""Calibrators of one source: evidence in, better-calibrated evidence out.

Every linear calibrator is a pool of one source (`labelfusion.pooling`); isotonic regression is the
one that is not linear. Knows how to fit and apply each. Does not choose between them:
`labelfusion.fusion.choice` does, by cross-validated log-loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from labelfusion.errors import ConfigError
from labelfusion.pooling import Pool, PoolForm, fit_pool
from labelfusion.tasks import Task, evidence_present

LINEAR_FORMS: dict[str, PoolForm] = {
    "temperature": PoolForm(),
    "bias": PoolForm(bias=True),
    "matrix": PoolForm(matrix="full", bias=True, ridge=10.0),
}
CALIBRATOR_NAMES = ("identity", *LINEAR_FORMS, "isotonic")
# Penalised calibrators are worth comparing from few rows on; one without a penalty needs more.
MIN_LINEAR_ROWS, MIN_ISOTONIC_ROWS = 40, 100


@dataclass(frozen=True)
class LinearCalibrator:
    """z -> b + (w I + D) z, normalised. Identity, temperature, bias and matrix scaling."""

    name: str
    pool: Pool

    def apply(self, z: np.ndarray, task: Task) -> np.ndarray:
        """(n, k) evidence -> (n, k) evidence. NaN rows stay NaN."""
        return self.pool.apply(z[None], task)

    def state(self) -> dict[str, Any]:
        """Arrays and names that `calibrator_from_state` rebuilds it from."""
        return {"name": self.name, **vars(self.pool)}


@dataclass(frozen=True)
class IsotonicCalibrator:
    """One-vs-rest isotonic regression (Zadrozny & Elkan 2002, §3), renormalised over labels.

    Attributes:
        x: (k, m) scores of the knots, ascending, padded by repeating the last.
        y: (k, m) calibrated probabilities at the knots.
    """

    name: str
    x: np.ndarray
    y: np.ndarray

    def apply(self, z: np.ndarray, task: Task) -> np.ndarray:
        """(n, k) evidence -> (n, k) evidence. NaN rows stay NaN."""
        p = task.probabilities(z)
        out = np.stack(
            [np.interp(p[:, j], self.x[j], self.y[j]) for j in range(p.shape[1])], axis=1
        )
        out[~evidence_present(z)] = np.nan
        return task.evidence(out, "probabilities")

    def state(self) -> dict[str, Any]:
        """Arrays and names that `calibrator_from_state` rebuilds it from."""
        return dict(vars(self))


Calibrator = LinearCalibrator | IsotonicCalibrator


def identity_calibrator(k: int) -> LinearCalibrator:
    """The calibrator that takes the scores at their word."""
    return LinearCalibrator("identity", Pool(np.ones(1), np.zeros(k), np.zeros((1, k, k))))


def fit_calibrator(name: str, z: np.ndarray, targets: np.ndarray, task: Task) -> Calibrator:
    """Fit one calibrator on (n, k) evidence without missing rows.

    Raises ConfigError for a name that is not one of `CALIBRATOR_NAMES`.
    """
    if name == "identity" or (len(z) == 0 and name in CALIBRATOR_NAMES):
        return identity_calibrator(targets.shape[1])
    if name == "isotonic":
        return _fit_isotonic(z, targets, task)
    if name not in LINEAR_FORMS:
        raise ConfigError(
            f"Unknown calibration {name!r}", expected=" | ".join(("auto", *CALIBRATOR_NAMES))
        )
    return LinearCalibrator(name, fit_pool(z[None], targets, task, LINEAR_FORMS[name]))


def candidate_calibrators(n: int) -> tuple[str, ...]:
    """The calibrators that `auto` compares on n labelled rows: richer ones need more rows."""
    linear = ("identity", *LINEAR_FORMS) if n >= MIN_LINEAR_ROWS else ("identity", "temperature")
    return (*linear, "isotonic") if n >= MIN_ISOTONIC_ROWS else linear


def calibrator_from_state(state: dict[str, Any]) -> Calibrator:
    """Inverse of `state`."""
    values = {key: value for key, value in state.items() if key != "name"}
    if "weights" in values:
        return LinearCalibrator(state["name"], Pool(**values))
    return IsotonicCalibrator(state["name"], **values)


def _fit_isotonic(z: np.ndarray, targets: np.ndarray, task: Task) -> IsotonicCalibrator:
    p = task.probabilities(z)
    curves = [_isotonic_curve(p[:, j], targets[:, j]) for j in range(p.shape[1])]
    width = max(len(x) for x, _ in curves)
    x, y = (
        np.stack([np.pad(curve[i], (0, width - len(curve[i])), mode="edge") for curve in curves])
        for i in (0, 1)
    )
    return IsotonicCalibrator("isotonic", x, y)


def _isotonic_curve(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Tied scores must share one value: pool them first, weighted by how many there are.
    x, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=y) / counts
    return x, isotonic_regression(means, weights=counts).x
