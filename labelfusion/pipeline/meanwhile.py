"""Work in a thread beside other work, of which neither goes on once the other has failed.

Knows threads and events. Does not know what is worked on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from labelfusion.types import Event, OnEvent

# Windows hears of Ctrl-C only between waits.
_LISTEN_EVERY_S = 0.5


class _Stopped(Exception):
    """Ends the body of `meanwhile` where the work in the thread has failed."""


@contextmanager
def meanwhile(
    work: Callable[[OnEvent], object], cancel: Callable[[], None], on_event: OnEvent
) -> Iterator[OnEvent]:
    """Do `work` in a thread while the body is done; both are done when the block ends.

    If one raises, the other is stopped, and what the first raised is raised. The body is stopped at
    the next event that it tells, so it is to tell some.

    Args:
        work: given whom to tell of what happens.
        cancel: ends `work` from outside, soon.
        on_event: told by both, by one of them at a time.

    Yields whom the body is to tell.
    """
    one_by_one = _one_by_one(on_event)
    with ThreadPoolExecutor(1) as thread:
        other = thread.submit(work, one_by_one)
        try:
            yield _while_well(other, one_by_one)
            _wait_for(other)
        except _Stopped:
            pass  # The other work has failed: its own error is raised below.
        except BaseException:
            cancel()
            _wait_for(other)
            raise
    other.result()


def _one_by_one(on_event: OnEvent) -> OnEvent:
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            on_event(event)

    return tell


def _while_well(other: Future[object], on_event: OnEvent) -> OnEvent:
    def tell(event: Event) -> None:
        if other.done() and other.exception() is not None:
            raise _Stopped
        on_event(event)

    return tell


def _wait_for(other: Future[object]) -> None:
    while wait([other], _LISTEN_EVERY_S).not_done:
        pass
