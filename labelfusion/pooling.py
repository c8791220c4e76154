"""Log-linear opinion pools: z = b + Σ_s (w_s I + D_s) e_s, fitted by penalised likelihood.

A pool of one source is a linear calibrator (temperature, bias, matrix scaling; Guo et al. 2017,
§4), a pool of several is the combiner (Genest & Zidek 1986, §3). Knows evidence, targets and
penalties. Does not know which pool is worth having: `labelfusion.fusion.choice` decides that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from labelfusion.tasks import Task

MatrixForm = Literal["none", "diagonal", "full"]

# Precision of the Gaussian priors, in nats per squared unit over the whole sample. That a source's
# probabilities mean what they say is a better guess than that all sources are worth the same, so
# a temperature is held nearer to 1 than weights to 1/S: on 50 rows it costs a calibrated source
# under 1 % of its log-loss. A bias of ±2 log-odds is already a strong statement.
TEMPERATURE_PRECISION, WEIGHT_PRECISION = 5.0, 2.0
BIAS_PRECISION = 1.0
# A label with fewer positives than this has no matrix row of its own (multi-label): it shares
# the weights of all labels.
MIN_POSITIVES = 20


@dataclass(frozen=True)
class PoolForm:
    """Which parameters a pool has. `ridge` is the prior precision of each entry of D.

    Not `anchored`: w is 0 and no label shares weights, which leaves ridge logistic regression
    on D (stacking; Wolpert 1992) with nothing known beforehand.
    """

    matrix: MatrixForm = "none"
    bias: bool = False
    ridge: float = 1.0
    anchored: bool = True


@dataclass(frozen=True)
class Pool:
    """A fitted pool.

    Attributes:
        weights: (S,) ≥ 0.
        bias: (k,).
        matrices: (S, k, k), the deviations D_s; zero where the form has none.
    """

    weights: np.ndarray
    bias: np.ndarray
    matrices: np.ndarray

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence -> (n, k) normalised evidence."""
        features = task.centre(evidence)
        z = np.einsum("s,snk->nk", self.weights, features) + self.bias
        if self.matrices.any():
            z = z + np.einsum("snj,skj->nk", features, self.matrices)
        return task.normalise(z)


def fit_pool(
    evidence: np.ndarray,
    targets: np.ndarray,
    task: Task,
    form: PoolForm,
    *,
    start: Pool | None = None,
) -> Pool:
    """Maximum a posteriori pool of S sources.

    Args:
        evidence: (S, n, k), no row missing.
        targets: (n, k) indicators.
        start: a solution nearby; the problem is convex, so it only saves time.

    With n = 0 the result is the prior: the sources' equal-weight log pool.
    """
    problem = _Problem(task.centre(evidence), targets, task, form)
    solution = minimize(
        problem.loss_and_gradient,
        problem.start(start),
        jac=True,
        method="L-BFGS-B",
        bounds=problem.bounds(),
        options={"maxiter": 300, "ftol": 1e-8, "gtol": 1e-6 * max(len(targets), 1)},
    )
    return problem.pool(solution.x)


class _Problem:
    """The penalised negative log-likelihood as a function of one flat parameter vector.

    D acts on features centred by their mean, so that a penalised D is not paid for with a bias.
    """

    def __init__(
        self, features: np.ndarray, targets: np.ndarray, task: Task, form: PoolForm
    ) -> None:
        self.sources, self.n, self.k = features.shape
        self.features, self.targets = features, targets.astype(float)
        self.task, self.form = task, form
        self.mean = features.sum(axis=1, keepdims=True) / max(self.n, 1)
        # (n, S·k): one matrix product serves all sources.
        self.centred = (
            (features - self.mean).transpose(1, 0, 2).reshape(self.n, self.sources * self.k)
        )
        self.prior_weight = 1.0 / self.sources if form.anchored else 0.0
        self.precision = TEMPERATURE_PRECISION if self.sources == 1 else WEIGHT_PRECISION
        self.mask = self._mask()

    def _mask(self) -> np.ndarray:
        """(k, S·k) 1 where D may differ from 0."""
        rows = np.ones(self.k)
        if self.task.multi_label and self.form.anchored:
            positives = self.targets.sum(axis=0)
            rows = (np.minimum(positives, self.n - positives) >= MIN_POSITIVES).astype(float)
        block = np.eye(self.k) if self.form.matrix == "diagonal" else np.ones((self.k, self.k))
        return np.tile(block * rows[:, None], (1, self.sources))

    def bounds(self) -> list[tuple[float | None, float | None]]:
        free = self._size() - self.sources
        weight = (0.0, None) if self.form.anchored else (0.0, 0.0)
        return [weight] * self.sources + [(None, None)] * free

    def _size(self) -> int:
        matrix = self.k * self.sources * self.k if self.form.matrix != "none" else 0
        return self.sources + (self.k if self.form.bias else 0) + matrix

    def start(self, pool: Pool | None) -> np.ndarray:
        flat = np.zeros(self._size())
        flat[: self.sources] = self.prior_weight if pool is None else pool.weights
        if pool is not None and self.form.matrix != "none":
            flat[-self.k * self.sources * self.k :] = self._flatten(pool.matrices).ravel()
        if pool is not None and self.form.bias:
            shift = np.einsum("skj,sxj->k", pool.matrices, self.mean)
            flat[self.sources : self.sources + self.k] = pool.bias + shift
        return flat

    @staticmethod
    def _flatten(matrices: np.ndarray) -> np.ndarray:
        return matrices.transpose(1, 0, 2).reshape(matrices.shape[1], -1)

    def _parts(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w = flat[: self.sources]
        b = flat[self.sources : self.sources + self.k] if self.form.bias else np.zeros(self.k)
        if self.form.matrix == "none":
            return w, b, np.zeros((self.k, 0))
        d = flat[-self.k * self.sources * self.k :].reshape(self.k, -1)
        return w, b, d * self.mask

    def loss_and_gradient(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        w, b, d = self._parts(flat)
        z = np.tensordot(w, self.features, axes=1) + b
        if d.size:
            z += self.centred @ d.T
        residual = self.task.probabilities(z) - self.targets
        loss = float(self.task.row_loss(z, self.targets).sum())
        gradient = [np.tensordot(self.features, residual, axes=2)]
        gradient[0] = gradient[0] + self.precision * (w - self.prior_weight)
        loss += 0.5 * self.precision * float(((w - self.prior_weight) ** 2).sum())
        if self.form.bias:
            gradient.append(residual.sum(axis=0) + BIAS_PRECISION * b)
            loss += 0.5 * BIAS_PRECISION * float(b @ b)
        if d.size:
            gradient.append(((residual.T @ self.centred + self.form.ridge * d) * self.mask).ravel())
            loss += 0.5 * self.form.ridge * float((d * d).sum())
        return loss, np.concatenate(gradient)

    def pool(self, flat: np.ndarray) -> Pool:
        w, b, d = self._parts(flat)
        shape = (self.k, self.sources, self.k)
        matrices = (
            d.reshape(shape).transpose(1, 0, 2)
            if d.size
            else np.zeros((self.sources, self.k, self.k))
        )
        # The bias of the centred problem, said for features as they are.
        bias = b - np.einsum("skj,sxj->k", matrices, self.mean)
        return Pool(weights=w.copy(), bias=bias, matrices=matrices.copy())
