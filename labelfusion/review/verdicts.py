"""What people said of labels: a journal beside the data set's versions, appended and never changed.

```
datasets/<name>/verdicts.jsonl   one Verdict a line, with who and when
```
A verdict is there as soon as it is given, so no crash loses it; a later one on the same text takes
its place. Knows verdicts. Does not know how a version is made of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from labelfusion.errors import InputError
from labelfusion.files import append_line, to_json
from labelfusion.runs.run import read_jsonl

FILE = "verdicts.jsonl"
Action = Literal["fix", "keep", "withdraw", "saved"]


@dataclass(frozen=True)
class Verdict:
    """One person's word on one text.

    Attributes:
        id, text: the row's id, and a digest of its text, as ids may move between versions.
        action: `fix` gives it the labels `new`; `keep` says that `old` are right; `withdraw` takes
            the last word back; `saved` says that `version` of the data set has the fix.
        label: of `keep`, the label that was suspected (multi-label: the others stay suspects).
        old, new: labels.
        run: the run that was reviewed.
        who, time: who said it and when (ISO 8601, UTC).
    """

    id: str
    text: str
    action: Action
    old: tuple[str, ...]
    new: tuple[str, ...]
    who: str
    run: str = ""
    label: str = ""
    version: int | None = None
    time: str = ""


def text_digest(text: str) -> str:
    """What a verdict remembers a text by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Verdicts:
    """The journal in a data set's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def add(self, verdict: Verdict) -> None:
        """Append a verdict. Raises InputError without a name to put it down to."""
        if not verdict.who.strip():
            raise InputError("Nobody is named", expected="who gives the verdict")
        stamped = replace(verdict, time=datetime.now(UTC).isoformat(timespec="seconds"))
        append_line(self.path, to_json(asdict(stamped)))

    def saved(self, fixes: Iterable[Verdict], version: int, who: str) -> None:
        """Note that a version of the data set has these fixes."""
        for fix in fixes:
            self.add(replace(fix, action="saved", version=version, who=who))

    def all(self) -> list[Verdict]:
        """Every verdict, the oldest first."""
        return [_verdict(record) for record in read_jsonl(self.path)]

    def pending(self) -> dict[str, Verdict]:
        """The fixes that no version has yet, by id."""
        waiting: dict[str, Verdict] = {}
        for verdict in self.all():
            if verdict.action == "fix":
                waiting[verdict.id] = verdict
            elif verdict.action == "withdraw" or _is_saved(waiting.get(verdict.id), verdict):
                waiting.pop(verdict.id, None)
        return waiting

    def kept(self) -> set[tuple[str, str, tuple[str, ...], str]]:
        """(id, text digest, labels, suspected label) that somebody found right."""
        kept = set()
        for verdict in self.all():
            key = (verdict.id, verdict.text, verdict.old, verdict.label)
            if verdict.action == "keep":
                kept.add(key)
            elif verdict.action == "withdraw":
                kept -= {k for k in kept if k[:2] == key[:2]}
        return kept


def _is_saved(fix: Verdict | None, verdict: Verdict) -> bool:
    """Whether the fix is the one that was saved: another may have come while a version was made."""
    return fix is not None and verdict.action == "saved" and fix.new == verdict.new


def _verdict(record: dict) -> Verdict:
    return Verdict(**{**record, "old": tuple(record["old"]), "new": tuple(record["new"])})
