"""The guarded choice: leave the best single source only as far as the labels show that it pays.

The fused evidence is the best single source's plus a step towards a combiner: (1 - s) z_single +
s z_combiner, s in 0.1 … 1. The step is the one with the highest lower confidence bound of the
cross-validated log-loss it saves, in the spirit of the one-standard-error rule (Breiman et al.
1984, §3.4.3) turned round: the simple model is the best single source. A step counts only if its
bound is above 0 and, where it changes decisions, its accuracy is higher by a standard error too; of
a calibrator of that source: no lower. Steps that cannot be told from the best one are averaged: to
pick one of equals is to pick noise.
Knows cross-validated evidence and losses only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from labelfusion.fusion.candidates import CrossValidated
from labelfusion.fusion.decisions import default_rule
from labelfusion.tasks import Task

# On few rows the standard error is itself badly known, and the best of many candidates is partly
# luck: on n rows 1 + 50/n standard errors of log-loss are asked for (2.25 at 40 rows, 1.1 at 500).
SMALL_SAMPLE_ROWS = 50
# Fewer rows than this with every source present are too few to compare combiners on.
MIN_COMPARED_ROWS = 10
STEPS = np.linspace(0.1, 1.0, 10)
ROUNDING = 1e-9


@dataclass(frozen=True)
class CandidateScore:
    """One row of the choice's table. Losses in nats a text, gains over the best single source.

    Loss, gain and accuracy are those of the candidate by itself; `step` is how far towards it the
    labels allow to go (0: not at all), `weight` its share of the fused evidence.
    """

    name: str
    kind: str
    log_loss: float
    standard_error: float
    gain: float
    gain_se: float
    accuracy: float
    step: float
    weight: float
    eligible: bool
    used: bool


@dataclass(frozen=True)
class Choice:
    """Which candidates combine a set of sources, why, and what all of them scored.

    `chosen` is the best one, `used` all that are mixed (`chosen` among them) with `weights`, which
    sum to 1: the fused evidence is the weighted mean of theirs.
    """

    sources: tuple[str, ...]
    chosen: str
    used: tuple[str, ...]
    weights: tuple[float, ...]
    method: str
    reason: str
    standard_errors: float
    rows: int
    candidates: tuple[CandidateScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        values = asdict(self)
        return values | {
            "sources": list(self.sources),
            "used": list(self.used),
            "weights": list(self.weights),
            "candidates": [asdict(score) for score in self.candidates],
        }


def choose(
    cv: CrossValidated,
    sources: Sequence[str],
    subset: tuple[int, ...],
    targets: np.ndarray,
    task: Task,
    *,
    method: str,
    standard_errors: float,
) -> Choice:
    """Choose the combiner for rows on which exactly `subset` (source positions) is present."""
    names = tuple(sources[s] for s in subset)
    inside = [c for c, cand in enumerate(cv.candidates) if set(cand.members) <= set(subset)]
    rows = np.isfinite(cv.losses[inside].sum(axis=0))
    if rows.sum() < MIN_COMPARED_ROWS:
        return _without_comparison(cv, names, subset, method, standard_errors, int(rows.sum()))
    asked = standard_errors * float(1 + SMALL_SAMPLE_ROWS / rows.sum())
    table = _Table(cv, inside, rows, targets, task, asked, standard_errors)
    mix, reason = table.asked_for(method, subset) or table.guarded()
    return Choice(
        names,
        cv.candidates[next(iter(mix))].name,
        tuple(cv.candidates[c].name for c in mix),
        tuple(mix.values()),
        method,
        reason,
        asked,
        int(rows.sum()),
        tuple(table.scores(mix)),
    )


# Candidate -> its share of the fused evidence, the best candidate first.
Mix = dict[int, float]


@dataclass(frozen=True)
class _Step:
    """From the best single source towards a candidate: `size`, the loss `saved` on each row (n,)
    and the lower confidence `bound` of its mean."""

    candidate: int
    size: float
    saved: np.ndarray
    bound: float


class _Table:
    """Losses of the candidates of one subset on the rows where all of its sources are present."""

    def __init__(
        self,
        cv: CrossValidated,
        inside: list[int],
        rows: np.ndarray,
        targets: np.ndarray,
        task: Task,
        loss_errors: float,
        accuracy_errors: float,
    ) -> None:
        self.cv, self.inside, self.task, self.targets = cv, inside, task, targets[rows]
        self.loss_errors, self.accuracy_errors = loss_errors, accuracy_errors
        self.evidence = {c: cv.evidence[c, rows] for c in inside}
        self.losses = {c: cv.losses[c, rows] for c in inside}
        self.rule = default_rule(task, targets)
        self.right = {c: self._is_right(self.evidence[c]) for c in inside}
        self.singles = [c for c in inside if cv.candidates[c].kind == "source"]
        self.best_single = min(self.singles, key=lambda c: self.losses[c].mean())
        self.most_accurate_single = max(self.singles, key=lambda c: self.right[c].mean())
        found = [self._best_step(c) for c in inside if c not in self.singles]
        self.steps = {step.candidate: step for step in found if step is not None}

    def _is_right(self, evidence: np.ndarray) -> np.ndarray:
        """(n,) 1 where the decision is exactly right."""
        decided = self.rule.decide(evidence, self.task)
        return (decided == self.targets).all(axis=1).astype(float)

    def _best_step(self, c: int) -> _Step | None:
        """The step towards c with the highest bound, or None where no step surely pays."""
        found = [step for size in STEPS if (step := self._step(c, float(size))) is not None]
        return max(found, key=lambda step: step.bound, default=None)

    def _step(self, c: int, size: float) -> _Step | None:
        single = self.evidence[self.best_single]
        z = self.task.normalise(single + size * (self.evidence[c] - single))
        saved = self._single_loss - self.task.row_loss(z, self.targets)
        bound = float(saved.mean() - self.loss_errors * _standard_error(saved))
        if bound <= 0 or not self._as_accurate(c, z):
            return None
        return _Step(c, size, saved, bound)

    @cached_property
    def _single_loss(self) -> np.ndarray:
        return self.task.row_loss(self.evidence[self.best_single], self.targets)

    def _as_accurate(self, c: int, evidence: np.ndarray) -> bool:
        more = self._is_right(evidence) - self.right[self.most_accurate_single]
        own = self.cv.candidates[self.best_single].members
        # The single source's own calibrator mends its probabilities: to decide no worse is enough.
        errors = 0.0 if self.cv.candidates[c].members == own else self.accuracy_errors
        # Where no decision changes, both sides are 0: better probabilities are enough.
        return bool(more.mean() >= errors * _standard_error(more))

    def gain(self, c: int) -> tuple[float, float]:
        """Mean loss saved against the best single source, and its standard error."""
        difference = self.losses[self.best_single] - self.losses[c]
        return float(difference.mean()), _standard_error(difference)

    def guarded(self) -> tuple[Mix, str]:
        single = self.cv.candidates[self.best_single].name
        if len(self.inside) == 1:
            return {self.best_single: 1.0}, f"{single} is the only candidate"
        if not self.steps:
            return {self.best_single: 1.0}, (
                f"No combiner beat {single} alone by more than {self.loss_errors:.2g} × the "
                "standard error of the paired cross-validated log-loss and accuracy"
            )
        ranked = sorted(self.steps.values(), key=lambda step: -step.bound)
        used = [step for step in ranked if _as_good(step, ranked[0])]
        return self._mixed(used), self._told(used, single)

    def _mixed(self, used: list[_Step]) -> Mix:
        mix = {step.candidate: step.size / len(used) for step in used}
        rest = 1.0 - sum(mix.values())
        return mix | ({self.best_single: rest} if rest > ROUNDING else {})

    def _told(self, used: list[_Step], single: str) -> str:
        saved, size = used[0].saved, used[0].size
        other = len(used) - 1
        also = f", averaged with {other} it cannot be told from" if other else ""
        way = "" if size == 1 else f"{size:.0%} of the way from {single} to it{also}"
        gain = f"{saved.mean():.3f} ± {_standard_error(saved):.3f} nats a text better"
        return (
            f"Surest gain of cross-validated log-loss{f' ({way})' if way else also}: {gain} than "
            f"{single} alone, the best single source"
        )

    def asked_for(self, method: str, subset: tuple[int, ...]) -> tuple[Mix, str] | None:
        """The named method's best form on this subset, or None where the guard decides."""
        if method == "auto":
            return None
        matching = [
            c
            for c in self.inside
            if (cand := self.cv.candidates[c]).name == method
            or (cand.kind == method and cand.members == subset)
        ]
        if not matching:
            return None
        chosen = min(matching, key=lambda c: self.losses[c].mean())
        return {chosen: 1.0}, f"Asked for by name: {method}"

    def scores(self, mix: Mix) -> list[CandidateScore]:
        ranked = sorted(self.inside, key=lambda c: self.losses[c].mean())
        return [self._score(c, mix.get(c, 0.0)) for c in ranked]

    def _score(self, c: int, weight: float) -> CandidateScore:
        gain, error = self.gain(c)
        step = self.steps[c].size if c in self.steps else float(c == self.best_single)
        return CandidateScore(
            name=self.cv.candidates[c].name,
            kind=self.cv.candidates[c].kind,
            log_loss=float(self.losses[c].mean()),
            standard_error=_standard_error(self.losses[c]),
            gain=gain,
            gain_se=error,
            accuracy=float(self.right[c].mean()),
            step=step,
            weight=weight,
            eligible=step > 0,
            used=weight > 0,
        )


def _as_good(step: _Step, best: _Step) -> bool:
    """Whether it saves as much as the best, within one standard error."""
    excess = best.saved - step.saved
    return bool(excess.mean() <= _standard_error(excess))


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _without_comparison(
    cv: CrossValidated,
    names: tuple[str, ...],
    subset: tuple[int, ...],
    method: str,
    standard_errors: float,
    rows: int,
) -> Choice:
    """Too few common rows: the best source on its own rows, or else the equal-weight pool."""
    seen = ~np.isnan(cv.losses)
    singles = [
        c
        for c, cand in enumerate(cv.candidates)
        if cand.kind == "source" and cand.members[0] in subset
    ]
    scored = [c for c in singles if seen[c].sum() >= MIN_COMPARED_ROWS]
    why = f"Only {rows} labelled rows have all of {', '.join(names)}"
    asked = [
        c
        for c, cand in enumerate(cv.candidates)
        if method == cand.name or (cand.kind == method and cand.members == subset)
    ]
    if asked:
        chosen, reason = asked[0], f"{why}, but it was asked for by name: {method}"
    elif scored:
        chosen = min(scored, key=lambda c: cv.losses[c, seen[c]].mean())
        reason = f"{why}: the source with the lowest log-loss on its own rows"
    else:
        pools = [
            c
            for c, cand in enumerate(cv.candidates)
            if cand.kind == "log_pool" and cand.members == subset
        ]
        chosen = (pools or singles)[0]
        how = "the pool of all, nearly equal weights" if pools else "it is the only source"
        reason = f"{why}: {how}"
    name = cv.candidates[chosen].name
    return Choice(names, name, (name,), (1.0,), method, reason, standard_errors, rows, ())
