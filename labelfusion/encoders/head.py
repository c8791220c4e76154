"""The logistic head that every encoder with fixed features shares.

Knows feature matrices (dense or sparse) and targets. Does not know where features come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from labelfusion.errors import InputError
from labelfusion.tasks import Task

# (n, d), a numpy array or a scipy CSR matrix: what is used here, both have.
Features: TypeAlias = Any

C_GRID = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
C_WITHOUT_VALIDATION = 10.0
INNER_FOLDS = 5
# From here on one fold has held-out rows enough to tell the penalties apart.
ROWS_FOR_ONE_FOLD = 1500
# More rows tell them apart no better. The best c does not depend on the number of rows, as it
# stands before a sum of losses.
MOST_ROWS_TO_CHOOSE = 5000
MAX_ITERATIONS = 200
# Above this an eigendecomposition (cubic in rows) costs more than it saves.
MAX_ROWS_REDUCED = 1500


@dataclass(frozen=True)
class LogisticHead:
    """L2-regularised logistic regression: multinomial, or one binary per label.

    Attributes:
        weights: (d, k) float64; zero for a label that was not fitted.
        bias: (k,) float64; for a label that was not fitted, its smoothed prior evidence.
        fitted: (k,) bool. A label that all or none of the training rows had is not fitted.
        c: inverse strength of the penalty, as in scikit-learn: c * sum of losses + |W|^2 / 2.
    """

    weights: np.ndarray
    bias: np.ndarray
    fitted: np.ndarray
    c: float

    def logits(self, features: Features, task: Task) -> np.ndarray:
        """(n, d) features -> (n, k) finite logits.

        Fitted labels are normalised among themselves, so that the prior of a label without
        training rows is on the same scale.
        """
        z = np.asarray(features @ self.weights) + self.bias
        if self.fitted.any():
            z[:, self.fitted] = task.normalise(z[:, self.fitted])
        return z


def fit_head(
    features: Features,
    targets: np.ndarray,
    task: Task,
    *,
    c: float | Literal["auto"] = "auto",
    seed: int,
) -> LogisticHead:
    """Fit a head; `c="auto"` takes the penalty with the least cross-validated log-loss.

    Args:
        features: (n, d), dense or CSR.
        targets: (n, k) indicators; exactly one a row for multi-class.
        task: says which loss it is.
        c: inverse penalty, > 0.
        seed: deals the rows to the inner folds.

    Raises:
        InputError: no rows, or a multi-class row without exactly one label.
    """
    _check(features, targets, task)
    n, d = features.shape
    if n >= d or n > MAX_ROWS_REDUCED:
        return _fit(features, targets, task, c, seed)
    reduced, back = _reduce(features)
    head = _fit(reduced, targets, task, c, seed)
    return replace(head, weights=np.asarray(features.T @ (back @ head.weights)))


def _reduce(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of n < d rows in their own span, (n, r), and the way back, (n, r).

    The penalised solution is a combination of the rows (representer theorem), so nothing is lost:
    weights in the d features are `features.T @ (back @ weights)`.
    """
    gram = features @ features.T
    values, vectors = np.linalg.eigh(gram if isinstance(gram, np.ndarray) else gram.toarray())
    kept = values > 1e-10 * max(values[-1], 1.0)
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, vectors[:, kept] / roots


def _fit(
    features: Features, targets: np.ndarray, task: Task, c: float | Literal["auto"], seed: int
) -> LogisticHead:
    if c != "auto":
        path = [c]
    elif len(targets) > MOST_ROWS_TO_CHOOSE:
        parts = math.ceil(len(targets) / MOST_ROWS_TO_CHOOSE)
        some = np.flatnonzero(_deal(targets, parts, np.random.default_rng(seed)) == 0)
        path = [_choose_c(features[some], targets[some], task, seed)]
    else:
        c = _choose_c(features, targets, task, seed)
        path = [step for step in C_GRID if step < c] + [c]
    return list(_fit_path(features, targets, task, path))[-1]


def _check(features: Features, targets: np.ndarray, task: Task) -> None:
    if targets.shape[0] == 0 or features.shape[0] != targets.shape[0]:
        raise InputError(
            "The encoder cannot be trained on these rows",
            expected="at least one text, and one row of targets a text",
            found=f"{features.shape[0]} texts and {targets.shape[0]} rows of targets",
        )
    wrong = np.flatnonzero(targets.sum(axis=1) != 1)
    if not task.multi_label and len(wrong):
        raise InputError(
            "A training row does not have exactly one label",
            where=f"row position {wrong[0]}",
            found=f"{int(targets[wrong[0]].sum())} labels",
            remedy="Train on labelled rows only, or set multi_label",
        )


def _choose_c(features: Features, targets: np.ndarray, task: Task, seed: int) -> float:
    n_folds = min(INNER_FOLDS, len(targets))
    if n_folds < 2:
        return C_WITHOUT_VALIDATION
    folds = _deal(targets, n_folds, np.random.default_rng(seed))
    losses = np.zeros(len(C_GRID))
    for number in range(1 if len(targets) >= ROWS_FOR_ONE_FOLD else n_folds):
        train, held_out = np.flatnonzero(folds != number), np.flatnonzero(folds == number)
        heads = _fit_path(features[train], targets[train], task, C_GRID)
        for i, head in enumerate(heads):
            z = head.logits(features[held_out], task)
            losses[i] += task.row_loss(z, targets[held_out]).sum()
    return C_GRID[int(losses.argmin())]


def _deal(targets: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) folds: rows of one label pattern are dealt out like cards, so folds are alike."""
    shuffled = rng.permutation(len(targets))
    order = shuffled[np.lexsort(targets[shuffled].T)]
    folds = np.empty(len(targets), dtype=int)
    folds[order] = np.arange(len(targets)) % n_folds
    return folds


def _fit_path(
    features: Features, targets: np.ndarray, task: Task, path: Sequence[float]
) -> Iterator[LogisticHead]:
    """One head for each c of an ascending path, each started from the one before."""
    positives = targets.sum(axis=0)
    fitted = (positives > 0) & (positives < len(targets))
    y = targets[:, fitted].astype(float)
    theta = np.zeros((features.shape[1] + 1, y.shape[1]))
    centre = np.asarray(features.mean(axis=0)).ravel()
    for c in path:
        if fitted.any():
            theta = _minimise(features, centre, y, task, c, theta)
        weights, bias = np.zeros((features.shape[1], len(fitted))), task.prior(targets)
        weights[:, fitted] = theta[:-1]
        bias[fitted] = theta[-1] - centre @ theta[:-1]
        yield LogisticHead(weights, bias, fitted, float(c))


def _minimise(
    features: Features,
    centre: np.ndarray,
    y: np.ndarray,
    task: Task,
    c: float,
    start: np.ndarray,
) -> np.ndarray:
    """(d + 1, k) weights and bias over centred features: L-BFGS on mean loss + |W|^2 / (2 c n).

    Centring changes nothing but the bias (which is not penalised) and saves most iterations:
    embeddings of one language share a large common direction.
    """
    from scipy.optimize import minimize

    n, shape = len(y), start.shape
    transposed = features.T
    if not isinstance(transposed, np.ndarray):
        transposed = transposed.tocsr()  # twice as fast a product

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = theta.reshape(shape)[:-1], theta.reshape(shape)[-1]
        z = features @ w + (b - centre @ w)
        residual = (task.probabilities(z) - y) / n
        total = residual.sum(axis=0)
        gradient = transposed @ residual - np.outer(centre, total) + w / (c * n)
        loss = task.row_loss(z, y).mean() + (w**2).sum() / (2 * c * n)
        return loss, np.vstack([gradient, total]).ravel()

    options = {"maxiter": MAX_ITERATIONS, "gtol": 1e-5, "ftol": 1e-9}
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(shape)
