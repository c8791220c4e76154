"""Which process is which, across processes that share a workspace.

Knows that a process id is reused, so that only the id together with the start time names a process.
"""

from __future__ import annotations

import os
import platform
from functools import cache

import psutil

# Start times are compared as text with this many decimals: they pass through JSON and SQLite.
_DECIMALS = 2


@cache
def _start_time(pid: int) -> str:
    return f"{psutil.Process(pid).create_time():.{_DECIMALS}f}"


def this_process() -> tuple[int, str]:
    """(process id, start time in seconds since the epoch as text) of the running process."""
    return os.getpid(), _start_time(os.getpid())


def this_host() -> str:
    """Name of the machine: process ids mean nothing on another one."""
    return platform.node()


def is_alive(pid: int, started: str) -> bool:
    """Whether the process that had `pid` and `started` still runs. A zombie does not."""
    try:
        process = psutil.Process(pid)
        same = f"{process.create_time():.{_DECIMALS}f}" == started
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
