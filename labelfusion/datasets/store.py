"""The data sets of a workspace: a folder each, with immutable versions and how to read them.

```
datasets/<name>/
  dataset.json        {format, name, created, config, current, versions[…], scores}
  v1.<ext>, v2.csv …  a version is never written again
  scores.<ext>        LLM scores made elsewhere, if attached
```
Several browsers may change a data set: a change made of one that has changed meanwhile is refused,
and the same change made twice at once is one. Knows files and settings. Does not train, and knows
nothing of pages.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from labelfusion.config import DataConfig, LLMConfig, RunConfig
from labelfusion.datasets.records import (
    FILE,
    Scores,
    StoredDataset,
    Version,
    read_record,
    values_of,
    write_record,
)
from labelfusion.errors import InputError
from labelfusion.files import sha256
from labelfusion.queueing import locked
from labelfusion.types import Rows, SignalKind
from labelfusion.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

READING = ("encoding", "delimiter", "sheet")
SAMPLES = Path(__file__).parent.parent.parent / "sample_data"


class DatasetStore:
    """`workspace/datasets`. Every method raises InputError that says what to do."""

    def __init__(self, workspace: Workspace) -> None:
        self.folder = workspace.datasets
        self._queue = workspace.queue

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
        return read_record(path.parent)

    def add(self, filename: str, content: bytes, reading: Mapping[str, str]) -> StoredDataset:
        """Keep an uploaded file as version 1 and guess its layout.

        Args:
            filename: the file's own name; its stem names the data set.
            content: its bytes.
            reading: encoding, delimiter and sheet where they are not to be detected.
        """
        folder = self._new_folder(Path(filename).stem)
        try:
            return write_record(_first_version(folder, filename, content, reading))
        except BaseException:
            shutil.rmtree(folder)
            raise

    def adopt(self, config: DataConfig, seed: int) -> StoredDataset:
        """A copy of a file that lies elsewhere, with the layout that a run reads it by."""
        path = Path(config.path or "")
        given = {key: getattr(config, key) for key in READING}
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
        data, scores = SAMPLES / f"{name}.csv", SAMPLES / f"{name}_llm_scores.csv"
        if not data.is_file():
            raise InputError(
                "The sample data is not here",
                where=str(data),
                remedy="Run the app from a full copy of the project",
            )
        # Those who come second wait for the whole of it, scores and all.
        with locked(self._queue / "sample.lock", "copying the sample data"):
            made = (one for one in self.list() if _is_sample(one, data))
            return next(made, None) or self._copy_of(data, scores)

    def _copy_of(self, data: Path, scores: Path) -> StoredDataset:
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
        return self._change(stored, _with_fitting_scores(changed))

    def add_version(self, stored: StoredDataset, frame: pd.DataFrame, note: str) -> StoredDataset:
        """Keep `frame` as a new version (CSV, UTF-8) and make it the current one.

        Scores that no longer fit are detached; their file stays in the folder.
        """
        return self._add_version(stored, frame, note, None)

    def with_journal(
        self, stored: StoredDataset, frame: pd.DataFrame, config: DataConfig, note: str
    ) -> StoredDataset:
        """Keep `frame`, with people's labels in it, as a new version that `config` reads.

        Raises InputError, with nothing changed, where it cannot be read so.
        """
        from labelfusion.data import dataset_from_table, table_from_frame

        dataset_from_table(table_from_frame(frame, stored.name), config)
        return self._add_version(stored, frame, note, config)

    def _add_version(
        self, stored: StoredDataset, frame: pd.DataFrame, note: str, config: DataConfig | None
    ) -> StoredDataset:
        """`config`: how it is read and confirmed, where that is not as before."""
        content = frame.to_csv(index=False).encode("utf-8")
        with self._changing():
            now, number = self.open(stored.name), max(v.number for v in stored.versions) + 1
            if _is_made(now, stored, content):
                return now
            _check_unchanged(now, stored)
            path = stored.folder / f"v{number}.csv"
            path.write_bytes(content)
            version = _version(number, path, len(frame), note, {})
            added = _at(replace(stored, versions=(*stored.versions, version)), number)
            if config is not None:
                detected = {key: getattr(added.config, key) for key in ("path", *READING)}
                read = config.model_copy(update=detected)
                added = replace(added, config=read, confirmed=True)
            return write_record(_with_fitting_scores(added))

    def use_version(self, stored: StoredDataset, number: int) -> StoredDataset:
        """Make an existing version the current one."""
        return self._change(stored, _with_fitting_scores(_at(stored, number)))

    def attach_scores(
        self, stored: StoredDataset, filename: str, content: bytes, kind: SignalKind
    ) -> StoredDataset:
        """Check a file of LLM scores against the data and keep it. Else the old one stays."""
        digest = hashlib.sha256(content).hexdigest()[:12]
        path = stored.folder / f"scores-{digest}{_extension(filename)}"
        is_new = not path.exists()
        path.write_bytes(content)
        try:
            covered, total = check_scores(path, stored.config, kind)
        except BaseException:
            # The same file may be attached already, as numbers of another kind.
            if is_new:
                path.unlink()
            raise
        scores = Scores(path.name, kind, covered, total, filename)
        return self._change(stored, replace(stored, scores=scores))

    def _change(self, before: StoredDataset, after: StoredDataset) -> StoredDataset:
        """Keep `after`, if what is kept is still `before` (or `after` already)."""
        with self._changing():
            now = self.open(before.name)
            if values_of(now) == values_of(after):
                return now
            _check_unchanged(now, before)
            return write_record(after)

    def _changing(self) -> AbstractContextManager[None]:
        return locked(self._queue / "datasets.lock", "changing a data set")

    def delete(self, name: str) -> None:
        """Remove a data set and all its versions. Runs made from it stay."""
        with self._changing():
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


def _first_version(
    folder: Path, filename: str, content: bytes, reading: Mapping[str, str]
) -> StoredDataset:
    """The file in its folder, with a guessed layout; not kept in a record yet."""
    from labelfusion.data import guess_layout, read_table

    path = folder / f"v1{_extension(filename)}"
    path.write_bytes(content)
    table = read_table(path, **reading)
    if not len(table.frame):
        raise InputError("The file has no rows", where=filename, remedy="Add rows to it")
    config = guess_layout(table).config.model_copy(update={"path": str(path), **reading})
    version = _version(1, path, len(table.frame), f"uploaded as {filename}", reading)
    return StoredDataset(folder, folder.name, _now(), config, 0, False, 1, (version,), scores=None)


def _is_sample(stored: StoredDataset, data: Path) -> bool:
    """Whether it was made of the sample: the same file, and its scores were there once."""
    first = stored.versions[0]
    scored = any(stored.folder.glob("scores-*"))
    return scored and first.sha256 == sha256(data)


def _is_made(now: StoredDataset, before: StoredDataset, content: bytes) -> bool:
    """Whether `content` has been added to `before` as a version, and nothing else since."""
    same = now.versions[-1].sha256 == hashlib.sha256(content).hexdigest()
    return same and now.versions[:-1] == before.versions


def _check_unchanged(now: StoredDataset, before: StoredDataset) -> None:
    if values_of(now) != values_of(before):
        raise InputError(
            "The data set has been changed meanwhile, by another browser or program",
            where=before.name,
            found=f"version {now.current} is the current one",
            remedy="Look at it as it is now, and do it again",
        )


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
