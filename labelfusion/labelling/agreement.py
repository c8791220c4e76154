"""How far people agree: with labels there were before, with suggestions, and with each other.

Works on pairs of label sets. Knows no journal file and no page.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from labelfusion.evaluation.intervals import wilson_interval
from labelfusion.labelling.state import LabelState

LabelSet = frozenset[str]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Agreement:
    """Two judgements of the same texts.

    Attributes:
        what: whose, e.g. "ana and ben".
        texts: how many texts both judged.
        share: of them judged alike (all labels), None for none.
        interval: of the share, 95 % (Wilson 1927).
        kappa: Cohen's, of whole label sets; None where it does not exist (both always say one
            and the same thing, or there are no texts).
    """

    what: str
    texts: int
    share: float | None
    interval: tuple[float, float] | None
    kappa: float | None


def agreement(what: str, pairs: Iterable[tuple[LabelSet, LabelSet]]) -> Agreement:
    """Agreement of pairs of label sets, one pair a text."""
    pairs = list(pairs)
    if not pairs:
        return Agreement(what, 0, None, None, None)
    same = sum(first == second for first, second in pairs)
    low, high = wilson_interval(np.array([same]), np.array([len(pairs)]), CONFIDENCE)
    interval = (float(low[0]), float(high[0]))
    return Agreement(what, len(pairs), same / len(pairs), interval, cohen_kappa(pairs))


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Agreement beyond chance (Cohen 1960); None where chance alone would agree always.

    scikit-learn's `cohen_kappa_score` gives the same; here without loading it into the app.
    """
    values = sorted({value for pair in pairs for value in pair}, key=repr)
    position = {value: i for i, value in enumerate(values)}
    table = np.zeros((len(values), len(values)))
    for first, second in pairs:
        table[position[first], position[second]] += 1
    table /= len(pairs)
    expected = float(table.sum(axis=1) @ table.sum(axis=0))
    return None if expected >= 1 else (float(np.trace(table)) - expected) / (1 - expected)


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Agreement beyond chance of any number of persons, nominal (Krippendorff 2011, "Computing").

    Args:
        units: for each text the judgements it got; texts with fewer than two say nothing.

    None where no text has two judgements, or all judgements are the same.
    """
    units = [list(unit) for unit in units if len(unit) > 1]
    values = sorted({value for unit in units for value in unit}, key=repr)
    if len(values) < 2:
        return None
    counts = np.array([[unit.count(value) for value in values] for unit in units], dtype=float)
    size = counts.sum(axis=1)
    total, per_value = size.sum(), counts.sum(axis=0)
    observed = ((size**2 - (counts**2).sum(axis=1)) / (size - 1)).sum() / total
    expected = (total**2 - (per_value**2).sum()) / (total * (total - 1))
    return float(1 - observed / expected)


def between_persons(state: LabelState) -> list[Agreement]:
    """Each pair of persons who labelled some of the same texts."""
    given = [
        {who: frozenset(entry.labels) for who, entry in people.items()}
        for _, people in state.labelled()
    ]
    found = []
    for first, second in combinations(state.people(), 2):
        both = [(g[first], g[second]) for g in given if first in g and second in g]
        if both:
            found.append(agreement(f"{first} and {second}", both))
    return found


def alpha(state: LabelState) -> float | None:
    """Krippendorff's alpha of all persons over the texts that two or more labelled."""
    return krippendorff_alpha(
        [frozenset(entry.labels) for entry in given.values()] for _, given in state.labelled()
    )


def all_agreements(state: LabelState) -> list[Agreement]:
    """With the labels there were, with suggestions, and between persons; those of some texts."""
    found = [with_earlier(state), *with_suggestions(state), *between_persons(state)]
    return [one for one in found if one.texts]


def with_suggestions(state: LabelState) -> list[Agreement]:
    """Labels given against what was suggested, by who suggests; seen and hidden ones apart.

    Only hidden suggestions say how right they are: one that is seen sways.
    """
    pairs: dict[str, list[tuple[LabelSet, LabelSet]]] = {}
    for _, given in state.labelled():
        for entry in given.values():
            if entry.shown:
                how = "not seen" if entry.shown.hidden else "seen"
                both = (frozenset(entry.labels), frozenset(entry.shown.labels))
                pairs.setdefault(f"{entry.shown.by}, {how}", []).append(both)
    return [agreement(what, both) for what, both in sorted(pairs.items())]


def with_earlier(state: LabelState) -> Agreement:
    """Labels given against those the data had for the text when it was shown."""
    pairs = [
        (frozenset(entry.labels), frozenset(entry.earlier))
        for _, given in state.labelled()
        for entry in given.values()
        if entry.earlier is not None
    ]
    return agreement("labels there were", pairs)
