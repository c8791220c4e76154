"""The kinds of combiner by name: how each is fitted, and how its arrays are stored.

A head takes the calibrated evidence of a candidate's members to fused evidence. Knows which kinds
there are and what each needs. Does not fit calibrators or choose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelfusion.config import FusionConfig
from labelfusion.fusion.baselines import (
    ClassRouting,
    Vote,
    WeightedAverage,
    fit_routing,
    fit_weights,
)
from labelfusion.fusion.mlp import FusionMLP, MlpForm, fit_mlp
from labelfusion.pooling import Pool, PoolForm, fit_pool
from labelfusion.tasks import Task

Head = Pool | Vote | WeightedAverage | ClassRouting | FusionMLP
Form = PoolForm | MlpForm
Arrays = dict[str, np.ndarray]

# A full matrix has k² numbers a source: offered while they can be told from noise, and fitted in
# seconds. Beyond, the pool with one weight a class stands in.
MAX_MATRIX_LABELS = 40
MIN_ROWS_PER_LABEL = 3
# Folds of a network's early stopping need rows; and what `auto` compares must be affordable.
MIN_NETWORK_ROWS = 10
MIN_AUTO_NETWORK_ROWS, MAX_AUTO_NETWORK_ROWS = 200, 10_000


@dataclass(frozen=True)
class Kind:
    """A kind of combiner.

    Attributes:
        forms: config -> the forms it is offered in; (None,) if it has none.
        by_name_only: `auto` does not compare it.
        calibrator: the calibrator its members come through; None: the run's base calibrator.
    """

    forms: Callable[[FusionConfig], tuple[Form | None, ...]]
    by_name_only: bool = False
    calibrator: str | None = None


def _pools(*forms: PoolForm) -> Callable[[FusionConfig], tuple[PoolForm, ...]]:
    return lambda _: forms


def _network(residual: bool) -> Callable[[FusionConfig], tuple[MlpForm, ...]]:
    def form(config: FusionConfig) -> tuple[MlpForm, ...]:
        dropped = config.source_dropout if residual else 0.0
        shape = (config.mlp_hidden, config.mlp_dropout, dropped, config.mlp_seeds)
        return (MlpForm(residual, *shape),)

    return form


def _formless(_: FusionConfig) -> tuple[None]:
    return (None,)


KINDS: dict[str, Kind] = {
    "log_pool": Kind(_pools(PoolForm(bias=True))),
    "class_pool": Kind(_pools(PoolForm("diagonal", bias=True, ridge=10.0))),
    "matrix_pool": Kind(
        _pools(PoolForm("full", bias=True, ridge=3.0), PoolForm("full", bias=True, ridge=30.0))
    ),
    "residual": Kind(_network(residual=True)),
    "weighted": Kind(_formless),
    "class_routing": Kind(_formless),
    "vote": Kind(_formless, calibrator="identity"),
    "stack": Kind(
        _pools(PoolForm("full", bias=True, ridge=1.0, anchored=False)),
        by_name_only=True,
        calibrator="identity",
    ),
    "mlp": Kind(_network(residual=False), by_name_only=True, calibrator="identity"),
}
METHODS = ("auto", *KINDS)


def offered(kind: str, form: Form | None, shape: tuple[int, int], method: str) -> bool:
    """Whether a form of a kind can be fitted, and for `auto` afforded, on (n, k) targets."""
    n = shape[0]
    if KINDS[kind].by_name_only and method != kind:
        return False
    if isinstance(form, MlpForm):
        if method == kind:
            return n >= MIN_NETWORK_ROWS
        return MIN_AUTO_NETWORK_ROWS <= n <= MAX_AUTO_NETWORK_ROWS and matrix_pays(shape)
    if form is not None and form.matrix == "full" and form.anchored:
        return matrix_pays(shape)
    return True


def matrix_pays(shape: tuple[int, int]) -> bool:
    """Whether (n, k) targets can tell k² numbers a source from noise."""
    return shape[1] <= MAX_MATRIX_LABELS and shape[0] >= MIN_ROWS_PER_LABEL * shape[1]


def fit_head(
    kind: str,
    form: Form | None,
    evidence: np.ndarray,
    targets: np.ndarray,
    task: Task,
    *,
    start: Head | None = None,
    seed: int = 0,
) -> Head:
    """Fit a head on (S, n, k) calibrated evidence without missing rows.

    `start` is a solution on similar rows, which saves a pool time; `seed` is for networks.
    """
    if isinstance(form, MlpForm):
        return fit_mlp(evidence, targets, task, form, seed)
    if isinstance(form, PoolForm):
        near = start if isinstance(start, Pool) else None
        return fit_pool(evidence, targets, task, form, start=near)
    if kind == "vote":
        return Vote()
    return (fit_weights if kind == "weighted" else fit_routing)(evidence, targets, task)


def head_arrays(head: Head) -> Arrays:
    """Named arrays that `head_from_arrays` rebuilds it from."""
    return head.arrays() if isinstance(head, FusionMLP) else dict(vars(head))


def head_from_arrays(kind: str, arrays: Arrays) -> Head:
    """Inverse of `head_arrays`."""
    if kind in ("residual", "mlp"):
        return FusionMLP.from_arrays(arrays)
    built: dict[str, Callable[..., Head]] = {
        "vote": Vote,
        "weighted": WeightedAverage,
        "class_routing": ClassRouting,
    }
    return built.get(kind, Pool)(**arrays)


def form_from_state(kind: str, values: dict[str, Any] | None) -> Form | None:
    """A form from its fields as JSON keeps them."""
    if values is None:
        return None
    if kind in ("residual", "mlp"):
        return MlpForm(**{**values, "hidden": tuple(values["hidden"])})
    return PoolForm(**values)
