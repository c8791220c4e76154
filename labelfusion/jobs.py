"""Background jobs: runs in processes of their own, which outlive whoever started them.

A job is `python -m labelfusion train --resume <run folder>`, so a job and a shell run are the same
thing. Knows processes and run folders; the work itself is `labelfusion.worker`'s. Keys reach a job
by its environment only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from labelfusion.config import RunConfig
from labelfusion.errors import RunError
from labelfusion.prediction_job import (
    PredictionFolder,
    Request,
    create_prediction,
    list_predictions,
)
from labelfusion.queueing import LET_GO_S, give_up, held, locked, reserve
from labelfusion.runs import ResultsManager, RunFolder, Status, create_run, read_status
from labelfusion.runs.create import fingerprints, settled
from labelfusion.runs.status import end_process, now, write_status
from labelfusion.workspace import Workspace

LAUNCHER: tuple[str, ...] = (sys.executable, "-m", "labelfusion")
GRACE_SECONDS = 10.0
# Children that have ended stay zombies until their parent asks for them.
_children: list[subprocess.Popen[bytes]] = []


def start(workspace: Workspace, config: RunConfig, *, name: str | None = None) -> str:
    """Create a run and a process that works on it when its turn comes; returns the run's id.

    A run of the same settings and data that waits or works already is not made a second time,
    since the result would be the same: its id is returned. So pressing twice starts one run.

    Raises:
        InputError: a file named in the config cannot be read.
    """
    config = settled(config)
    with _starting(workspace):
        if same := _same_run(workspace, config):
            return same
        folder = create_run(workspace, config, name=name)
        _spawn(folder, workspace)
    return folder.id


def _starting(workspace: Workspace) -> AbstractContextManager[None]:
    """Nobody else starts a job meanwhile: a second press is heard while the first is at work."""
    return locked(workspace.queue / "start.lock", "starting a job")


def _same_run(workspace: Workspace, config: RunConfig) -> str | None:
    """The run that waits or works on the same settings and files."""
    for one in active(workspace):
        written = folder_of(workspace, one.id).config
        same = written.is_file() and written.read_text("utf-8") == config.to_yaml()
        if same and _same_files(one, config):
            return one.id
    return None


def _same_files(one: Status, config: RunConfig) -> bool:
    data, scores = fingerprints(config)
    return one.data.get("sha256") == data.get("sha256") and one.scores == scores


def status(workspace: Workspace, run_id: str) -> Status:
    """The run's status as it is now. Raises RunError."""
    _reap()
    return read_status(folder_of(workspace, run_id))


def active(workspace: Workspace) -> list[Status]:
    """Status of runs and predictions that wait or work, oldest first.

    What cannot be read is left out.
    """
    _reap()
    rows = ResultsManager(workspace).list()
    ids = rows.loc[rows["state"].isin(("queued", "running")), "id"]
    runs = [read_status(folder_of(workspace, run_id)) for run_id in reversed(ids.tolist())]
    files = [status for status in list_predictions(workspace) if status.active]
    return sorted([*runs, *files], key=lambda status: status.order)


def cancel(workspace: Workspace, run_id: str, *, grace_s: float = GRACE_SECONDS) -> Status:
    """End a run that waits or works: SIGTERM, SIGKILL after `grace_s` seconds.

    What it has computed and paid for stays in its folder and the cache, for a resume.
    Raises RunError if the run neither waits nor works.
    """
    folder = folder_of(workspace, run_id)
    before = status(workspace, run_id)
    if not before.active:
        raise RunError(f"The run is {before.state}", where=run_id, expected="queued or running")
    folder.cancel_request.touch()
    # The process may have come up since; the request is seen by one that has not.
    end_process(read_status(folder), grace_s)
    give_up(workspace.queue, before.order)
    return status(workspace, run_id)


def resume(workspace: Workspace, run_id: str) -> str:
    """Go on with a run that failed, was cancelled or interrupted, under the same id.

    Raises RunError if it is finished, waits or works.
    """
    folder = folder_of(workspace, run_id)
    with held(folder.lock, LET_GO_S) as mine:
        before = status(workspace, run_id)
        if not mine or before.active or before.state == "finished":
            raise RunError(
                f"The run is {before.state}",
                where=run_id,
                expected="failed, cancelled or interrupted",
                remedy="Retry repeats a run as a new one",
            )
        folder.cancel_request.unlink(missing_ok=True)
        queued = replace(before, state="queued", pid=None, pid_created=None, heartbeat=now())
        write_status(folder, replace(queued, error=None, finished=None))
    _spawn(folder, workspace)
    return run_id


def retry(workspace: Workspace, run_id: str) -> str:
    """A new run with the config of an old one, whatever became of it; returns the new id."""
    old = ResultsManager(workspace).open(run_id)
    return start(workspace, old.config, name=old.status.name)


def wait(workspace: Workspace, run_id: str, *, timeout_s: float) -> Status:
    """The status once the run neither waits nor works. Raises TimeoutError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while (now_is := status(workspace, run_id)).active:
        if time.monotonic() > deadline:
            raise TimeoutError(f"run {run_id} is still {now_is.state} after {timeout_s:g} s")
        time.sleep(0.1)
    return now_is


def start_prediction(workspace: Workspace, request: Request, content: bytes) -> str:
    """Label a file in the background with a run's model; returns the prediction's id.

    `status`, `cancel`, `resume` and `wait` take it as they take a run's. A file that waits or is
    being labelled in the same way is not labelled a second time: its id is returned. Raises
    InputError for a kind of file that cannot be read.
    """
    with _starting(workspace):
        for one in list_predictions(workspace):
            folder = PredictionFolder(workspace.predictions / one.id)
            if one.active and folder.holds(request, content):
                return one.id
        folder = create_prediction(workspace, request, content)
        _spawn(folder, workspace)
    return folder.id


def folder_of(workspace: Workspace, run_id: str) -> RunFolder:
    """The folder of a run or prediction. Raises RunError if there is none."""
    prediction = workspace.predictions / Path(run_id).name
    if run_id and prediction.name == run_id and prediction.is_dir():
        return PredictionFolder(prediction)
    return ResultsManager(workspace).open(run_id).folder


def _spawn(folder: RunFolder, workspace: Workspace) -> None:
    doing = ["label-file"] if isinstance(folder, PredictionFolder) else ["train", "--resume"]
    # Before the process is up, so that jobs take turns in the order in which they were started.
    reserve(workspace.queue, read_status(folder).order)
    launch([*doing, str(folder.path), "--workspace", str(workspace.root)], folder.log)


def launch(arguments: Sequence[str], log: Path) -> None:
    """`labelfusion ARGUMENTS` as a process of its own, which outlives this one and writes `log`."""
    _reap()
    with log.open("ab") as file:
        child = subprocess.Popen(
            [*LAUNCHER, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            close_fds=True,
            start_new_session=True,
            env=_environment(),
        )
    _children.append(child)


def _environment() -> dict[str, str]:
    """The present one, by which keys reach the job; a source tree is found as it was found here."""
    home = Path(__file__).resolve().parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    path = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path}


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]
