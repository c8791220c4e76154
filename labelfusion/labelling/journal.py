"""The journal: what people did to texts, one line an act, in a file that only ever grows.

A line is on the disk before `append` returns. Several processes and browsers may write at once. A
line that a killed process left half-written is closed by the next writer and passed over by
readers; no byte is ever removed. Knows acts and files; what follows from them is `state`'s.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from labelfusion.errors import InputError
from labelfusion.queueing import locked
from labelfusion.workspace import Workspace

FORMAT = 1
FILE = "journal.jsonl"
HASH_CHARACTERS = 16

Act = Literal["label", "skip", "flag", "note", "undo", "labels"]


@dataclass(frozen=True)
class Shown:
    """The suggestion beside a text. `hidden`: the person could not see it.

    `confidence` is the probability of the least sure label suggested; `by` names who suggests.
    """

    labels: tuple[str, ...]
    confidence: float
    by: str
    hidden: bool


def text_hash(text: str) -> str:
    """What a text is known by in the journal: rows may be renumbered, a text stays itself."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:HASH_CHARACTERS]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Entry:
    """One act.

    Attributes:
        act: label, skip, flag (or take the flag off again), note, undo; labels declares the labels.
        row, text: the row's id and its text's hash; empty for undo and labels.
        labels: those given; several, or none, only where a text may have several.
        shown: the suggestion there was.
        earlier: the labels the data had for the text, None where it had none.
        strategy, rank: why the text was asked about ("audit": drawn at random for the fair test),
            and its place in that queue from 1.
        seconds: from the text's appearance to the press.
        undoes: for undo, the id (or the group) of what is taken back.
        group: acts that were one press (a list of texts confirmed together).
        declared: for labels, the label names and what each means; `multi_label` goes with it.
    """

    act: Act
    who: str
    row: str = ""
    text: str = ""
    labels: tuple[str, ...] = ()
    note: str = ""
    shown: Shown | None = None
    earlier: tuple[str, ...] | None = None
    strategy: str = ""
    rank: int | None = None
    seconds: float | None = None
    undoes: str = ""
    group: str = ""
    declared: Mapping[str, str] | None = None
    multi_label: bool | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: str = field(default_factory=_now)

    def to_line(self) -> bytes:
        """One line of UTF-8 JSON; settings that say nothing are left out."""
        values = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        values |= {"act": self.act, "who": self.who}
        return _line({"format": FORMAT, **values})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Entry:
        """Inverse of `to_line`, whatever a newer version of the same format adds."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        known["labels"] = tuple(known.get("labels", ()))
        if known.get("earlier") is not None:
            known["earlier"] = tuple(known["earlier"])
        if shown := known.get("shown"):
            known["shown"] = Shown(**(shown | {"labels": tuple(shown["labels"])}))
        return cls(**known)


def _line(values: Mapping[str, Any]) -> bytes:
    # "replace": half a surrogate pair from a broken clipboard must not lose the label beside it.
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


@dataclass(frozen=True)
class Damaged:
    """A line that is no entry: where it is and how it begins. It stays in the file."""

    line: int
    begins: str


@dataclass
class Journal:
    """The journal file of one data set.

    `read_new` gives what was added since this object last read, so that a page reads a line once.
    """

    path: Path
    damaged: list[Damaged] = field(default_factory=list)
    _offset: int = 0
    _line: int = 0

    @classmethod
    def of(cls, workspace: Workspace, dataset: str) -> Journal:
        """The journal of a data set of the workspace. It outlives the data set's deletion."""
        return cls(workspace.labels / dataset / FILE)

    @property
    def lock(self) -> Path:
        """Held by whoever writes to the journal, or makes a version of the data from it."""
        return self.path.with_suffix(".lock")

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries, all on the disk when this returns.

        Raises:
            InputError: another process holds the journal and does not let go.
            OSError: the disk refuses; what was written of it counts as half-written.
        """
        content = b"".join(entry.to_line() for entry in entries)
        is_new = not self.path.exists()
        with locked(self.lock, "writing to the journal"):
            _append(self.path, content)
        if is_new:
            _flush_folder(self.path.parent)

    def read_new(self) -> list[Entry]:
        """The whole entries added since the last call. Raises InputError for a newer format."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        # A last line without its end may still be on its way; it is read once it is closed.
        content = content[: content.rfind(b"\n") + 1]
        self._offset += len(content)
        found = [self._entry(line) for line in content.split(b"\n")[:-1]]
        return [entry for entry in found if entry is not None]

    def _entry(self, line: bytes) -> Entry | None:
        self._line += 1
        try:
            values = json.loads(line.decode("utf-8"))
            newer = values["format"] > FORMAT
            entry = None if newer else Entry.from_values(values)
        except (ValueError, TypeError, KeyError):
            self.damaged.append(Damaged(self._line, line[:40].decode("utf-8", "replace")))
            return None
        if newer:
            raise InputError(
                "The journal was written by a newer LabelFusion",
                where=f"{self.path}, line {self._line}",
                remedy="Upgrade labelfusion",
            )
        return entry


def _append(path: Path, content: bytes) -> None:
    binary = getattr(os, "O_BINARY", 0)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | binary, 0o644)
    try:
        if os.fstat(handle).st_size and _last_byte(handle) != b"\n":
            # Somebody died within a line: it is closed, so that it harms no other.
            content = b"\n" + content
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _last_byte(handle: int) -> bytes:
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1)


def _flush_folder(path: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
