"""The guarded choice: leave the best single source only for a gain that is more than noise.

The rule is the one-standard-error rule (Breiman et al. 1984, §3.4.3) turned round: the simple model
is the best single source, and a combiner must beat its cross-validated log-loss by more than the
standard error of the paired difference, without losing accuracy. Knows cross-validated losses only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labelfusion.fusion.candidates import CrossValidated
from labelfusion.fusion.decisions import default_rule
from labelfusion.tasks import Task

# Below these many labelled rows the standard error is itself badly known: ask for more.
SMALL_SAMPLE = 100
SMALL_SAMPLE_FACTOR = 1.5
# Fewer rows than this with every source present are too few to compare combiners on.
MIN_COMPARED_ROWS = 10


@dataclass(frozen=True)
class CandidateScore:
    """One row of the choice's table. Losses in nats a text, gains over the best single source."""

    name: str
    kind: str
    log_loss: float
    standard_error: float
    gain: float
    gain_se: float
    accuracy: float
    eligible: bool


@dataclass(frozen=True)
class Choice:
    """Which candidate combines a set of sources, why, and what all of them scored."""

    sources: tuple[str, ...]
    chosen: str
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
    factor = SMALL_SAMPLE_FACTOR if rows.sum() < SMALL_SAMPLE else 1.0
    table = _Table(cv, inside, rows, targets, task, standard_errors * factor)
    chosen, reason = table.asked_for(method, subset) or table.guarded()
    return Choice(
        names,
        cv.candidates[chosen].name,
        method,
        reason,
        standard_errors * factor,
        int(rows.sum()),
        tuple(table.scores()),
    )


class _Table:
    """Losses of the candidates of one subset on the rows where all of its sources are present."""

    def __init__(
        self,
        cv: CrossValidated,
        inside: list[int],
        rows: np.ndarray,
        targets: np.ndarray,
        task: Task,
        standard_errors: float,
    ) -> None:
        self.cv, self.inside, self.standard_errors = cv, inside, standard_errors
        self.losses = {c: cv.losses[c, rows] for c in inside}
        rule = default_rule(task, targets)
        self.right = {
            c: (rule.decide(cv.evidence[c, rows], task) == targets[rows]).all(axis=1)
            for c in inside
        }
        singles = [c for c in inside if cv.candidates[c].kind == "source"]
        self.best_single = min(singles, key=lambda c: self.losses[c].mean())
        self.accuracy_to_keep = max(self.right[c].mean() for c in singles)

    def gain(self, c: int) -> tuple[float, float]:
        """Mean loss saved against the best single source, and its standard error."""
        difference = self.losses[self.best_single] - self.losses[c]
        return float(difference.mean()), _standard_error(difference)

    def eligible(self, c: int) -> bool:
        if self.cv.candidates[c].kind == "source":
            return c == self.best_single
        gain, error = self.gain(c)
        keeps_accuracy = self.right[c].mean() >= self.accuracy_to_keep
        return gain > self.standard_errors * error and gain > 0 and bool(keeps_accuracy)

    def guarded(self) -> tuple[int, str]:
        eligible = [c for c in self.inside if self.eligible(c)]
        chosen = min(eligible, key=lambda c: self.losses[c].mean())
        best = self.cv.candidates[self.best_single].name
        if len(self.inside) == 1:
            return chosen, f"{best} is the only candidate"
        if chosen == self.best_single:
            return chosen, (
                f"No combiner beat {best} alone by more than {self.standard_errors:g} × the "
                "standard error of the paired cross-validated log-loss while keeping its accuracy"
            )
        gain, error = self.gain(chosen)
        return chosen, (
            f"Lowest cross-validated log-loss: {gain:.3f} ± {error:.3f} nats a text better than "
            f"{best} alone, the best single source, at no loss of accuracy"
        )

    def asked_for(self, method: str, subset: tuple[int, ...]) -> tuple[int, str] | None:
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
        return chosen, f"Asked for by name: {method}"

    def scores(self) -> list[CandidateScore]:
        return [self._score(c) for c in sorted(self.inside, key=lambda c: self.losses[c].mean())]

    def _score(self, c: int) -> CandidateScore:
        gain, error = self.gain(c)
        return CandidateScore(
            name=self.cv.candidates[c].name,
            kind=self.cv.candidates[c].kind,
            log_loss=float(self.losses[c].mean()),
            standard_error=_standard_error(self.losses[c]),
            gain=gain,
            gain_se=error,
            accuracy=float(self.right[c].mean()),
            eligible=self.eligible(c),
        )


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
    if scored:
        chosen = min(scored, key=lambda c: cv.losses[c, seen[c]].mean())
        reason = f"{why}: the source with the lowest log-loss on its own rows"
    else:
        pools = [
            c
            for c, cand in enumerate(cv.candidates)
            if cand.kind == "log_pool" and cand.members == subset
        ]
        chosen, reason = (pools or singles)[0], f"{why}: the pool of all, nearly equal weights"
    return Choice(names, cv.candidates[chosen].name, method, reason, standard_errors, rows, ())
