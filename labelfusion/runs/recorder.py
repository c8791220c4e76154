"""What a run's process writes while it works: status.json with a heartbeat, and events.jsonl.

Knows the two files. Does not know what the work is. The caller holds the run's lock.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, replace
from typing import Any

from labelfusion.files import append_line, to_json
from labelfusion.processes import this_process
from labelfusion.runs.folder import RunFolder
from labelfusion.runs.status import Status, now, write_status
from labelfusion.types import Event

HEARTBEAT_SECONDS = 1.0
PROGRESS_SECONDS = 0.5


class Recorder:
    """Writes a run's status at least every HEARTBEAT_SECONDS while it is open.

    Usable as a context manager and, by `on_event`, as the watcher of a fit from any thread.
    """

    def __init__(self, folder: RunFolder, status: Status) -> None:
        pid, started = this_process()
        self.folder = folder
        self._status = replace(status, pid=pid, pid_created=started, error=None, finished=None)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._last_progress: dict[str, float] = {}

    def __enter__(self) -> Recorder:
        self.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def status(self) -> Status:
        return self._status

    def set(self, **changes: Any) -> None:
        """Change fields of the status and write it at once."""
        with self._lock:
            self._status = replace(self._status, heartbeat=now(), **changes)
            write_status(self.folder, self._status)

    def on_event(self, event: Event) -> None:
        """Take an event into the status, and append it to events.jsonl.

        Progress of a stage is appended at most every PROGRESS_SECONDS; everything else always is.
        """
        progress = {"done": event.done, "total": event.total, "unit": event.unit}
        with self._lock:
            new_stage = event.stage != self._status.stage
            self._status = replace(
                self._status, stage=event.stage, progress=progress, message=event.message
            )
            # Within a stage the heartbeat writes the status often enough.
            if new_stage:
                write_status(self.folder, self._status)
            if self._is_due(event):
                append_line(self.folder.events, to_json({"time": now(), **asdict(event)}))

    def _is_due(self, event: Event) -> bool:
        if event.status != "progress" or event.done >= event.total > 0:
            return True
        moment = time.monotonic()
        if moment - self._last_progress.get(event.stage, -PROGRESS_SECONDS) < PROGRESS_SECONDS:
            return False
        self._last_progress[event.stage] = moment
        return True

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self.set()
