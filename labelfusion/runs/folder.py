"""The layout of a run folder, and its signals as a mapping.

Knows names and formats of files. Does not know how a run is fitted, listed or started.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfusion.errors import RunError
from labelfusion.files import write_atomically
from labelfusion.types import Signal

RUN_FORMAT = 1
_LEADING_COLUMNS = 3  # id, split, present; one column a label follows
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run's files. A path may not exist yet."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def splits(self) -> Path:
        return self.path / "splits.parquet"

    @property
    def signals(self) -> Path:
        return self.path / "signals"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def findings(self) -> Path:
        return self.path / "findings.json"

    @property
    def usage(self) -> Path:
        return self.path / "usage.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def model_card(self) -> Path:
        return self.path / "README.md"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run; who holds it alone writes status.json."""
        return self.path / ".lock"

    @property
    def cancel_request(self) -> Path:
        """Exists from the moment somebody asked for the run to be cancelled."""
        return self.path / ".cancel"


class SignalStore(MutableMapping[str, Signal]):
    """Signals kept as `<folder>/<key>.parquet`: id, split, present, then one column a label.

    Args:
        folder: The run's signals folder.
        ids: (n,) ids of the dataset's rows, in order.
        labels: The k label names, in order.
        split: (n,) str for the split column; "" while the split is not known.
    """

    def __init__(
        self,
        folder: Path,
        ids: np.ndarray,
        labels: tuple[str, ...],
        split: np.ndarray | None = None,
    ) -> None:
        self.folder, self.ids, self.labels = folder, ids, labels
        self.split = np.full(len(ids), "") if split is None else split

    def _path(self, key: str) -> Path:
        if not _SAFE_NAME.fullmatch(key):
            raise RunError("A signal cannot have this name", found=key, expected="a plain name")
        return self.folder / f"{key}.parquet"

    def __getitem__(self, key: str) -> Signal:
        """Raises KeyError if there is none, RunError if it is damaged or of other rows."""
        path = self._path(key)
        if not path.is_file():
            raise KeyError(key)
        ids, _, signal = read_signal(path)
        if list(ids) != [str(i) for i in self.ids] or signal.scores.shape[1] != len(self.labels):
            raise RunError(
                "The stored signal belongs to other rows or labels",
                where=str(path),
                expected=f"{len(self.ids)} rows and {len(self.labels)} labels",
                found=f"{len(ids)} rows and {signal.scores.shape[1]} labels",
                remedy="Start a new run",
            )
        return signal

    def __setitem__(self, key: str, signal: Signal) -> None:
        table = _signal_table(signal, self.ids, self.labels, self.split)
        write_atomically(self._path(key), lambda path: pq.write_table(table, path))

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._path(key).unlink()

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._path(key).is_file()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self.folder.glob("[!.]*.parquet")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _signal_table(
    signal: Signal, ids: np.ndarray, labels: tuple[str, ...], split: np.ndarray
) -> pa.Table:
    # Built by position, because a label may be called "id" or "present" too.
    columns = [
        pa.array([str(i) for i in ids], pa.string()),
        pa.array([str(s) for s in split], pa.string()),
        pa.array(signal.present),
        *(pa.array(np.ascontiguousarray(column)) for column in signal.scores.T.astype(np.float64)),
    ]
    about = {"source": signal.source, "kind": signal.kind, "origin": signal.origin}
    table = pa.Table.from_arrays(columns, names=["id", "split", "present", *labels])
    return table.replace_schema_metadata({"labelfusion": json.dumps(about)})


def read_signal(path: Path) -> tuple[np.ndarray, np.ndarray, Signal]:
    """Ids (n,), split (n,) and the Signal of a stored file. Raises RunError if it is damaged."""
    try:
        # Not read_table, which goes by names and so fails where a label is called "id".
        with pq.ParquetFile(path) as file:
            table = file.read()
        about = json.loads((table.schema.metadata or {})[b"labelfusion"])
        columns = [table.column(i).to_numpy() for i in range(table.num_columns)]
        scores = np.column_stack(columns[_LEADING_COLUMNS:]).astype(np.float64)
        present = columns[2].astype(bool)
        signal = Signal(about["source"], scores, about["kind"], present, about["origin"])
    except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
        raise RunError(
            "The stored signal is damaged",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            remedy="Delete the file; resuming the run computes it again",
        ) from None
    return columns[0], columns[1], signal
