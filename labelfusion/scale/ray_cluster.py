"""A connection to a Ray cluster: how one is found or started, and left again.

Needs the extra `ray`. Knows nothing of what is done there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labelfusion.errors import MissingDependencyError


@dataclass(frozen=True)
class Cluster:
    """Where work is done.

    Attributes:
        address: of a cluster, e.g. "auto" on one of its machines; None starts one here.
        workers: how many processes work at once.
        gpus: that each of them takes; a fraction shares one.
        memory_bytes: of the object store, for a cluster that is started here.
    """

    address: str | None = None
    workers: int = 2
    gpus: float = 0.0
    memory_bytes: int = 200 << 20

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """The package ray, connected; a connection that was there before is left as it is."""
        ray = import_ray()
        if ray.is_initialized():
            yield ray
            return
        here = {
            "num_cpus": self.workers,
            "object_store_memory": self.memory_bytes,
            "include_dashboard": False,
        }
        # "local", because Ray would join a cluster of somebody else's on this machine.
        options = {"address": self.address} if self.address else {"address": "local", **here}
        with _own_termination():
            ray.init(**options, log_to_driver=False, configure_logging=False)
        try:
            yield ray
        finally:
            ray.shutdown()

    @property
    def share(self) -> dict[str, Any]:
        """What of a machine each worker takes, as Ray's options."""
        return {"num_cpus": 1, "num_gpus": self.gpus} if self.gpus else {"num_cpus": 1}


def import_ray() -> Any:
    """The package ray. Raises MissingDependencyError where it is not installed."""
    # Nothing of what is labelled leaves the machines, usage figures included.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingDependencyError(
            "The engine ray needs the ray package",
            remedy="Install it with: pip install 'labelfusion[ray]'",
        ) from None
    return ray


@contextmanager
def _own_termination() -> Iterator[None]:
    """Ray sets a handler of its own for SIGTERM, in whose place that of before is put back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def started_here(ray: Any, kind: type, *arguments: Any, **options: Any) -> Any:
    """An actor on the machine where the command runs, which takes no processor of its own."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote = ray.remote(num_cpus=0, scheduling_strategy=here, **options)(kind)
    return remote.remote(*arguments)


def answer(reference: Any) -> Any:
    """What an actor's method returned; what it raised is raised, and not Ray's word for it."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None
