"""The guarded choice: leave the best single source only for a gain that is more than noise.

The rule is the one-standard-error rule (Breiman et al. 1984, §3.4.3) turned round: the simple model
is the best single source. A combiner must beat its cross-validated log-loss by more than the
standard error of the paired difference, and where it changes decisions, its accuracy by one too. Of
those that do, the best and all that cannot be told from it are averaged: to pick one of equals is
to pick noise. Knows cross-validated losses only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labelfusion.fusion.candidates import CrossValidated
from labelfusion.fusion.decisions import default_rule
from labelfusion.tasks import Task

# On few rows the standard error is itself badly known, and the best of many candidates is partly
# luck: on n rows 1 + 60/n standard errors of log-loss are asked for (2.5 at 40 rows, 1.1 at 500).
SMALL_SAMPLE_ROWS = 60
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
    used: bool


@dataclass(frozen=True)
class Choice:
    """Which candidate combines a set of sources, why, and what all of them scored.

    `chosen` is the best one, `used` all that are averaged (`chosen` among them).
    """

    sources: tuple[str, ...]
    chosen: str
    used: tuple[str, ...]
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
    used, reason = table.asked_for(method, subset) or table.guarded()
    return Choice(
        names,
        cv.candidates[used[0]].name,
        tuple(cv.candidates[c].name for c in used),
        method,
        reason,
        asked,
        int(rows.sum()),
        tuple(table.scores(used)),
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
        loss_errors: float,
        accuracy_errors: float,
    ) -> None:
        self.cv, self.inside = cv, inside
        self.loss_errors, self.accuracy_errors = loss_errors, accuracy_errors
        self.losses = {c: cv.losses[c, rows] for c in inside}
        rule = default_rule(task, targets)
        self.right = {
            c: (rule.decide(cv.evidence[c, rows], task) == targets[rows]).all(axis=1)
            for c in inside
        }
        singles = [c for c in inside if cv.candidates[c].kind == "source"]
        self.best_single = min(singles, key=lambda c: self.losses[c].mean())
        self.most_accurate_single = max(singles, key=lambda c: self.right[c].mean())

    def gain(self, c: int) -> tuple[float, float]:
        """Mean loss saved against the best single source, and its standard error."""
        difference = self.losses[self.best_single] - self.losses[c]
        return float(difference.mean()), _standard_error(difference)

    def eligible(self, c: int) -> bool:
        if self.cv.candidates[c].kind == "source":
            return c == self.best_single
        gain, error = self.gain(c)
        right = self.right[c].astype(float) - self.right[self.most_accurate_single]
        # Where no decision changes, both sides are 0: better probabilities are enough.
        as_accurate = right.mean() >= self.accuracy_errors * _standard_error(right)
        return gain > max(self.loss_errors * error, 0.0) and bool(as_accurate)

    def guarded(self) -> tuple[list[int], str]:
        ranked = sorted(
            (c for c in self.inside if self.eligible(c)), key=lambda c: self.losses[c].mean()
        )
        best, single = ranked[0], self.cv.candidates[self.best_single].name
        if len(self.inside) == 1:
            return [best], f"{single} is the only candidate"
        if best == self.best_single:
            return [best], (
                f"No combiner beat {single} alone by more than {self.loss_errors:.2g} × the "
                "standard error of the paired cross-validated log-loss and accuracy"
            )
        used = [c for c in ranked if self._as_good(c, best)]
        gain, error = self.gain(best)
        also = f", averaged with {len(used) - 1} it cannot be told from" if len(used) > 1 else ""
        return used, (
            f"Lowest cross-validated log-loss{also}: {gain:.3f} ± {error:.3f} nats a text better "
            f"than {single} alone, the best single source"
        )

    def _as_good(self, c: int, best: int) -> bool:
        """Whether c is a combiner within one standard error of the best."""
        excess = self.losses[c] - self.losses[best]
        return c != self.best_single and bool(excess.mean() <= _standard_error(excess))

    def asked_for(self, method: str, subset: tuple[int, ...]) -> tuple[list[int], str] | None:
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
        return [chosen], f"Asked for by name: {method}"

    def scores(self, used: list[int]) -> list[CandidateScore]:
        ranked = sorted(self.inside, key=lambda c: self.losses[c].mean())
        return [self._score(c, c in used) for c in ranked]

    def _score(self, c: int, used: bool) -> CandidateScore:
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
            used=used,
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
    return Choice(names, name, (name,), method, reason, standard_errors, rows, ())
