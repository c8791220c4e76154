"""What is known of a data set, and the file it is kept in.

Knows dataset.json. Does not read the tables themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labelfusion.config import DataConfig, LLMConfig
from labelfusion.errors import InputError
from labelfusion.files import write_json
from labelfusion.types import SignalKind

FORMAT = 1
FILE = "dataset.json"


@dataclass(frozen=True)
class Version:
    """One immutable file of a data set.

    `rows` counts data rows, `note` says what changed, `reading` holds encoding, delimiter and sheet
    where they are not to be detected.
    """

    number: int
    file: str
    rows: int
    sha256: str
    created: str
    note: str
    reading: Mapping[str, str]


@dataclass(frozen=True)
class Scores:
    """LLM scores made elsewhere: the file, what the numbers are, and how many texts they cover."""

    file: str
    kind: SignalKind
    covered: int
    total: int
    original_name: str


@dataclass(frozen=True)
class StoredDataset:
    """A data set as it lies on disk.

    `config.path` is the current version's absolute path; `seed` draws the test split; `confirmed`
    says that a person has seen the layout, which is a guess until then.
    """

    folder: Path
    name: str
    created: str
    config: DataConfig
    seed: int
    confirmed: bool
    current: int
    versions: tuple[Version, ...]
    scores: Scores | None

    @property
    def version(self) -> Version:
        return next(v for v in self.versions if v.number == self.current)

    def scores_config(self) -> LLMConfig | None:
        """The attached scores as a source of a run, or None."""
        if self.scores is None:
            return None
        path = str(self.folder / self.scores.file)
        return LLMConfig(provider="recorded", path=path, kind=self.scores.kind)


def values_of(stored: StoredDataset) -> dict[str, Any]:
    """The content of its dataset.json."""
    return {
        "format": FORMAT,
        "name": stored.name,
        "created": stored.created,
        # The file's name alone, so that the workspace can be moved.
        "config": stored.config.model_dump(mode="json") | {"path": stored.version.file},
        "seed": stored.seed,
        "confirmed": stored.confirmed,
        "current": stored.current,
        "versions": [asdict(version) for version in stored.versions],
        "scores": asdict(stored.scores) if stored.scores else None,
    }


def write_record(stored: StoredDataset) -> StoredDataset:
    """Keep it in its folder."""
    write_json(stored.folder / FILE, values_of(stored))
    return stored


def read_record(folder: Path) -> StoredDataset:
    """The data set that is kept in `folder`. Raises InputError if that cannot be read."""
    values = _read_json(folder / FILE)
    config = DataConfig(**values["config"])
    config.path = str((folder / values["config"]["path"]).resolve())
    return StoredDataset(
        folder=folder,
        name=values["name"],
        created=values["created"],
        config=config,
        seed=values["seed"],
        confirmed=values["confirmed"],
        current=values["current"],
        versions=tuple(Version(**version) for version in values["versions"]),
        scores=Scores(**values["scores"]) if values["scores"] else None,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            "The data set's settings cannot be read",
            where=str(path),
            found=str(error),
            remedy="Upload the file again",
        ) from None
    if values.get("format", 0) > FORMAT:
        raise InputError(
            "The data set was written by a newer LabelFusion",
            where=str(path),
            remedy="Upgrade labelfusion",
        )
    return values
