"""Turns: at most N runs of a workspace work at once, the others wait in order.

Turns are file locks, which the system takes back when a process dies however it dies, so the queue
moves on without anything else running. Knows lock files only, not runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from labelfusion.errors import ConfigError

MAX_RUNNING_VARIABLE = "LABELFUSION_MAX_RUNNING"
POLL_SECONDS = 0.25


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


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Try for the lock at `path`, without waiting; yields whether it is held."""
    lock = FileLock(path, timeout=0, is_singleton=False, thread_local=False)
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
def turn(folder: Path, order: str, limit: int, on_wait: Callable[[], None]) -> Iterator[None]:
    """Wait until it is this process's turn, and hold the turn.

    Args:
        folder: Where the workspace's queue keeps its lock files.
        order: Name by which those who wait are ordered; unique among them.
        limit: How many may have a turn at once.
        on_wait: Called once if the turn does not come at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ticket = folder / f"{order}.waiting"
    slot = _wait_for_slot(folder, ticket, limit, on_wait)
    try:
        yield
    finally:
        slot.release()


def _wait_for_slot(folder: Path, ticket: Path, limit: int, on_wait: Callable[[], None]) -> FileLock:
    with held(ticket):
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
    """The first ticket whose holder lives. Tickets of the dead are removed on the way."""
    for ticket in sorted(folder.glob("*.waiting")):
        with held(ticket) as abandoned:
            if not abandoned:
                return ticket
            ticket.unlink(missing_ok=True)
    return None


def _free_slot(folder: Path, limit: int) -> FileLock | None:
    for number in range(limit):
        lock = FileLock(folder / f"turn-{number}.lock", is_singleton=False, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return lock
    return None
