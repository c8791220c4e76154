"""Locks, and turns: at most N runs of a workspace work at once, the others wait in order.

Both are file locks, which the system takes back when a process dies however it dies, so the queue
moves on without anything else running. Knows lock files only, not runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from labelfusion.errors import ConfigError, InputError

MAX_RUNNING_VARIABLE = "LABELFUSION_MAX_RUNNING"
POLL_SECONDS = 0.25
# A place that was reserved for a process stays free for it this long, while the process comes up.
RESERVED_SECONDS = 30.0


def max_running() -> int:
    """How many runs of a workspace may work at once (default 1). Raises ConfigError."""
    text = os.environ.get(MAX_RUNNING_VARIABLE, "1")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            "The number of runs at once cannot be used",
            where=MAX_RUNNING_VARIABLE,
            expected="a whole number from 1",
            found=text,
        )
    return int(text)


# A killed process is dead a moment before the system has let go of its locks.
LET_GO_S = 2.0
LOCK_SECONDS = 30.0


@contextmanager
def held(path: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Try for the lock at `path`, for `wait_s` seconds; yields whether it is held."""
    lock = FileLock(path, timeout=wait_s, is_singleton=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock at `path` as soon as others let go of it; `doing` says what they do with it.

    Raises InputError if they have not within LOCK_SECONDS.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path, LOCK_SECONDS) as mine:
        if not mine:
            raise InputError(
                f"Another process is {doing} and does not finish",
                where=str(path),
                remedy="Press again; if it stays so, end the other process",
            )
        yield


def reserve(folder: Path, order: str) -> None:
    """Take a place in the queue for a process that has yet to come up and call `turn`."""
    folder.mkdir(parents=True, exist_ok=True)
    _ticket(folder, order).touch()


def give_up(folder: Path, order: str) -> None:
    """Free a place that was reserved, if it is still there."""
    _ticket(folder, order).unlink(missing_ok=True)


@contextmanager
def turn(folder: Path, order: str, limit: int, on_wait: Callable[[], None]) -> Iterator[None]:
    """Wait until it is this process's turn, and hold the turn.

    Args:
        folder: Where the workspace's queue keeps its lock files.
        order: Name by which those who wait are ordered; unique among them.
        limit: How many may have a turn at once.
        on_wait: Called once if the turn does not come at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slot = _wait_for_slot(folder, _ticket(folder, order), limit, on_wait)
    try:
        yield
    finally:
        slot.release()


def _ticket(folder: Path, order: str) -> Path:
    return folder / f"{order}.waiting"


def _wait_for_slot(folder: Path, ticket: Path, limit: int, on_wait: Callable[[], None]) -> FileLock:
    # May wait for the lock: those who look whether the holder lives take it for a moment.
    with FileLock(ticket, is_singleton=False, thread_local=False):
        try:
            slot = _slot_if_first(folder, ticket, limit)
            if slot is None:
                on_wait()
            while slot is None:
                time.sleep(POLL_SECONDS)
                slot = _slot_if_first(folder, ticket, limit)
            return slot
        finally:
            ticket.unlink(missing_ok=True)


def _slot_if_first(folder: Path, ticket: Path, limit: int) -> FileLock | None:
    return _free_slot(folder, limit) if _first_waiting(folder) == ticket else None


def _first_waiting(folder: Path) -> Path | None:
    """The first ticket whose holder lives or is coming up; tickets of the dead are removed."""
    for ticket in sorted(folder.glob("*.waiting")):
        with held(ticket) as abandoned:
            if not abandoned or _is_new(ticket):
                return ticket
            ticket.unlink(missing_ok=True)
    return None


def _is_new(ticket: Path) -> bool:
    try:
        return time.time() - ticket.stat().st_mtime < RESERVED_SECONDS
    except FileNotFoundError:
        return False


def _free_slot(folder: Path, limit: int) -> FileLock | None:
    for number in range(limit):
        lock = FileLock(folder / f"turn-{number}.lock", is_singleton=False, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return lock
    return None
