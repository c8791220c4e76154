"""The workspace: the one folder in which LabelFusion keeps runs, data sets and caches.

Knows which folder it is and its parts. Does not know what a run folder holds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

WORKSPACE_VARIABLE = "LABELFUSION_WORKSPACE"
DEFAULT_FOLDER = "labelfusion_workspace"


@dataclass(frozen=True)
class Workspace:
    """A workspace's layout. Nothing is created before something is written to it."""

    root: Path

    @classmethod
    def at(cls, path: str | Path | None = None) -> Workspace:
        """`path`, else the folder the environment names, else one in the current folder."""
        chosen = path or os.environ.get(WORKSPACE_VARIABLE) or DEFAULT_FOLDER
        return cls(Path(chosen).expanduser().resolve())

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def predictions(self) -> Path:
        """Files that were labelled in the background, a folder each."""
        return self.root / "predictions"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def labels(self) -> Path:
        """What people labelled, a folder a data set."""
        return self.root / "labels"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def queue(self) -> Path:
        """Lock files by which runs wait for their turn."""
        return self.root / "queue"
