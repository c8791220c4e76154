"""The combiners that are compared, and their repeated cross-validation.

A candidate is a calibrated source or a pool over some of the sources. Knows how to fit each and
what each loses on rows it was not fitted on. Does not choose: `labelfusion.fusion.choice` does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from labelfusion.calibration import (
    Calibrator,
    calibrator_from_state,
    candidate_calibrators,
    fit_calibrator,
)
from labelfusion.pooling import Pool, PoolForm, fit_pool
from labelfusion.tasks import Task, evidence_present

POOL_FORMS: dict[str, tuple[PoolForm, ...]] = {
    "log_pool": (PoolForm(bias=True),),
    "class_pool": (PoolForm("diagonal", bias=True, ridge=10.0),),
    "matrix_pool": (
        PoolForm("full", bias=True, ridge=3.0),
        PoolForm("full", bias=True, ridge=30.0),
    ),
}
METHODS = ("auto", *POOL_FORMS)
# A full matrix has k² numbers a source: offered while they can be told from noise, and fitted in
# seconds. Beyond, the pool with one weight a class stands in.
MAX_MATRIX_LABELS = 40
MIN_ROWS_PER_LABEL = 3


@dataclass(frozen=True)
class Candidate:
    """One way to turn the evidence of `members` (source positions) into fused evidence.

    `kind` is "source" (a source as it is, temperature-scaled), "calibrated" (a source through a
    richer calibrator) or a pool's name.
    """

    name: str
    kind: str
    members: tuple[int, ...]
    calibrator: str = "temperature"
    form: PoolForm | None = None


@dataclass(frozen=True)
class Combiner:
    """A fitted candidate: each member's calibrator, then, for a pool, the pool."""

    candidate: Candidate
    calibrators: tuple[Calibrator, ...]
    pool: Pool | None

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence of all sources -> (n, k) fused evidence; rows without a member NaN."""
        members = [
            calibrator.apply(evidence[s], task)
            for s, calibrator in zip(self.candidate.members, self.calibrators, strict=True)
        ]
        return members[0] if self.pool is None else self.pool.apply(np.stack(members), task)


def list_candidates(
    sources: tuple[str, ...], shape: tuple[int, int], *, calibration: str = "auto"
) -> list[Candidate]:
    """All candidates for these sources and (n, k) targets, simple ones first."""
    n, k = shape
    full = k <= MAX_MATRIX_LABELS and n >= MIN_ROWS_PER_LABEL * k
    base = "temperature" if calibration == "auto" else calibration
    found = [Candidate(name, "source", (s,), calibrator=base) for s, name in enumerate(sources)]
    if calibration == "auto":
        found += [
            Candidate(f"{name} + {calibrator}", "calibrated", (s,), calibrator)
            for s, name in enumerate(sources)
            for calibrator in candidate_calibrators(n)
            if calibrator != base and (full or calibrator != "matrix")
        ]
    for size in range(2, len(sources) + 1):
        for members in combinations(range(len(sources)), size):
            found += _pools(sources, members, base, full)
    return found


def _pools(
    sources: tuple[str, ...], members: tuple[int, ...], base: str, full: bool
) -> list[Candidate]:
    names = " + ".join(sources[s] for s in members)
    return [
        Candidate(_pool_name(kind, names, form), kind, members, base, form)
        for kind, forms in POOL_FORMS.items()
        for form in forms
        if full or form.matrix != "full"
    ]


def _pool_name(kind: str, names: str, form: PoolForm) -> str:
    detail = f", ridge {form.ridge:g}" if len(POOL_FORMS[kind]) > 1 else ""
    return f"{kind} ({names}{detail})"


class Fitter:
    """Fits candidates on one set of rows; calibrators are fitted once and shared by the pools."""

    def __init__(self, evidence: np.ndarray, targets: np.ndarray, task: Task) -> None:
        """`evidence` (S, n, k) with missing rows NaN, `targets` (n, k)."""
        self.evidence, self.targets, self.task = evidence, targets, task
        self.present = evidence_present(evidence)
        self._calibrators: dict[tuple[str, int], Calibrator] = {}

    def calibrator(self, name: str, source: int) -> Calibrator:
        """The calibrator of one source, fitted on all rows where the source is present."""
        key = (name, source)
        if key not in self._calibrators:
            rows = self.present[source]
            self._calibrators[key] = fit_calibrator(
                name, self.evidence[source, rows], self.targets[rows], self.task
            )
        return self._calibrators[key]

    def fit(self, candidate: Candidate, near: Combiner | None = None) -> Combiner:
        """Fit one candidate. `near` is a solution on similar rows: a start that saves time."""
        calibrators = tuple(self.calibrator(candidate.calibrator, s) for s in candidate.members)
        if candidate.form is None:
            return Combiner(candidate, calibrators, None)
        rows = self.present[list(candidate.members)].all(axis=0)
        calibrated = np.stack(
            [
                calibrator.apply(self.evidence[s, rows], self.task)
                for s, calibrator in zip(candidate.members, calibrators, strict=True)
            ]
        )
        pool = fit_pool(
            calibrated, self.targets[rows], self.task, candidate.form, start=near and near.pool
        )
        return Combiner(candidate, calibrators, pool)


def combiner_state(combiner: Combiner) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """JSON-ready description and named arrays of a fitted combiner."""
    arrays = (
        {f"pool.{key}": value for key, value in vars(combiner.pool).items()}
        if combiner.pool
        else {}
    )
    names = []
    for i, calibrator in enumerate(combiner.calibrators):
        state = calibrator.state()
        names.append(state.pop("name"))
        arrays |= {f"calibrator{i}.{key}": value for key, value in state.items()}
    return asdict(combiner.candidate) | {"calibrators": names}, arrays


def combiner_from_state(spec: dict[str, Any], arrays: dict[str, np.ndarray]) -> Combiner:
    """Inverse of `combiner_state`."""
    form = PoolForm(**spec["form"]) if spec["form"] else None
    candidate = Candidate(
        spec["name"], spec["kind"], tuple(spec["members"]), spec["calibrator"], form
    )
    calibrators = tuple(
        calibrator_from_state({"name": name} | arrays_under(arrays, f"calibrator{i}."))
        for i, name in enumerate(spec["calibrators"])
    )
    return Combiner(candidate, calibrators, Pool(**arrays_under(arrays, "pool.")) if form else None)


def arrays_under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


@dataclass(frozen=True)
class CrossValidated:
    """What each of C candidates says about n rows by combiners that did not see them.

    Attributes:
        evidence: (C, n, k) mean over repeats; NaN where a member is missing.
        losses: (C, n) mean log-loss over repeats, nats.
    """

    candidates: tuple[Candidate, ...]
    evidence: np.ndarray
    losses: np.ndarray


def cross_validate(
    candidates: list[Candidate],
    evidence: np.ndarray,
    targets: np.ndarray,
    task: Task,
    folds: np.ndarray,
    fitted: list[Combiner],
) -> CrossValidated:
    """Repeated cross-validation of every candidate on the same folds.

    Args:
        evidence: (S, n, k); missing rows NaN.
        folds: (R, n) fold number of each row in each repeat.
        fitted: the candidates fitted on all rows, as starting points.
    """
    shape = (len(candidates), *targets.shape)
    fused = np.zeros(shape)
    losses = np.zeros(shape[:2])
    for repeat in folds:
        for fold in np.unique(repeat):
            inside, outside = repeat != fold, repeat == fold
            fitter = Fitter(evidence[:, inside], targets[inside], task)
            for c, candidate in enumerate(candidates):
                z = fitter.fit(candidate, fitted[c]).apply(evidence[:, outside], task)
                fused[c, outside] += z
                losses[c, outside] += _row_losses(z, targets[outside], task)
    fused /= len(folds)
    return CrossValidated(tuple(candidates), task.normalise(fused), losses / len(folds))


def _row_losses(z: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    """(n,) log-loss; NaN on missing rows."""
    rows = evidence_present(z)
    losses = np.full(len(z), np.nan)
    losses[rows] = task.row_loss(z[rows], targets[rows])
    return losses
