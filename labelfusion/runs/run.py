"""A stored run, read part by part when a part is asked for.

Reads run folders. Does not write to them and does not list them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from labelfusion.config import RunConfig
from labelfusion.errors import RunError
from labelfusion.runs.folder import RunFolder, read_signal
from labelfusion.runs.status import Status, read_status
from labelfusion.types import Signal

if TYPE_CHECKING:
    from labelfusion.classifier import FusedClassifier


class Run:
    """One run. Parts that are read once are kept; `status` and `events` are read anew each time.

    Every part raises RunError when it is absent or damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def id(self) -> str:
        return self.folder.id

    @property
    def status(self) -> Status:
        return read_status(self.folder)

    @cached_property
    def config(self) -> RunConfig:
        return RunConfig.load(self.folder.config)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json, see docs/architecture.md."""
        return self._json(self.folder.metrics, dict)

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """The data's findings."""
        return self._json(self.folder.findings, list)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events so far, oldest first; [] before the first."""
        return read_jsonl(self.folder.events)

    @property
    def usage(self) -> list[dict[str, Any]]:
        """One record a source, of what it asked and cost; [] before the run first ends."""
        return read_jsonl(self.folder.usage)

    @property
    def log(self) -> str:
        """What the run's process wrote to its log; "" if nothing."""
        if not self.folder.log.is_file():
            return ""
        return self.folder.log.read_text(encoding="utf-8", errors="replace")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Test and training rows with gold, prediction, p_<label> and contributions."""
        return self._parquet(self.folder.predictions)

    @cached_property
    def splits(self) -> pd.DataFrame:
        """id, row, split and fold of every row."""
        return self._parquet(self.folder.splits)

    @cached_property
    def signals(self) -> Mapping[str, Signal]:
        """The stored signals by source, over all rows of the data (the order of `splits`)."""
        paths = sorted(self.folder.signals.glob("[!.]*.parquet"))
        return {path.stem: read_signal(path)[2] for path in paths}

    def model(self, cache_dir: Path | None = None) -> FusedClassifier:
        """The fitted classifier. Raises RunError if the run has none (yet)."""
        from labelfusion.classifier import FusedClassifier

        if not self.folder.model.is_dir():
            raise self._absent(self.folder.model)
        return FusedClassifier.load(self.folder.model, cache_dir=cache_dir)

    def _json(self, path: Path, kind: type) -> Any:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._absent(path) from None
        except (OSError, ValueError) as error:
            raise self._damaged(path, str(error)) from None
        if not isinstance(value, kind):
            raise self._damaged(path, f"a {type(value).__name__}")
        return value

    def _parquet(self, path: Path) -> pd.DataFrame:
        try:
            return pd.read_parquet(path)
        except FileNotFoundError:
            raise self._absent(path) from None
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._damaged(path, str(error)) from None

    def _absent(self, path: Path) -> RunError:
        return RunError(
            f"The run has no {path.name}",
            where=self.id,
            expected="a finished run",
            found=f"a run that is {self.status.state}",
            remedy=f"Finish it with: labelfusion train --resume {self.id}",
        )

    def _damaged(self, path: Path, found: str) -> RunError:
        return RunError(
            "A file of the run is damaged",
            where=str(path),
            found=found,
            remedy=f"Repeat the run with: labelfusion train --config {self.folder.config}",
        )


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; [] if it is absent.

    A line that a killed process left half-written is passed over: its neighbours are whole.
    """
    if not path.is_file():
        return []
    records = (_record(line) for line in path.read_text("utf-8", errors="replace").splitlines())
    return [record for record in records if record is not None]


def _record(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
