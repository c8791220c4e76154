"""The data sets of a workspace: a folder each, with immutable versions and how to read them.

```
datasets/<name>/
  dataset.json        {format, name, created, config, current, versions[…], scores}
  v1.<ext>, v2.csv …  a version is never written again
  scores.<ext>        LLM scores made elsewhere, if attached
```
Knows files and settings. Does not train, and knows nothing of pages.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelfusion.config import DataConfig, LLMConfig, RunConfig
from labelfusion.errors import InputError
from labelfusion.files import sha256, write_json
from labelfusion.types import Rows, SignalKind
from labelfusion.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from labelfusion.data import Table

FORMAT = 1
FILE = "dataset.json"
READING = ("encoding", "delimiter", "sheet")
SAMPLES = Path(__file__).parent.parent / "sample_data"


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


class DatasetStore:
    """`workspace/datasets`. Every method raises InputError that says what to do."""

    def __init__(self, workspace: Workspace) -> None:
        self.folder = workspace.datasets

    def list(self) -> list[StoredDataset]:
        """All data sets, the newest first."""
        found = [self.open(path.parent.name) for path in self.folder.glob(f"*/{FILE}")]
        return sorted(found, key=lambda stored: stored.created, reverse=True)

    def open(self, name: str) -> StoredDataset:
        """The data set called `name`."""
        path = self.folder / name / FILE
        if not name or Path(name).name != name or not path.is_file():
            raise InputError(
                f"There is no data set {name!r}", remedy="Choose another one or upload the file"
            )
        return _from_json(path.parent, _read_json(path))

    def add(self, filename: str, content: bytes, reading: Mapping[str, str]) -> StoredDataset:
        """Keep an uploaded file as version 1 and guess its layout.

        Args:
            filename: the file's own name; its stem names the data set.
            content: its bytes.
            reading: encoding, delimiter and sheet where they are not to be detected.
        """
        folder = self._new_folder(Path(filename).stem)
        try:
            return self._first_version(folder, filename, content, reading)
        except BaseException:
            shutil.rmtree(folder)
            raise

    def _first_version(
        self, folder: Path, filename: str, content: bytes, reading: Mapping[str, str]
    ) -> StoredDataset:
        from labelfusion.data import guess_layout, read_table

        path = folder / f"v1{_extension(filename)}"
        path.write_bytes(content)
        table = read_table(path, **reading)
        if not len(table.frame):
            raise InputError("The file has no rows", where=filename, remedy="Add rows to it")
        config = guess_layout(table).config.model_copy(update={"path": str(path), **reading})
        version = _version(1, path, len(table.frame), f"uploaded as {filename}", reading)
        stored = StoredDataset(
            folder, folder.name, _now(), config, 0, False, 1, (version,), scores=None
        )
        return _save(stored)

    def adopt(self, config: DataConfig, seed: int) -> StoredDataset:
        """A copy of a file that lies elsewhere, with the layout that a run reads it by."""
        path = Path(config.path or "")
        given = {key: getattr(config, key) for key in ("encoding", "delimiter", "sheet")}
        reading = {key: value for key, value in given.items() if value}
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(
                "The file cannot be copied",
                where=str(path),
                found=error.strerror or str(error),
                remedy="Put it back where it was",
            ) from None
        stored = self.add(path.name, content, reading)
        return self.configure(stored, config.model_copy(update={"path": stored.config.path}), seed)

    def holding(self, path: str | None, digest: str) -> StoredDataset | None:
        """The data set that has a version with this SHA-256, before others the one of `path`."""
        found = [one for one in self.list() if any(v.sha256 == digest for v in one.versions)]
        folder = Path(path).parent if path else None
        return next((one for one in found if one.folder == folder), found[0] if found else None)

    def add_sample(self, name: str) -> StoredDataset:
        """A copy of sample data (``tickets``, ``reviews``) with its LLM scores; made once."""
        if (self.folder / name / FILE).is_file():
            return self.open(name)
        data, scores = SAMPLES / f"{name}.csv", SAMPLES / f"{name}_llm_scores.csv"
        if not data.is_file():
            raise InputError(
                "The sample data is not here",
                where=str(data),
                remedy="Run the app from a full copy of the project",
            )
        stored = self.add(data.name, data.read_bytes(), {})
        stored = self.configure(stored, stored.config)
        return self.attach_scores(stored, scores.name, scores.read_bytes(), "probabilities")

    def configure(
        self, stored: StoredDataset, config: DataConfig, seed: int | None = None
    ) -> StoredDataset:
        """Keep a confirmed layout, label descriptions and test split. The data must be readable so.

        Scores that no longer fit are detached; their file stays in the folder.
        """
        from labelfusion.data import load_dataset

        load_dataset(config)
        seed = stored.seed if seed is None else seed
        changed = replace(stored, config=config, seed=seed, confirmed=True)
        return _save(_with_fitting_scores(changed))

    def add_version(self, stored: StoredDataset, frame: pd.DataFrame, note: str) -> StoredDataset:
        """Keep `frame` as a new version (CSV, UTF-8) and make it the current one.

        Scores that no longer fit are detached; their file stays in the folder.
        """
        number = max(v.number for v in stored.versions) + 1
        path = stored.folder / f"v{number}.csv"
        frame.to_csv(path, index=False)
        version = _version(number, path, len(frame), note, {})
        versions = (*stored.versions, version)
        return _save(_with_fitting_scores(_at(replace(stored, versions=versions), number)))

    def with_journal(
        self, stored: StoredDataset, frame: pd.DataFrame, config: DataConfig, note: str
    ) -> StoredDataset:
        """Keep `frame`, with people's labels in it, as a new version that `config` reads.

        Raises InputError, with nothing changed, where it cannot be read so.
        """
        from labelfusion.data import dataset_from_table, table_from_frame

        dataset_from_table(table_from_frame(frame, stored.name), config)
        added = self.add_version(stored, frame, note)
        detected = {key: getattr(added.config, key) for key in ("path", *READING)}
        return self.configure(added, config.model_copy(update=detected))

    def use_version(self, stored: StoredDataset, number: int) -> StoredDataset:
        """Make an existing version the current one."""
        return _save(_with_fitting_scores(_at(stored, number)))

    def attach_scores(
        self, stored: StoredDataset, filename: str, content: bytes, kind: SignalKind
    ) -> StoredDataset:
        """Check a file of LLM scores against the data and keep it. Else the old one stays."""
        path = (
            stored.folder
            / f"scores-{hashlib.sha256(content).hexdigest()[:12]}{_extension(filename)}"
        )
        path.write_bytes(content)
        try:
            covered, total = check_scores(path, stored.config, kind)
        except BaseException:
            path.unlink()
            raise
        return _save(replace(stored, scores=Scores(path.name, kind, covered, total, filename)))

    def delete(self, name: str) -> None:
        """Remove a data set and all its versions. Runs made from it stay."""
        shutil.rmtree(self.open(name).folder)

    def _new_folder(self, stem: str) -> Path:
        base = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_") or "data"
        for number in range(1, 10_000):
            folder = self.folder / (base if number == 1 else f"{base}-{number}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
        raise InputError(f"There are too many data sets called {base}", remedy="Delete some")


def check_scores(path: Path, config: DataConfig, kind: SignalKind) -> tuple[int, int]:
    """How many texts of the data the recorded scores in `path` cover, of how many.

    Raises InputError where columns do not match the labels, a cell is no score, or no row matches.
    """
    from labelfusion.classifier import score_llm
    from labelfusion.data import load_dataset

    dataset = load_dataset(config)
    entry = LLMConfig(provider="recorded", path=str(path), kind=kind)
    rows = Rows(dataset.ids.tolist(), dataset.texts)
    signal = score_llm(entry, rows, dataset.space, RunConfig(data=config, llm=[entry]))
    return int(signal.present.sum()), len(dataset)


def without_rows(table: Table, rows: Iterable[int]) -> pd.DataFrame:
    """The cells of `table` without the rows numbered `rows` (as in Table.row_numbers)."""
    left_out = np.isin(table.row_numbers, list(rows))
    return table.frame.loc[~left_out, :].reset_index(drop=True)


def with_labels(
    table: Table, config: DataConfig, labels: Mapping[int, Iterable[str]]
) -> pd.DataFrame:
    """The cells of `table` with other labels on some rows.

    Args:
        table: the rows.
        config: how its labels are written.
        labels: by row number (as in Table.row_numbers), all labels that the row is to have.

    Raises:
        InputError: there is no such row, a label is unknown, or their number does not fit.
    """
    from labelfusion.data.labels import label_cells, read_labels

    space, _, _ = read_labels(table, config)
    frame = table.frame.copy()
    positions = {int(row): i for i, row in enumerate(table.row_numbers)}
    for row, names in labels.items():
        if row not in positions:
            raise InputError("There is no such row", where=table.name, found=f"row {row}")
        for column, cell in label_cells(list(names), space, config).items():
            frame.iat[positions[row], frame.columns.get_loc(column)] = cell
    return frame


def _extension(filename: str) -> str:
    return Path(filename).suffix.lower() or ".csv"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(number: int, path: Path, rows: int, note: str, reading: Mapping[str, str]) -> Version:
    return Version(number, path.name, rows, sha256(path), _now(), note, dict(reading))


def _at(stored: StoredDataset, number: int) -> StoredDataset:
    """`stored` with another current version, read as that version is to be read."""
    version = next((v for v in stored.versions if v.number == number), None)
    if version is None:
        raise InputError(f"There is no version {number} of {stored.name}", remedy="Choose another")
    detected = dict.fromkeys(READING)
    update = detected | dict(version.reading) | {"path": str(stored.folder / version.file)}
    return replace(stored, config=stored.config.model_copy(update=update), current=number)


def _with_fitting_scores(stored: StoredDataset) -> StoredDataset:
    if stored.scores is None:
        return stored
    try:
        covered, total = check_scores(
            stored.folder / stored.scores.file, stored.config, stored.scores.kind
        )
    except InputError:
        return replace(stored, scores=None)
    return replace(stored, scores=replace(stored.scores, covered=covered, total=total))


def _save(stored: StoredDataset) -> StoredDataset:
    values = {
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
    write_json(stored.folder / FILE, values)
    return stored


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


def _from_json(folder: Path, values: Mapping[str, Any]) -> StoredDataset:
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
