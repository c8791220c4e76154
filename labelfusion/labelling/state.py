"""What follows from the journal: who gave which text which labels, skips, flags, notes, undo.

Replays entries. Knows no file and no data set: rows are known by id and text hash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from labelfusion.labelling.journal import Entry

Key = tuple[str, str]  # row id, text hash


@dataclass
class LabelState:
    """The journal, replayed. `add` takes each entry once, in the journal's order.

    Attributes:
        declared: the labels people have declared, by name what each means; the last word counts.
        multi_label: whether a text may have several; None while nobody declared it.
    """

    declared: dict[str, str] = field(default_factory=dict)
    multi_label: bool | None = None
    _acts: dict[Key, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _by_person: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _undone: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def add(self, entries: Iterable[Entry]) -> None:
        """Replay more entries. One that is there already (by its id) changes nothing."""
        for entry in entries:
            if entry.id not in self._seen:
                self._seen.add(entry.id)
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.act == "undo":
            self._undone.add(entry.undoes)
        elif entry.act == "labels":
            self.declared = dict(entry.declared or {})
            self.multi_label = entry.multi_label
        else:
            self._acts[entry.row, entry.text].append(entry)
            self._by_person[entry.who].append(entry)

    def counts(self, entry: Entry) -> bool:
        """Whether an act has not been taken back."""
        return entry.id not in self._undone and (entry.group or None) not in self._undone

    def acts(self, key: Key) -> list[Entry]:
        """What was done to a text and not taken back, oldest first."""
        return [entry for entry in self._acts.get(key, ()) if self.counts(entry)]

    def is_touched(self, key: Key) -> bool:
        return key in self._acts

    def reason(self, key: Key) -> str | None:
        """Why the text was first asked about, None if nothing was done to it.

        Taking an act back does not change it: a text of the audit stays one, and a chosen one not.
        """
        acts = self._acts.get(key)
        return acts[0].strategy if acts else None

    def touched(self) -> list[Key]:
        """Texts that something was done to, even if it was taken back."""
        return list(self._acts)

    def given(self, key: Key) -> dict[str, Entry]:
        """The last label of each person who labelled the text, the latest person last."""
        last: dict[str, Entry] = {}
        for entry in self.acts(key):
            if entry.act == "label":
                last.pop(entry.who, None)
                last[entry.who] = entry
        return last

    def labelled(self) -> Iterator[tuple[Key, dict[str, Entry]]]:
        """Every labelled text with `given`."""
        for key in self._acts:
            if given := self.given(key):
                yield key, given

    def current(self) -> dict[Key, Entry]:
        """The label that counts for each labelled text: the latest, whoever gave it."""
        return {key: list(given.values())[-1] for key, given in self.labelled()}

    def conflicts(self) -> list[Key]:
        """Texts to which persons have given different labels."""
        return [
            key
            for key, given in self.labelled()
            if len({frozenset(entry.labels) for entry in given.values()}) > 1
        ]

    def is_done(self, key: Key, who: str, wanted: int = 1) -> bool:
        """Whether `who` need not see the text: labelled or skipped it, or `wanted` others did."""
        given = self.given(key)
        return who in given or len(given) >= wanted or self.skipped(key, who)

    def skipped(self, key: Key, who: str) -> bool:
        """Whether the person's last word on the text was to skip it."""
        own = [e for e in self.acts(key) if e.who == who and e.act in ("label", "skip")]
        return bool(own) and own[-1].act == "skip"

    def flagged(self, key: Key) -> bool:
        """Whether the text is flagged: a second flag takes the first one off."""
        return sum(entry.act == "flag" for entry in self.acts(key)) % 2 == 1

    def notes(self, key: Key) -> list[Entry]:
        return [entry for entry in self.acts(key) if entry.act == "note"]

    def last_act(self, who: str) -> Entry | None:
        """What an undo of that person takes back, or None."""
        return next((e for e in reversed(self._by_person.get(who, ())) if self.counts(e)), None)

    def people(self) -> list[str]:
        return sorted(self._by_person)

    def times(self, who: str) -> list[str]:
        """When the person labelled, oldest first (what was taken back left out)."""
        return [e.at for e in self._by_person.get(who, ()) if e.act == "label" and self.counts(e)]


def replayed(entries: Iterable[Entry]) -> LabelState:
    """The state after all `entries`."""
    state = LabelState()
    state.add(entries)
    return state


def match_rows(keys: Iterable[Key], rows: Mapping[Key, int]) -> dict[Key, list[int]]:
    """Positions in a data set that each journalled text belongs to; texts that are gone have none.

    Args:
        rows: position by (id, text hash) of the data set's rows.

    A text whose row was renumbered since is found by its hash, in every row that holds it and that
    no journalled text names itself.
    """
    keys = list(keys)
    exact = {key: [rows[key]] for key in keys if key in rows}
    taken = {position for positions in exact.values() for position in positions}
    by_hash: dict[str, list[int]] = defaultdict(list)
    for (_, text), position in rows.items():
        if position not in taken:
            by_hash[text].append(position)
    moved = {key: by_hash[key[1]] for key in keys if key not in exact and by_hash.get(key[1])}
    return exact | moved
