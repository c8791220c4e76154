"""Texts as a sparse matrix of words and pairs of words, fast enough for 100,000 texts.

Knows tokens and counts. Knows no labels and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

# Its functions are made when it is imported, which no type checker sees.
pc: Any = pyarrow.compute
# Letters, digits and marks of any script; everything else parts words.
_BETWEEN_WORDS = r"[^\pL\pN\pM_]+"


@dataclass(frozen=True)
class Words:
    """Which of t terms are in which of n texts: `matrix` (n, t) bool, `terms` t strings."""

    matrix: csc_matrix
    terms: list[str]


@dataclass(frozen=True)
class Vocabulary:
    """The terms that a matrix has columns for: words, then pairs of neighbouring words."""

    words: pa.Array
    pairs: np.ndarray  # codes first * len(words) + second, ascending

    @property
    def terms(self) -> list[str]:
        names = self.words.to_pylist()
        seconds = (divmod(int(code), len(names)) for code in self.pairs)
        return [*names, *(f"{names[first]} {names[second]}" for first, second in seconds)]


def find_words(texts: Sequence[str], min_texts: int, max_terms: int) -> Words:
    """The words and pairs of words that at least `min_texts` texts hold.

    Args:
        texts: n texts.
        min_texts: how many texts must hold a term.
        max_terms: of words and of pairs each, the most frequent so many.
    """
    owner, tokens = _tokens(texts)
    encoded = tokens.dictionary_encode()
    n = max(len(texts), 1)
    words = _frequent(owner, np.asarray(encoded.indices), n, min_texts, max_terms)
    vocabulary = encoded.dictionary.take(pa.array(words))
    codes, first, second = _codes(owner, tokens, vocabulary)
    pairs = _frequent(first, second, n, min_texts, max_terms)
    chosen = Vocabulary(vocabulary, pairs)
    return Words(_matrix(len(texts), owner, codes, (first, second), chosen), chosen.terms)


def _tokens(texts: Sequence[str]) -> tuple[np.ndarray, pa.Array]:
    """(m,) index of the text that each of m tokens is from, and the tokens."""
    # A lone surrogate, as damaged files have them, is not UTF-8 and stops pyarrow.
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    parts = pc.split_pattern_regex(pc.utf8_lower(pa.array(clean, pa.string())), _BETWEEN_WORDS)
    owner, tokens = pc.list_parent_indices(parts), pc.list_flatten(parts)
    kept = pc.greater(pc.utf8_length(tokens), 0)
    return np.asarray(owner.filter(kept)), tokens.filter(kept)


def _frequent(
    owner: np.ndarray, codes: np.ndarray, n: int, min_texts: int, max_terms: int
) -> np.ndarray:
    """The codes that most of the n texts hold, ascending; a text counts once."""
    once = _distinct(codes.astype(np.int64) * n + owner)[0] // n
    values, counts = _distinct(once)
    values, counts = values[counts >= min_texts], counts[counts >= min_texts]
    return np.sort(values[np.argsort(-counts, kind="stable")[:max_terms]])


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, ascending, with counts: numpy.unique's hash table is slower by far here."""
    ordered = np.sort(values)
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    return ordered[starts], np.diff(np.r_[starts, len(ordered)])


def _codes(
    owner: np.ndarray, tokens: pa.Array, vocabulary: pa.Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each token's position in the vocabulary (-1: none); owners and codes of the word pairs."""
    codes = pc.fill_null(pc.index_in(tokens, vocabulary), -1)
    codes = np.asarray(codes).astype(np.int64)
    neighbours = (owner[:-1] == owner[1:]) & (codes[:-1] >= 0) & (codes[1:] >= 0)
    at = np.flatnonzero(neighbours)
    return codes, owner[at], codes[at] * len(vocabulary) + codes[at + 1]


def _matrix(
    n: int,
    owner: np.ndarray,
    codes: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    vocabulary: Vocabulary,
) -> csc_matrix:
    from scipy.sparse import csc_matrix

    pair_owner, pair_codes = pairs
    at = np.searchsorted(vocabulary.pairs, pair_codes)
    found = at < len(vocabulary.pairs)
    found[found] = vocabulary.pairs[at[found]] == pair_codes[found]
    known = codes >= 0
    rows = np.concatenate([owner[known], pair_owner[found]])
    columns = np.concatenate([codes[known], len(vocabulary.words) + at[found]])
    shape = (n, len(vocabulary.words) + len(vocabulary.pairs))
    return csc_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=shape)
