"""The state of a run, as its status.json tells it and as its process proves it.

Knows states, processes and time. Does not know what a run computes. Only the process that holds
the run's lock writes status.json; everybody else reads it, or leaves a request to cancel.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from labelfusion.errors import RunError
from labelfusion.files import write_json
from labelfusion.processes import is_alive
from labelfusion.runs.folder import RUN_FORMAT, RunFolder

State = Literal["queued", "running", "finished", "failed", "cancelled", "interrupted"]
ACTIVE_STATES: tuple[State, ...] = ("queued", "running")
# A queued run has no pid until its process is up; later than this, the process never came.
START_SECONDS = 60.0


@dataclass(frozen=True)
class Status:
    """What status.json holds. Times are ISO 8601 in UTC.

    `data` is {path, sha256, rows} of the data file, `scores` {path: sha256} of the recorded
    scores; `progress` is {done, total, unit} of the present stage.
    """

    id: str
    name: str
    state: State
    stage: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    created: str = ""
    started: str | None = None
    finished: str | None = None
    heartbeat: str | None = None
    pid: int | None = None
    pid_created: str | None = None
    error: str | None = None
    command: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, str] = field(default_factory=dict)
    format: int = RUN_FORMAT

    @property
    def active(self) -> bool:
        """True while the run waits or works."""
        return self.state in ACTIVE_STATES

    @property
    def order(self) -> str:
        """The run's place among those who wait: by its creation. Fit for a file's name."""
        return f"{self.created.replace(':', '')}-{self.id}"

    @property
    def seconds(self) -> float | None:
        """Duration of the work so far in seconds; None before it began."""
        if self.started is None:
            return None
        end = self.finished or (None if self.active else self.heartbeat)
        until = datetime.fromisoformat(end) if end else datetime.now(UTC)
        return max((until - datetime.fromisoformat(self.started)).total_seconds(), 0.0)


def now() -> str:
    """The time as status files write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_status(folder: RunFolder, status: Status) -> None:
    """Write status.json atomically. The caller holds the run's lock, or the run is new."""
    write_json(folder.status, asdict(status))


def read_status(folder: RunFolder) -> Status:
    """The run's status, with a state that is true now.

    A queued or running run whose process is dead reads as `interrupted`, or `cancelled` if that
    was asked for. Raises RunError for an absent, damaged or newer status.json.
    """
    status = stored_status(folder)
    if status.active and not _has_process(status):
        asked = folder.cancel_request.exists()
        return replace(status, state="cancelled" if asked else "interrupted")
    if status.state == "queued" and status.pid is None and folder.cancel_request.exists():
        return replace(status, state="cancelled")
    return status


def stored_status(folder: RunFolder) -> Status:
    """What status.json says, whether or not its process lives. Raises RunError."""
    try:
        values = json.loads(folder.status.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            "There is no run here",
            where=str(folder.path),
            expected="a folder with a status.json",
            found=error.strerror,
            remedy="See `labelfusion runs list`",
        ) from None
    except ValueError as error:
        raise _damaged(folder, str(error)) from None
    if not isinstance(values, dict):
        raise _damaged(folder, f"a {type(values).__name__}")
    _check_format(folder, values.get("format"))
    known = {f.name for f in fields(Status)}
    try:
        status = Status(**{key: value for key, value in values.items() if key in known})
    except TypeError as error:
        raise _damaged(folder, str(error)) from None
    if status.state not in get_args(State):
        raise _damaged(folder, f"state {status.state!r}")
    for moment in (status.created, status.started, status.finished, status.heartbeat):
        if moment is not None and not _is_time(moment):
            raise _damaged(folder, f"time {moment!r}")
    # A copied or renamed folder is the run it is found as.
    return replace(status, id=folder.id)


def _is_time(text: object) -> bool:
    try:
        return datetime.fromisoformat(str(text)).tzinfo is not None
    except ValueError:
        return False


def _check_format(folder: RunFolder, found: object) -> None:
    if not isinstance(found, int):
        raise _damaged(folder, f"format {found!r}")
    if found > RUN_FORMAT:
        raise RunError(
            "The run was made by a newer LabelFusion",
            where=str(folder.path),
            expected=f"format {RUN_FORMAT} or older",
            found=f"format {found}",
            remedy="Upgrade labelfusion to open it",
        )


def _damaged(folder: RunFolder, found: str) -> RunError:
    return RunError(
        "The run's status is damaged",
        where=str(folder.status),
        found=found,
        remedy=f"Delete the run with: labelfusion runs delete {folder.id}",
    )


def _has_process(status: Status) -> bool:
    if status.pid is None or status.pid_created is None:
        age = datetime.now(UTC) - datetime.fromisoformat(status.heartbeat or status.created)
        return age.total_seconds() < START_SECONDS
    return is_alive(status.pid, status.pid_created)


def end_process(status: Status, grace_s: float) -> None:
    """SIGTERM, and after `grace_s` seconds SIGKILL, to the run's process and its children."""
    if not (status.pid and status.pid_created and is_alive(status.pid, status.pid_created)):
        return
    # A job leads its own group; a run in a shell does not, and the shell's group is not ours.
    group = hasattr(os, "killpg") and os.getpgid(status.pid) == status.pid
    send = os.killpg if group else os.kill
    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    with suppress(ProcessLookupError):
        send(status.pid, signal.SIGTERM)
        if not _wait_for_end(status.pid, status.pid_created, grace_s) or group:
            send(status.pid, kill)
            _wait_for_end(status.pid, status.pid_created, grace_s)


def _wait_for_end(pid: int, created: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid, created):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
