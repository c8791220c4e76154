"""A data set on the desk: which text comes next for whom, with which suggestion, and what is kept.

Puts data, journal, suggestions and queue together. Draws nothing, and knows no session.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from labelfusion.data import normalised
from labelfusion.labelling.acquisition import (
    AUDIT,
    Pool,
    Queue,
    Strategy,
    draw,
    in_audit,
    make_queue,
)
from labelfusion.labelling.apply import keys_of
from labelfusion.labelling.journal import Act, Entry, Journal, Shown
from labelfusion.labelling.state import Key, LabelState, match_rows
from labelfusion.labelling.suggestions import Suggestions
from labelfusion.types import Dataset

# Scores of the rest say less and less of what is asked now: the order is made anew this often.
QUEUE_LABELS = 200
# A text that another person has had on the screen for so long is theirs no longer.
ON_SCREEN_S = 180.0


@dataclass
class Book:
    """A journal and what follows from it, shared by those of one process who read it."""

    journal: Journal
    state: LabelState = field(default_factory=LabelState)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _on_screen: dict[Key, tuple[str, float]] = field(default_factory=dict)

    def refresh(self) -> LabelState:
        """The state with what other processes have written since."""
        with self._lock:
            self.state.add(self.journal.read_new())
            return self.state

    def write(self, entries: Iterable[Entry]) -> None:
        """Write to the journal and take what was written into the state. Raises as `append`."""
        with self._lock:
            self.journal.append(entries)
            self.refresh()

    def show(self, key: Key, who: str) -> None:
        """Remember that a person has a text before them."""
        with self._lock:
            gone = [k for k, (owner, _) in self._on_screen.items() if owner == who]
            for old in gone:
                del self._on_screen[old]
            self._on_screen[key] = (who, time.monotonic())

    def is_before_another(self, key: Key, who: str) -> bool:
        owner, since = self._on_screen.get(key, (who, 0.0))
        return owner != who and time.monotonic() - since < ON_SCREEN_S


@dataclass(frozen=True)
class Plan:
    """What is asked: see `acquisition.make_queue`; `double_share` of the texts go to two people."""

    strategy: Strategy = "mixed"
    audit_share: float = 0.2
    double_share: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Card:
    """A text to be labelled: its position, why it is asked about, and its place in the queue."""

    row: int
    reason: str
    rank: int | None

    @property
    def is_audit(self) -> bool:
        return self.reason == AUDIT


class Desk:
    """The texts of one version of a data set, in the order of one plan."""

    def __init__(
        self, dataset: Dataset, book: Book, plan: Plan, suggestions: Suggestions | None = None
    ) -> None:
        self.dataset, self.book, self.plan, self.suggestions = dataset, book, plan, suggestions
        self.keys = keys_of(dataset)
        self._rows = {key: i for i, key in enumerate(self.keys)}
        self._first = _first_of_its_text(dataset)
        self._named = _names_in_journal(book.refresh(), self.keys)
        self._renamed = {key: row for row, key in self._named.items()}
        self._twice = draw([key[1] for key in self.keys], plan.seed, "double") < plan.double_share
        self._queue, self._made_at = Queue(np.zeros(0, dtype=int), ()), -1
        self._lock = threading.RLock()

    def next_card(self, who: str) -> Card | None:
        """The next text for a person, or None when all are done."""
        state = self.book.refresh()
        with self._lock:
            if abs(len(state.touched()) - self._made_at) >= QUEUE_LABELS or self._made_at < 0:
                self._make_queue(state, who)
            card = self._from_queue(state, who)
            if card is None and len(self._queue.order):
                self._make_queue(state, who)
                card = self._from_queue(state, who)
        if card is not None:
            self.book.show(self.keys[card.row], who)
        return card

    def card_of(self, key: Key) -> Card | None:
        """The card of a text that was asked about before, to be shown again."""
        row = self._row_of(key)
        reason = self.book.state.reason(key) or self.plan.strategy
        return None if row is None else Card(row, reason, None)

    def _row_of(self, key: Key) -> int | None:
        """The row of a text in the journal; None where it is no longer in the data."""
        return self._renamed.get(key, self._rows.get(key))

    def _from_queue(self, state: LabelState, who: str) -> Card | None:
        pairs = zip(self._queue.order.tolist(), self._queue.reasons, strict=True)
        for rank, (row, reason) in enumerate(pairs, start=1):
            taken = self.book.is_before_another(self.keys[row], who) and not self._twice[row]
            if not taken and not self.is_done(state, row, who):
                return Card(row, reason, rank)
        return None

    def is_done(self, state: LabelState, row: int, who: str) -> bool:
        """Whether the person need not see the row."""
        return state.is_done(self.name(row), who, 2 if self._twice[row] else 1)

    def name(self, row: int) -> Key:
        """The key by which the journal knows the row."""
        return self._named.get(row, self.keys[row])

    def _make_queue(self, state: LabelState, who: str) -> None:
        review = self.plan.strategy == "errors"
        has_text = np.array([bool(text) for text in self.dataset.texts], dtype=bool)
        wanted = self.dataset.labelled if review else ~self.dataset.labelled
        open_rows = has_text & wanted & self._first
        touched = {*self._named, *(i for i, key in enumerate(self.keys) if state.is_touched(key))}
        for row in touched:
            open_rows[row] &= not self.is_done(state, row, who)
        known = self.dataset.labelled.copy()
        known[list(touched)] = True
        found = self.suggestions
        pool = Pool(
            self.dataset.texts,
            [key[1] for key in self.keys],
            open_rows,
            self.dataset.space.multi_label,
            found.sources if found else {},
            found.fused if found else None,
            self._given(),
        )
        self._queue = make_queue(
            pool,
            self.plan.strategy,
            seed=self.plan.seed,
            audit_share=self.plan.audit_share,
            known=known,
        )
        self._made_at = len(state.touched())

    def _given(self) -> np.ndarray | None:
        """(n, k) labels the data have, over the suggestions' labels."""
        if self.suggestions is None:
            return None
        names = self.suggestions.space.names
        columns = {name: j for j, name in enumerate(self.dataset.space.names)}
        given = np.zeros((len(self.dataset), len(names)), dtype=np.int8)
        for j, name in enumerate(names):
            if name in columns:
                given[:, j] = self.dataset.targets[:, columns[name]]
        return given

    def shown(self, card: Card, *, visible: bool) -> Shown | None:
        """The suggestion for a card. One of the audit is never visible: it must not sway."""
        found = self.suggestions
        if found is None or np.isnan(found.fused[card.row]).any():
            return None
        confidence = float(found.confidence[card.row])
        hidden = card.is_audit or not visible
        return Shown(found.labels(card.row), confidence, found.by, hidden)

    def act(self, act: Act, card: Card, who: str, *, visible: bool, **more: object) -> Entry:
        """The entry of an act on a card; `more` are further fields of it. Nothing is written."""
        row, text = self.name(card.row)
        base = {"strategy": card.reason, "rank": card.rank, "row": row, "text": text}
        had = {"shown": self.shown(card, visible=visible), "earlier": self._earlier(card.row)}
        values = base | had | more
        return Entry(act, who, **values)  # pyright: ignore[reportArgumentType]

    def _earlier(self, row: int) -> tuple[str, ...] | None:
        """The labels the data have for a row, None where they have none."""
        if not self.dataset.labelled[row]:
            return None
        names = self.dataset.space.names
        return tuple(n for n, on in zip(names, self.dataset.targets[row], strict=True) if on)

    def alike(self, label: str, least: float, who: str) -> list[Card]:
        """Open texts for which that label alone is suggested, at `least` sure, the surest first.

        Those of the audit are left out: they are looked at one by one.
        """
        found, state = self.suggestions, self.book.refresh()
        if found is None or label not in found.space.names:
            return []
        wanted = np.array([name == label for name in found.space.names])
        same = (found.decided == wanted).all(axis=1) & (found.confidence >= least)
        open_rows = same & ~self.dataset.labelled & self._first & ~self._audited()
        rows = np.flatnonzero(open_rows)
        rows = rows[np.argsort(-found.confidence[rows], kind="stable")].tolist()
        return [Card(r, "bulk", None) for r in rows if not self.is_done(state, r, who)]

    def _audited(self) -> np.ndarray:
        return in_audit([key[1] for key in self.keys], self.plan.seed, self.plan.audit_share)

    def left(self, who: str) -> int:
        """How many texts without labels the person could still label."""
        state = self.book.state
        open_rows = ~self.dataset.labelled & self._first
        rows = (self._row_of(key) for key in state.touched())
        done = sum(
            row is not None and open_rows[row] and self.is_done(state, row, who) for row in rows
        )
        return int(open_rows.sum()) - int(done)


def _first_of_its_text(dataset: Dataset) -> np.ndarray:
    """(n,) bool: rows whose text (but for case and whitespace) has not come before, and is one."""
    seen: set[str] = set()
    first = np.zeros(len(dataset), dtype=bool)
    for i, text in enumerate(dataset.texts):
        plain = normalised(text)
        first[i] = bool(plain) and plain not in seen
        seen.add(plain)
    return first


def _names_in_journal(state: LabelState, keys: list[Key]) -> dict[int, Key]:
    """Rows that the journal knows by another id, because they were renumbered since."""
    rows = {key: i for i, key in enumerate(keys)}
    places = match_rows(state.touched(), rows)
    return {i: key for key, found in places.items() if key not in rows for i in found}
