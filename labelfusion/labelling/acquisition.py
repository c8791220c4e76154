"""Which texts to ask about next, and why each.

Orders rows by scores and texts alone; knows no journal, no run and no file. The same input and seed
give the same order. What is drawn for the audit is decided by the text and the seed before any
model has spoken, so the audit stays a simple random sample of the texts however long labelling
goes on, and no text that was chosen can be in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Strategy = Literal["mixed", "disagreement", "margin", "diversity", "errors", "random"]
AUDIT = "audit"
QUEUE_ROWS = 300
# `mixed` spreads each block of picks over so many times as many of the most telling texts.
BLOCK, CANDIDATES = 50, 10
# `diversity` picks from so many texts drawn at random, which stand for all.
SPREAD_OVER = 20_000
# Words in more texts than this share say nothing of what a text is about, and fill the matrix.
MAX_DOCUMENT_SHARE = 0.5


@dataclass(frozen=True)
class Pool:
    """The rows a queue is made of.

    Attributes:
        texts: n texts; repeats should be left out by the caller.
        hashes: n, see `journal.text_hash`.
        open: (n,) bool, rows that may be asked about.
        sources: (n, k) probabilities of each source, NaN rows where it says nothing.
        fused: (n, k) probabilities of the suggestion, NaN rows where there is none.
        given: (n, k) indicators of labels the rows have already; only `errors` reads them.
        embeddings: (n, d), or None for TF-IDF of the texts.
    """

    texts: Sequence[str]
    hashes: Sequence[str]
    open: np.ndarray
    multi_label: bool
    sources: Mapping[str, np.ndarray]
    fused: np.ndarray | None = None
    given: np.ndarray | None = None
    embeddings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Queue:
    """Positions in the order of asking, and for each why: a Strategy, or AUDIT."""

    order: np.ndarray
    reasons: tuple[str, ...]


def draw(hashes: Sequence[str], seed: int, what: str) -> np.ndarray:
    """(n,) numbers in [0, 1), one a text, that depend on text, seed and purpose alone."""
    salt = f"{what}:{seed}:".encode()
    digests = (hashlib.sha256(salt + h.encode()).digest()[:8] for h in hashes)
    return np.array([int.from_bytes(d, "big") for d in digests], dtype=float) / 2.0**64


def in_audit(hashes: Sequence[str], seed: int, share: float) -> np.ndarray:
    """(n,) bool, the texts drawn for the audit. A larger share holds every smaller one."""
    return draw(hashes, seed, AUDIT) < share


def disagreement(sources: Sequence[np.ndarray], multi_label: bool) -> np.ndarray:
    """(n,) nats: entropy of the mean of the sources minus the mean of their entropies.

    The generalised Jensen-Shannon divergence (Lin 1991), which is 0 where all say the same; multi-
    label: summed over the labels. NaN where fewer than two sources say something.
    """
    if not sources:
        return np.zeros(0)
    stacked = np.stack(sources)
    present = np.asarray(~np.isnan(stacked).any(axis=2))
    count = present.sum(axis=0)
    weights = np.where(present, 1.0, 0.0)[:, :, None] / np.maximum(count, 1)[None, :, None]
    p = np.where(present[:, :, None], stacked, 0.0)
    mean = (weights * p).sum(axis=0)
    own = (weights[:, :, 0] * _entropy(p, multi_label)).sum(axis=0)
    return np.where(count >= 2, np.maximum(_entropy(mean, multi_label) - own, 0.0), np.nan)


def _entropy(p: np.ndarray, multi_label: bool) -> np.ndarray:
    """(..., k) probabilities -> (...) nats."""
    from scipy.special import xlogy

    return -(xlogy(p, p) + (xlogy(1 - p, 1 - p) if multi_label else 0.0)).sum(axis=-1)


def uncertainty(p: np.ndarray, multi_label: bool) -> np.ndarray:
    """(n,) in 0..1: one minus the margin of the best two labels (Scheffer et al. 2001).

    Multi-label: of the label that is nearest to one half. NaN stays NaN.
    """
    if multi_label:
        return 1 - np.abs(2 * p - 1).min(axis=1)
    if p.shape[1] < 2:
        return 1 - p[:, 0]
    second, first = np.partition(p, -2, axis=1)[:, -2:].T
    return 1 - (first - second)


def suspicion(p: np.ndarray, given: np.ndarray, multi_label: bool) -> np.ndarray:
    """(n,) how much the fused probabilities speak against the labels a row has, -1..1.

    Multi-class: best other label minus the given one. Multi-label: the label that fits least.
    Where p is out of fold, this ranks label errors (Northcutt et al. 2021, normalised margin).
    """
    if multi_label:
        return np.where(given > 0, 1 - 2 * p, 2 * p - 1).max(axis=1)
    own = np.where(given > 0, p, 0.0).sum(axis=1)
    return np.where(given > 0, -np.inf, p).max(axis=1) - own


def features(texts: Sequence[str]) -> csr_matrix:
    """(n, v) TF-IDF rows of unit length; a text without a telling word is a row of zeros."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    common = MAX_DOCUMENT_SHARE if len(texts) >= BLOCK else 1.0
    vectoriser = TfidfVectorizer(max_df=common, sublinear_tf=True)
    try:
        return cast("csr_matrix", vectoriser.fit_transform(texts))
    except ValueError:
        # No word is left: texts of signs alone, or all the same.
        from scipy.sparse import csr_matrix as matrix

        return matrix((len(texts), 1), dtype=np.float32)


def k_centre(
    rows: Any, count: int, *, chosen: np.ndarray, candidates: np.ndarray, seed: int
) -> np.ndarray:
    """Up to `count` of `candidates`, each the one farthest from all picked before it.

    Greedy k-centre (Gonzalez 1985; for labelling: Sener & Savarese 2018) by cosine.

    Args:
        rows: (n, d) features of unit length, dense or sparse.
        chosen: positions that count as picked already. Without any the first is drawn by `seed`.
        candidates: positions to pick from.
    """
    own = rows[candidates]
    nearest = _nearest(own, rows[chosen])
    # Ties, and texts that share no word with any other, come in a seeded order.
    jitter = np.random.default_rng(seed).random(len(candidates)) * 1e-6
    picked: list[int] = []
    for _ in range(min(count, len(candidates))):
        score = nearest + jitter
        score[picked] = np.inf
        best = int(score.argmin())
        picked.append(best)
        nearest = np.maximum(nearest, _similarity(own, own[best : best + 1])[:, 0])
    return candidates[picked]


def _nearest(rows: Any, others: Any, chunk: int = 256) -> np.ndarray:
    """(n,) greatest similarity of each row to any of `others`; -1 where there are none."""
    best = np.full(rows.shape[0], -1.0)
    for start in range(0, others.shape[0], chunk):
        best = np.maximum(best, _similarity(rows, others[start : start + chunk]).max(axis=1))
    return best


def _similarity(rows: Any, others: Any) -> np.ndarray:
    product = rows @ others.T
    return product.toarray() if hasattr(product, "toarray") else np.asarray(product)


def make_queue(
    pool: Pool,
    strategy: Strategy,
    *,
    seed: int,
    audit_share: float,
    known: np.ndarray | None = None,
    count: int = QUEUE_ROWS,
) -> Queue:
    """Up to `count` open rows in the order of asking.

    Args:
        strategy: mixed takes the texts that scores find most telling, spread over what they are
            about; without scores it is diversity. A strategy whose scores are missing is `mixed`.
        audit_share: of the texts, which are asked about in the order of their draw, evenly between
            the others; `errors` has no audit.
        known: (n,) bool, rows labelled already, from which diversity keeps away.
    """
    share = 0.0 if strategy == "errors" else audit_share
    audit = in_audit(pool.hashes, seed, share)
    drawn = np.flatnonzero(pool.open & audit)
    drawn = drawn[np.argsort(draw(pool.hashes, seed, AUDIT)[drawn], kind="stable")][:count]
    eligible = np.flatnonzero(pool.open & ~audit)
    known = np.zeros(len(pool), dtype=bool) if known is None else known
    chosen, reason = _choose(pool, strategy, eligible, known, seed, count)
    return _interleave(drawn, chosen, reason, share, count)


def _interleave(
    drawn: np.ndarray, chosen: np.ndarray, reason: str, share: float, count: int
) -> Queue:
    """Both orders as one, `share` of it audit as long as both last."""
    order: list[int] = []
    reasons: list[str] = []
    audits, others = iter(drawn.tolist()), iter(chosen.tolist())
    for place in range(min(count, len(drawn) + len(chosen))):
        due = int((place + 1) * share) > int(place * share)
        first, then = (audits, others) if due else (others, audits)
        row = next(first, None)
        is_audit = due if row is not None else not due
        order.append(next(then) if row is None else row)
        reasons.append(AUDIT if is_audit else reason)
    return Queue(np.array(order, dtype=int), tuple(reasons))


def _choose(
    pool: Pool, strategy: str, rows: np.ndarray, known: np.ndarray, seed: int, count: int
) -> tuple[np.ndarray, str]:
    """The first `count` of `rows` by the strategy, and the strategy that could be followed."""
    ties = draw(pool.hashes, seed, "order")[rows]
    if strategy == "random":
        return rows[np.argsort(ties, kind="stable")][:count], strategy
    score = _score(pool, strategy)
    if score is None:
        some = rows[np.argsort(ties, kind="stable")][:SPREAD_OVER]
        chosen = np.flatnonzero(known)
        made = _features(pool)
        return k_centre(made, count, chosen=chosen, candidates=some, seed=seed), "diversity"
    # A row that no source says anything about comes last.
    ranked = rows[np.lexsort([ties, -np.nan_to_num(score[rows], nan=-np.inf)])]
    if strategy == "mixed":
        return _spread(pool, ranked[: count * CANDIDATES], known, seed, count), strategy
    return ranked[:count], strategy


def _score(pool: Pool, strategy: str) -> np.ndarray | None:
    """(n,) what the strategy orders by, greatest first; None where that needs scores it lacks."""
    sources, fused = list(pool.sources.values()), pool.fused
    if strategy == "errors" and fused is not None and pool.given is not None:
        return suspicion(fused, pool.given, pool.multi_label)
    differ = disagreement(sources, pool.multi_label) if len(sources) > 1 else None
    if strategy == "disagreement" and differ is not None:
        return differ
    unsure = None if fused is None else uncertainty(fused, pool.multi_label)
    if strategy == "diversity" or unsure is None or np.isnan(unsure).all():
        return None
    if strategy == "margin" or differ is None:
        return unsure
    return _rank(unsure) + _rank(differ)


def _rank(values: np.ndarray) -> np.ndarray:
    """(n,) in 0..1, ties alike; NaN is the least."""
    from scipy.stats import rankdata

    return rankdata(np.nan_to_num(values, nan=-np.inf)) / len(values)


def _spread(pool: Pool, ranked: np.ndarray, known: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Blocks of picks: the next most telling rows, those first that are unlike what was picked."""
    made = _features(pool)
    picked = np.flatnonzero(known)
    before = len(picked)
    while len(ranked) and len(picked) - before < count:
        block = k_centre(
            made, BLOCK, chosen=picked, candidates=ranked[: BLOCK * CANDIDATES], seed=seed
        )
        picked = np.concatenate([picked, block])
        ranked = ranked[~np.isin(ranked, block)]
    return picked[before:][:count]


def _features(pool: Pool) -> Any:
    if pool.embeddings is None:
        return features(pool.texts)
    norms = np.linalg.norm(pool.embeddings, axis=1, keepdims=True)
    return pool.embeddings / np.where(norms > 0, norms, 1.0)
