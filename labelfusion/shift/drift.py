"""A whole file beside the training texts: does the model still know what it is asked about?

Four questions: are more texts unlike than chance explains; do distances differ as a whole; is the
model less sure; are labels given at other rates. Answers in figures, and in a sentence that says
what to do. Knows no text. A file that is read in chunks is compared chunk by chunk: a `Tally` holds
what adds up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from labelfusion.evaluation.intervals import wilson_interval
from labelfusion.shift.features import cosine_distances
from labelfusion.shift.reference import NEIGHBOURS, Reference, certainty
from labelfusion.shift.unlike import ALPHA, Unlike
from labelfusion.types import Prediction

CONFIDENCE = 0.95
# Beside a whole file of figures, a difference is told where chance would show it in 1 of 100 files.
SIGNIFICANT = 0.01
# Below this share of rows with every source, confidence and labels are of another model.
COMPARABLE_SHARE = 0.9
# Fewer texts than this say nothing about a file as a whole.
MIN_TEXTS = 10
Verdict = Literal["too few", "alike", "some unlike", "shifted"]


@dataclass(frozen=True)
class LabelShare:
    """The label whose share differs most from what the model gave rows it did not see.

    `p_value` is of Fisher's exact test, times the number of labels (Bonferroni).
    """

    label: str
    share: float
    training_share: float
    p_value: float


@dataclass(frozen=True)
class Drift:
    """A file of n texts beside the training texts. Shares and confidences are 0..1.

    Attributes:
        flagged: how many are flagged as unlike the training texts.
        interval: of the share flagged, Wilson.
        expected_share: at most this share is flagged on average where nothing has changed.
        expected_high: what chance explains: in 97.5 % of such files no larger share is flagged.
        distance_p: two-sample Kolmogorov-Smirnov on distances; None for few texts.
        confidence, training_confidence: means; None where they cannot be compared.
        confidence_interval: of their difference (file minus training).
        label: the label whose share differs most; None where they cannot be compared.
        sentence: all of it in words, with what to do.
    """

    texts: int
    flagged: int
    share: float
    interval: tuple[float, float]
    expected_share: float
    expected_high: float
    distance_p: float | None
    confidence: float | None
    training_confidence: float | None
    confidence_interval: tuple[float, float] | None
    label: LabelShare | None
    verdict: Verdict
    sentence: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Tally:
    """What one part of a file says; the tallies of all parts add up to the file's.

    Attributes:
        texts, flagged: how many, and how many are unlike the training texts.
        strangeness: (s,) mean distances to one half of the training texts, of a random share of
            the texts that are not empty.
        complete: how many predictions used every source.
        certain, certain_squared: sums of the certainty of these, and of its square.
        decided: (k,) on how many of these each label is decided.
    """

    texts: int
    flagged: int
    strangeness: np.ndarray
    complete: int
    certain: float
    certain_squared: float
    decided: np.ndarray

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.texts + other.texts,
            self.flagged + other.flagged,
            np.concatenate([self.strangeness, other.strangeness]),
            self.complete + other.complete,
            self.certain + other.certain,
            self.certain_squared + other.certain_squared,
            self.decided + other.decided,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        arrays = {"strangeness": self.strangeness.tolist(), "decided": self.decided.tolist()}
        return vars(self) | arrays

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tally:
        """Inverse of `to_dict`."""
        arrays: dict[str, Any] = {
            "strangeness": np.asarray(values["strangeness"], dtype=float),
            "decided": np.asarray(values["decided"], dtype=int),
        }
        return cls(**dict(values) | arrays)


def tally(
    reference: Reference,
    unlike: Unlike,
    features: Any,
    prediction: Prediction,
    share: float = 1.0,
) -> Tally:
    """Count what `drift_of` needs.

    Args:
        unlike: the texts one by one.
        features: (n', d) vectors of those that are not empty (`Reference.features`).
        prediction: of all of them.
        share: of the texts whose distances are kept, 0..1; a sample bounds what a large file takes.
    """
    rows = prediction.present.all(axis=1)
    certain = certainty(prediction)[rows]
    kept = np.random.default_rng(0).random(features.shape[0]) < share
    return Tally(
        len(unlike),
        int(unlike.flagged.sum()),
        _strangeness(features[np.flatnonzero(kept)], _halves(reference)[0]),
        int(rows.sum()),
        float(certain.sum()),
        float((certain**2).sum()),
        prediction.decisions[rows].sum(axis=0).astype(int),
    )


def drift_of(reference: Reference, found: Tally, labels: Sequence[str]) -> Drift:
    """Compare a file with the training texts, by its tally. `labels` names the k labels."""
    n, flagged = found.texts, found.flagged
    low, high = wilson_interval(np.array([flagged]), np.array([max(n, 1)]), CONFIDENCE)
    drift = Drift(
        n,
        flagged,
        flagged / max(n, 1),
        (float(low[0]), float(high[0])),
        ALPHA,
        _expected_high(n, len(reference), ALPHA),
        _distance_p(reference, found.strangeness),
        *_confidence(reference, found),
        _label_share(reference, found, labels),
        "too few",
    )
    verdict = _verdict(drift)
    told = Drift(**{**vars(drift), "verdict": verdict})
    return Drift(**{**vars(told), "sentence": _sentence(told)})


def measure_drift(
    reference: Reference, unlike: Unlike, features: Any, prediction: Prediction
) -> Drift:
    """`drift_of` a file that is one part; arguments as of `tally`."""
    found = tally(reference, unlike, features, prediction)
    return drift_of(reference, found, prediction.space.names)


def _expected_high(n: int, m: int, alpha: float) -> float:
    """The share of n exchangeable texts that no more than 2.5 % of such files exceed.

    Given the m reference texts, the rate of false alarms is Beta distributed around alpha (Bates et
    al. 2023, Testing for outliers with conformal p-values, §2), so their count is beta-binomial.
    """
    from scipy.stats import betabinom

    if not n:
        return alpha
    ranks = max(int(alpha * (m + 1)), 1)
    return float(betabinom.ppf((1 + CONFIDENCE) / 2, n, ranks, m + 1 - ranks)) / n


def _distance_p(reference: Reference, mine: np.ndarray) -> float | None:
    """Of a two-sample test that is exact: new texts and one half of the training texts are each
    measured against the other half, which belongs to neither."""
    from scipy.stats import ks_2samp

    if min(len(mine), len(reference) // 2) < MIN_TEXTS:
        return None
    base, held = _halves(reference)
    theirs = _strangeness(held, base)
    return float(getattr(ks_2samp(mine, theirs), "pvalue"))  # noqa: B009 - its type is not told


def _halves(reference: Reference) -> tuple[Any, Any]:
    half = len(reference) // 2
    order = np.random.default_rng(0).permutation(len(reference))
    return reference.vectors[order[:half]], reference.vectors[order[half:]]


def _strangeness(vectors: Any, base: Any) -> np.ndarray:
    k = min(NEIGHBOURS, base.shape[0])
    if not k or not vectors.shape[0]:
        return np.zeros(0)
    chunks = (vectors[i : i + 512] for i in range(0, vectors.shape[0], 512))
    nearest = [np.partition(cosine_distances(c, base), k - 1, axis=1)[:, :k] for c in chunks]
    return np.concatenate(nearest).mean(axis=1)


def _comparable(reference: Reference, found: Tally) -> bool:
    """Whether nearly all predictions used every source, as the reference's did."""
    enough = found.texts >= MIN_TEXTS and found.complete >= COMPARABLE_SHARE * found.texts
    return enough and len(reference.confidence) >= MIN_TEXTS


def _confidence(
    reference: Reference, found: Tally
) -> tuple[float | None, float | None, tuple[float, float] | None]:
    if not _comparable(reference, found):
        return None, None, None
    n, old = found.complete, reference.confidence
    mean = found.certain / n
    variance = max(found.certain_squared - n * mean**2, 0.0) / (n - 1)
    difference = mean - old.mean()
    error = 1.96 * np.sqrt(variance / n + old.var(ddof=1) / len(old))
    interval = (float(difference - error), float(difference + error))
    return mean, float(old.mean()), interval


def _label_share(reference: Reference, found: Tally, labels: Sequence[str]) -> LabelShare | None:
    from scipy.stats import fisher_exact

    if not _comparable(reference, found):
        return None
    n, q = found.complete, len(reference.confidence)
    given, before = found.decided, reference.decided
    tests = [
        float(getattr(fisher_exact([[g, n - g], [b, q - b]]), "pvalue"))  # noqa: B009 - as above
        for g, b in zip(given, before, strict=True)
    ]
    j, k = int(np.argmin(tests)), len(tests)
    return LabelShare(labels[j], float(given[j] / n), float(before[j] / q), min(1.0, k * tests[j]))


def _verdict(drift: Drift) -> Verdict:
    if drift.texts < MIN_TEXTS:
        return "too few"
    if drift.share > drift.expected_high:
        return "some unlike" if drift.share < 0.5 else "shifted"
    moved = drift.distance_p is not None and drift.distance_p < SIGNIFICANT
    return "shifted" if moved else "alike"


def _sentence(drift: Drift) -> str:
    found = f"{drift.flagged} of {drift.texts} texts are unlike the training texts"
    share = f"{found} ({drift.share:.1%}; chance explains up to {drift.expected_high:.1%})"
    parts = {
        "too few": f"{found}. A file of fewer than {MIN_TEXTS} texts says nothing as a whole: "
        "look at those that are flagged.",
        "alike": f"{share}. The file looks like the training texts: nothing to do.",
        "some unlike": f"{share}. Read the flagged texts first; label some of them and train "
        "again before their labels are relied on.",
        "shifted": f"{share}. The file as a whole is unlike the training texts, so the figures "
        "measured on the test texts do not hold for it: label a random sample of it, see how "
        "often the model is right, and train again with the sample.",
    }
    return " ".join([parts[drift.verdict], *_asides(drift)])


def _asides(drift: Drift) -> list[str]:
    asides = []
    if drift.confidence_interval is not None and drift.training_confidence is not None:
        low, high = drift.confidence_interval
        if high < 0 or low > 0:
            way = "less" if high < 0 else "more"
            asides.append(
                f"The model is {way} sure than on texts of the data it did not see: mean "
                f"{drift.confidence:.2f} against {drift.training_confidence:.2f}."
            )
    elif drift.texts >= MIN_TEXTS:
        asides.append("Confidence is not compared: not every source was asked about every text.")
    label = drift.label
    if label is not None and label.p_value < SIGNIFICANT:
        asides.append(
            f"The label {label.label} is given to {label.share:.1%} of texts, against "
            f"{label.training_share:.1%} of the data."
        )
    return asides
