"""The runs of a workspace: list, open, compare, delete.

Knows folders of runs. Does not start or fit anything.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from labelfusion.errors import RunError
from labelfusion.runs.compare import Comparison, compare_runs
from labelfusion.runs.folder import RunFolder
from labelfusion.runs.run import Run
from labelfusion.runs.status import end_process, read_status
from labelfusion.workspace import Workspace

LIST_COLUMNS = [
    "id",
    "name",
    "state",
    "reason",
    "created",
    "seconds",
    "labels",
    "train",
    "test",
    "metric",
    "fusion",
    "best_source",
    "best_source_value",
    "chosen",
]
END_SECONDS = 10.0


class ResultsManager:
    """The runs in a workspace.

    Args:
        workspace: A Workspace, its folder, or None for the one of the environment.
    """

    def __init__(self, workspace: Workspace | str | Path | None = None) -> None:
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace.at(workspace)

    def ids(self) -> list[str]:
        """Ids of all runs, newest first, whatever their state."""
        if not self.workspace.runs.is_dir():
            return []
        folders = [p for p in self.workspace.runs.iterdir() if p.is_dir() and p.name[0] != "."]
        return [path.name for path in sorted(folders, key=_creation_order, reverse=True)]

    def list(self) -> pd.DataFrame:
        """One row a run (LIST_COLUMNS), newest first.

        A run that cannot be read is listed as `damaged`, one of a newer format too, each with its
        reason; neither keeps the others from being listed.
        """
        rows = [_row(RunFolder(self.workspace.runs / run_id)) for run_id in self.ids()]
        return pd.DataFrame(rows, columns=LIST_COLUMNS)

    def states(self) -> dict[str, tuple[str, str]]:
        """Name and state (`damaged` too) by id, newest first. Reads no metrics, as `list` does."""
        rows = [_status_row(RunFolder(self.workspace.runs / run_id)) for run_id in self.ids()]
        return {row["id"]: (row["name"], row["state"]) for row in rows}

    def open(self, reference: str | Path) -> Run:
        """A run by id, unique beginning of an id, "last", or folder. Raises RunError."""
        folder = RunFolder(self._find(reference))
        read_status(folder)
        return Run(folder)

    def compare(self, references: list[str]) -> Comparison:
        """Metrics, config differences and changed rows of two or more runs. Raises RunError."""
        runs = {run.id: run for run in map(self.open, references)}
        if len(runs) < 2:
            raise RunError("A comparison needs two different runs", found=", ".join(runs) or "none")
        return compare_runs(list(runs.values()))

    def delete(self, reference: str, *, force: bool = False) -> str:
        """Remove a run of this workspace and return its id.

        Raises:
            RunError: if it waits or works and `force` is not given (with it, the process is ended
                first), or if the folder lies elsewhere.
        """
        path = self._find(reference)
        if path.parent != self.workspace.runs:
            raise RunError("Only runs of this workspace are deleted", where=str(path))
        self._end(RunFolder(path), force)
        # Gone in one step, so that a deletion that is cut short leaves no damaged run behind.
        doomed = path.with_name(f".deleted-{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return path.name

    def _end(self, folder: RunFolder, force: bool) -> None:
        try:
            status = read_status(folder)
        except RunError:
            return
        if status.active and not force:
            raise RunError(
                f"The run is {status.state}",
                where=folder.id,
                remedy="Cancel it first, or delete with --force",
            )
        if status.active:
            folder.cancel_request.touch()
            end_process(read_status(folder), END_SECONDS)

    def _find(self, reference: str | Path) -> Path:
        path = Path(reference).expanduser()
        if str(reference) == "last":
            return self._last()
        if path.name != str(reference):
            return path.resolve()
        if (self.workspace.runs / path.name).is_dir() and path.name[:1] != ".":
            return self.workspace.runs / path.name
        if (path / "status.json").is_file():
            return path.resolve()
        return self._by_beginning(path.name)

    def _by_beginning(self, text: str) -> Path:
        ids = self.ids()
        matches = [run_id for run_id in ids if text and run_id.startswith(text)]
        if len(matches) == 1:
            return self.workspace.runs / matches[0]
        raise RunError(
            f"{len(matches)} runs begin with {text!r}" if matches else f"There is no run {text!r}",
            where=str(self.workspace.runs),
            found=", ".join((matches or ids)[:5]) or "no runs",
            remedy="Give more of the id" if matches else "See `labelfusion runs list`",
        )

    def _last(self) -> Path:
        ids = self.ids()
        if not ids:
            raise RunError("There are no runs yet", where=str(self.workspace.runs))
        return self.workspace.runs / ids[0]


def _row(folder: RunFolder) -> dict[str, Any]:
    row = _status_row(folder)
    if row["state"] != "finished":
        return row
    try:
        return row | _figures(Run(folder).metrics)
    except RunError as error:
        return _damaged_row(folder, error)


def _status_row(folder: RunFolder) -> dict[str, Any]:
    try:
        status = read_status(folder)
    except RunError as error:
        return _damaged_row(folder, error)
    return {
        "id": folder.id,
        "name": status.name,
        "state": status.state,
        "reason": status.error or "",
        "created": status.created,
        "seconds": status.seconds,
    }


def _damaged_row(folder: RunFolder, error: RunError) -> dict[str, Any]:
    return {"id": folder.id, "name": folder.id, "state": "damaged", "reason": str(error)}


def _creation_order(path: Path) -> tuple[str, int]:
    """By the second in the id and, within it, by the config, which is written once at creation."""
    config = RunFolder(path).config
    return path.name[:15], config.stat().st_mtime_ns if config.exists() else 0


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """The headline of metrics.json. Raises RunError if its parts are not there."""
    try:
        task, systems = metrics["task"], metrics["systems"]
        metric = task["primary"]
        values = {name: system["metrics"][metric] for name, system in systems.items()}
        singles = {name: v for name, v in values.items() if name != "fusion" and v is not None}
        best = max(singles, key=lambda name: singles[name], default=None)
        return {
            "labels": len(task["labels"]),
            "train": metrics["n"]["train"],
            "test": metrics["n"]["test"],
            "metric": metric,
            "fusion": values["fusion"],
            "best_source": best,
            "best_source_value": singles[best] if best else None,
            "chosen": metrics["choice"]["chosen"],
        }
    except (KeyError, TypeError) as error:
        raise RunError(
            "metrics.json lacks a part", found=f"{type(error).__name__}: {error}"
        ) from None
