"""The combiners that are compared, and their repeated cross-validation.

A candidate is a calibrated source or a head (`labelfusion.fusion.heads`) over some sources. Knows
how to fit each and what each loses on rows it was not fitted on. Does not choose:
`labelfusion.fusion.choice` does.
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
from labelfusion.config import FusionConfig
from labelfusion.fusion.heads import (
    KINDS,
    Form,
    Head,
    fit_head,
    form_from_state,
    head_arrays,
    head_from_arrays,
    matrix_pays,
    offered,
)
from labelfusion.fusion.mlp import MlpForm
from labelfusion.pooling import PoolForm
from labelfusion.tasks import Task, evidence_present


@dataclass(frozen=True)
class Candidate:
    """One way to turn the evidence of `members` (source positions) into fused evidence.

    `kind` is "source" (a source as it is, temperature-scaled), "calibrated" (a source through a
    richer calibrator) or a head's name.
    """

    name: str
    kind: str
    members: tuple[int, ...]
    calibrator: str = "temperature"
    form: Form | None = None


@dataclass(frozen=True)
class Combiner:
    """A fitted candidate: each member's calibrator, then the head, if it has one."""

    candidate: Candidate
    calibrators: tuple[Calibrator, ...]
    head: Head | None

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence of all sources -> (n, k) fused evidence; rows without a member NaN."""
        members = [
            calibrator.apply(evidence[s], task)
            for s, calibrator in zip(self.candidate.members, self.calibrators, strict=True)
        ]
        return members[0] if self.head is None else self.head.apply(np.stack(members), task)


def list_candidates(
    sources: tuple[str, ...], shape: tuple[int, int], config: FusionConfig
) -> list[Candidate]:
    """All candidates for these sources and (n, k) targets, simple ones first.

    A kind asked for by name is compared with the sources alone, if these targets allow it.
    """
    automatic = config.calibration == "auto"
    base = "temperature" if automatic else config.calibration
    found = [Candidate(name, "source", (s,), calibrator=base) for s, name in enumerate(sources)]
    if automatic:
        found += [
            Candidate(f"{name} + {calibrator}", "calibrated", (s,), calibrator)
            for s, name in enumerate(sources)
            for calibrator in candidate_calibrators(shape[0])
            if calibrator != base and (matrix_pays(shape) or calibrator != "matrix")
        ]
    for size in range(2, len(sources) + 1):
        for members in combinations(range(len(sources)), size):
            found += _combined(sources, members, base, shape, config)
    return found


def _combined(
    sources: tuple[str, ...],
    members: tuple[int, ...],
    base: str,
    shape: tuple[int, int],
    config: FusionConfig,
) -> list[Candidate]:
    names = " + ".join(sources[s] for s in members)
    found = [
        Candidate(_name(kind, names, form), kind, members, about.calibrator or base, form)
        for kind, about in KINDS.items()
        for form in about.forms(config)
        if offered(kind, form, shape, config.method)
    ]
    return [c for c in found if c.kind == config.method] or found


def _name(kind: str, names: str, form: Form | None) -> str:
    # Of all kinds only the matrix pool comes in several forms.
    if kind == "matrix_pool" and isinstance(form, PoolForm):
        return f"{kind} ({names}, ridge {form.ridge:g})"
    return f"{kind} ({names})"


class Fitter:
    """Fits candidates on one set of rows; calibrators are fitted once and shared by the heads."""

    def __init__(
        self, evidence: np.ndarray, targets: np.ndarray, task: Task, seed: int = 0
    ) -> None:
        """`evidence` (S, n, k) with missing rows NaN, `targets` (n, k)."""
        self.evidence, self.targets, self.task, self.seed = evidence, targets, task, seed
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
        if candidate.kind not in KINDS:
            return Combiner(candidate, calibrators, None)
        rows = self.present[list(candidate.members)].all(axis=0)
        calibrated = np.stack(
            [
                calibrator.apply(self.evidence[s, rows], self.task)
                for s, calibrator in zip(candidate.members, calibrators, strict=True)
            ]
        )
        head = fit_head(
            candidate.kind,
            candidate.form,
            calibrated,
            self.targets[rows],
            self.task,
            start=near and near.head,
            seed=self.seed,
        )
        return Combiner(candidate, calibrators, head)


def combiner_state(combiner: Combiner) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """JSON-ready description and named arrays of a fitted combiner."""
    head = head_arrays(combiner.head) if combiner.head else {}
    arrays = {f"pool.{key}": value for key, value in head.items()}
    names = []
    for i, calibrator in enumerate(combiner.calibrators):
        state = calibrator.state()
        names.append(state.pop("name"))
        arrays |= {f"calibrator{i}.{key}": value for key, value in state.items()}
    return asdict(combiner.candidate) | {"calibrators": names}, arrays


def combiner_from_state(spec: dict[str, Any], arrays: dict[str, np.ndarray]) -> Combiner:
    """Inverse of `combiner_state`."""
    kind = spec["kind"]
    form = form_from_state(kind, spec["form"])
    candidate = Candidate(spec["name"], kind, tuple(spec["members"]), spec["calibrator"], form)
    calibrators = tuple(
        calibrator_from_state({"name": name} | arrays_under(arrays, f"calibrator{i}."))
        for i, name in enumerate(spec["calibrators"])
    )
    own = arrays_under(arrays, "pool.")
    head = head_from_arrays(kind, own) if kind in KINDS else None
    return Combiner(candidate, calibrators, head)


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
    seed: int = 0,
) -> CrossValidated:
    """Repeated cross-validation of every candidate on the same folds.

    A network takes longer than all other candidates together: it is fitted in one repeat only.

    Args:
        evidence: (S, n, k); missing rows NaN.
        folds: (R, n) fold number of each row in each repeat.
        fitted: the candidates fitted on all rows, as starting points.
        seed: of the networks among them.
    """
    shape = (len(candidates), *targets.shape)
    fused = np.zeros(shape)
    losses = np.zeros(shape[:2])
    repeats = [1 if isinstance(c.form, MlpForm) else len(folds) for c in candidates]
    for done, repeat in enumerate(folds):
        due = [c for c, wanted in enumerate(repeats) if wanted > done]
        for fold in np.unique(repeat):
            inside, outside = repeat != fold, repeat == fold
            fitter = Fitter(evidence[:, inside], targets[inside], task, seed)
            for c in due:
                z = fitter.fit(candidates[c], fitted[c]).apply(evidence[:, outside], task)
                fused[c, outside] += z / repeats[c]
                losses[c, outside] += _row_losses(z, targets[outside], task) / repeats[c]
    return CrossValidated(tuple(candidates), task.normalise(fused), losses)


def _row_losses(z: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    """(n,) log-loss; NaN on missing rows."""
    rows = evidence_present(z)
    losses = np.full(len(z), np.nan)
    losses[rows] = task.row_loss(z[rows], targets[rows])
    return losses
