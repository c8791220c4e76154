"""The work of one run, from its turn in the queue to its last file; a job and a shell do the same.

Knows a run folder and the pipeline. Does not start processes. However the work ends (done, failed,
cancelled, terminated), the status says so; after a SIGKILL the dead process says it.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from labelfusion.config import RunConfig
from labelfusion.errors import LabelFusionError, RunError
from labelfusion.files import TEMPORARY
from labelfusion.queueing import LET_GO_S, held, max_running, turn
from labelfusion.runs import RunFolder, SignalStore, Status, check_unchanged, read_status
from labelfusion.runs import save_finished as save
from labelfusion.runs.recorder import Recorder
from labelfusion.runs.status import State, now, stored_status
from labelfusion.runs.usage import save_usage
from labelfusion.spreading import Spread, one_by_one
from labelfusion.types import Dataset, Event, OnEvent, ignore_event
from labelfusion.workspace import Workspace

if TYPE_CHECKING:
    from labelfusion.pipeline import FittedRun

TERMINATED = 128 + signal.SIGTERM
WAITING = Event("check", "note", "Waiting for another run of the workspace to finish")


def work(
    folder: RunFolder,
    workspace: Workspace,
    *,
    on_event: OnEvent = ignore_event,
    dataset: Dataset | None = None,
    spread: Spread = one_by_one,
) -> FittedRun:
    """Do, or go on with, a run. What its folder already holds is not computed again.

    Args:
        folder: A run that is queued, or that stopped before it was finished.
        workspace: Where the queue and the caches are.
        on_event: Told of everything that happens, beside the run folder.
        dataset: The run's data if it has been read and checked already.
        spread: Has the folds of the encoder's cross-fit worked on.

    Raises:
        RunError: the run is finished, another process works on it, or its files have changed.
        LabelFusionError: as `labelfusion.pipeline.check` and `fit` raise it.
        SystemExit: the process was told to terminate.
    """
    with at_work(folder, workspace, on_event) as (recorder, watch):
        return _fit(folder, workspace, recorder, watch, dataset, spread)


@contextmanager
def at_work(
    folder: RunFolder, workspace: Workspace, on_event: OnEvent
) -> Iterator[tuple[Recorder, OnEvent]]:
    """Hold a folder that is worked on, wait for its turn, and write how the work ended.

    Yields the recorder, and whom to tell of what happens. Raises as `work` does.
    """
    with held(folder.lock, LET_GO_S) as mine:
        status = _workable(folder, mine)
        with _terminable(), Recorder(folder, status) as recorder, _Outcome(recorder):
            _stop_if_cancelled(folder)
            watch = _both(recorder.on_event, on_event)
            with turn(workspace.queue, status.order, max_running(), lambda: watch(WAITING)):
                recorder.set(state="running", started=now())
                yield recorder, watch


def _workable(folder: RunFolder, mine: bool) -> Status:
    status = read_status(folder)
    if not mine:
        raise RunError(
            "Another process works on this run",
            where=folder.id,
            found=f"process {status.pid}, {status.state}",
            remedy="Wait for it, or cancel it on the Jobs page",
        )
    if status.state == "finished":
        raise RunError(
            "The run is finished already",
            where=folder.id,
            remedy=f"Repeat it as a new one: {status.command}",
        )
    _clear(folder)
    return replace(status, state="queued")


def _clear(folder: RunFolder) -> None:
    """Remove what a killed process left: half-written files, and a request that was its own."""
    stored = stored_status(folder)
    if stored.state != "queued" or stored.pid is not None:
        folder.cancel_request.unlink(missing_ok=True)
    for torn in list(folder.path.rglob(f"{TEMPORARY}*")):
        shutil.rmtree(torn) if torn.is_dir() else torn.unlink(missing_ok=True)


def _fit(
    folder: RunFolder,
    workspace: Workspace,
    recorder: Recorder,
    on_event: OnEvent,
    dataset: Dataset | None,
    spread: Spread,
) -> FittedRun:
    from labelfusion.llm import scoring_session
    from labelfusion.pipeline import check, fit

    config = RunConfig.load(folder.config)
    check_unchanged(folder, recorder.status, config)
    on_event(Event("check", "start", "Reading and checking the input"))
    dataset = dataset or check(config)
    on_event(Event("check", "done", f"{len(dataset)} rows"))
    recorder.set(data={**recorder.status.data, "rows": len(dataset)})
    store = SignalStore(folder.signals, dataset.ids, dataset.space.names)
    try:
        with scoring_session(config, workspace, folder.id) as context:
            fitted = fit(
                dataset,
                config,
                on_event=on_event,
                store=store,
                cache_dir=workspace.cache,
                context=context,
                spread=spread,
            )
    finally:
        save_usage(folder, config, workspace)
    on_event(Event("save", "start", "Writing the run"))
    save(folder, fitted, recorder.status.data)
    on_event(Event("save", "done", "The run is written"))
    return fitted


def _both(first: OnEvent, second: OnEvent) -> OnEvent:
    def on_event(event: Event) -> None:
        first(event)
        second(event)

    return on_event


def _stop_if_cancelled(folder: RunFolder) -> None:
    """A request that came before this process had a pid to send a signal to."""
    if folder.cancel_request.exists():
        raise SystemExit(TERMINATED)


class _Outcome:
    """Writes how the work ended into the status, and lets what was raised pass on."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        state, message = self._describe(error)
        self.recorder.set(state=state, error=message, finished=now())

    def _describe(self, error: BaseException | None) -> tuple[State, str | None]:
        if error is None:
            return "finished", None
        if isinstance(error, KeyboardInterrupt | SystemExit):
            asked = self.recorder.folder.cancel_request.exists()
            return ("cancelled" if asked else "interrupted"), None
        if isinstance(error, LabelFusionError):
            return "failed", str(error)
        # The words of an error that nobody foresaw may hold anything, a key too: its kind does.
        return "failed", f"Unexpected {type(error).__name__}; the log says where"


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as an exception would, once; only a main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(TERMINATED)

    before: Callable[[int, FrameType | None], object] | int | None
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
