"""New run folders: a unique id, the config, and the fingerprints of what was read.

Does not start anything and does not read what is inside the data.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from labelfusion.config import RunConfig
from labelfusion.errors import ConfigError, InputError, RunError
from labelfusion.files import TEMPORARY, sha256, write_text
from labelfusion.llm.providers import with_models
from labelfusion.runs.folder import RunFolder
from labelfusion.runs.status import Status, now, read_status, write_status
from labelfusion.workspace import Workspace


def create_run(workspace: Workspace, config: RunConfig, *, name: str | None = None) -> RunFolder:
    """Make the folder of a new run, in state queued.

    The folder appears under its id complete, so that nobody ever reads half of it, and two runs
    created at the same moment get different ids.

    Raises:
        InputError: if a file named in the config cannot be read.
    """
    config = settled(config)
    name = name or config.name or Path(config.data.path or "run").stem
    data, scores = fingerprints(config)
    workspace.runs.mkdir(parents=True, exist_ok=True)
    prepared = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=workspace.runs))
    try:
        prepared.chmod(0o755)
        write_text(prepared / "config.yaml", config.to_yaml())
        status = Status(
            id="",
            name=name,
            state="queued",
            created=now(),
            heartbeat=now(),
            data=data,
            scores=scores,
        )
        return publish(prepared, workspace.runs, new_id(name), status, _command)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def settled(config: RunConfig) -> RunConfig:
    """`config` as a run keeps it: whole paths, and the names of the models that it asks."""
    return with_models(config.anchored(Path.cwd()))


def _command(folder: RunFolder) -> str:
    return f"labelfusion train --config {folder.config}"


def new_id(name: str) -> str:
    """The time and the name: how the id of a new folder begins."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{_slug(name)}"


def publish(
    prepared: Path, parent: Path, stem: str, status: Status, command: Callable[[RunFolder], str]
) -> RunFolder:
    """Let a prepared folder appear in `parent`, complete, under an id that begins with `stem`."""
    for number in range(1, 10_000):
        folder = RunFolder(parent / (stem if number == 1 else f"{stem}-{number}"))
        write_status(RunFolder(prepared), replace(status, id=folder.id, command=command(folder)))
        try:
            # Fails where a folder with content is, even if it came a moment ago.
            prepared.rename(folder.path)
        except OSError:
            if folder.path.exists():
                continue
            raise
        return folder
    raise RunError("No free run id was found", where=str(parent), found=stem)


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "run"


def change_costs(folder: RunFolder, assignments: list[str]) -> None:
    """Change prices or budget (``costs.budget.run_usd=5``) of a run that is to be gone on with.

    Raises ConfigError: another setting is named, which what the run holds would not fit.
    """
    others = [text for text in assignments if not text.strip().startswith("costs.")]
    if others:
        raise ConfigError(
            "A run goes on with its own config: only its budget and prices can change",
            expected="costs.budget.… or costs.prices.…",
            found=others[0],
            remedy="Leave it out, or start a new run",
        )
    config = RunConfig.load(folder.config).with_overrides(assignments)
    if read_status(folder).state not in ("finished", "running"):
        write_text(folder.config, config.to_yaml())


def fingerprints(config: RunConfig) -> tuple[dict[str, object], dict[str, str]]:
    """`data` and `scores` of a Status for the files that `config` names. Raises InputError."""
    data: dict[str, object] = {}
    if config.data.path:
        data = {"path": config.data.path, "sha256": _hash(config.data.path), "rows": None}
    recorded = [entry.path for entry in config.llm if entry.provider == "recorded" and entry.path]
    return data, {path: _hash(path) for path in recorded}


def _hash(path: str) -> str:
    try:
        return sha256(Path(path))
    except OSError as error:
        raise InputError(
            "The file cannot be read",
            where=path,
            found=error.strerror or str(error),
            remedy="Check the path in the config",
        ) from None


def check_unchanged(folder: RunFolder, status: Status, config: RunConfig) -> None:
    """Raise RunError if a file the run began with is not the same any more."""
    data, scores = fingerprints(config)
    before = dict(status.scores)
    after = dict(scores)
    if status.data:
        before[str(status.data.get("path"))] = status.data.get("sha256", "")
    if data:
        after[str(data["path"])] = str(data["sha256"])
    changed = [path for path in before if after.get(path) != before[path]]
    if changed:
        raise RunError(
            "A file has changed since the run began, so what the run holds does not fit it",
            where=changed[0],
            expected=f"sha256 {before[changed[0]][:12]}…",
            found=f"sha256 {after.get(changed[0], 'none')[:12]}…",
            remedy=f"Restore it, or start anew: labelfusion train --config {folder.config}",
        )
