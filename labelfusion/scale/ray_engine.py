"""The parts of a job made by the workers of a Ray cluster, through Ray Data.

One task reads the input and hands out its chunks; actors, which hold the model, make the parts;
they come back in order. Needs the extra `ray`. API keys are never sent: workers take them from the
environment of the machine they run on.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelfusion.config import RunConfig
from labelfusion.data import RowsFile
from labelfusion.errors import ConfigError, LabelFusionError, MissingDependencyError
from labelfusion.llm import ScoringContext, asks
from labelfusion.scale.work import Job, Made
from labelfusion.types import Event
from labelfusion.workspace import Workspace

if TYPE_CHECKING:
    from labelfusion.scale.stream import Manner

# A small one makes Ray hand out chunks one by one instead of many at once.
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RayEngine:
    """See `labelfusion.scale.stream.Engine`.

    Attributes:
        address: of a cluster, e.g. "auto" on one of its machines; None starts one here.
        workers: how many actors hold the model.
        gpus: that each of them takes; a fraction shares one.
        memory_bytes: of the object store, for a cluster that is started here.
    """

    address: str | None = None
    workers: int = 2
    gpus: float = 0.0
    memory_bytes: int = 200 << 20

    def __call__(self, job: Job, rows: RowsFile, skip: int, manner: Manner) -> Iterator[Made]:
        ray = _ray()
        with self._cluster(ray):
            check_cache(job.config, len(ray.nodes()))
            work = _Work(
                job.for_workers(self.workers),
                _packed(job.folder()),
                manner.workspace,
                _gate(ray, job, manner.workspace),
            )
            for made, notes in self._made(ray.put(work), rows, skip, manner.chunk_rows):
                for note in notes:
                    manner.on_event(note)
                yield made

    @contextmanager
    def _cluster(self, ray: Any) -> Iterator[None]:
        """A connection to the cluster; one that was there before is left as it is."""
        if ray.is_initialized():
            yield
            return
        here = {
            "num_cpus": self.workers,
            "object_store_memory": self.memory_bytes,
            "include_dashboard": False,
        }
        options = {"address": self.address} if self.address else here
        ray.init(**options, log_to_driver=False, configure_logging=False)
        try:
            yield
        finally:
            ray.shutdown()

    def _made(
        self, work: Any, rows: RowsFile, skip: int, size: int
    ) -> Iterator[tuple[Made, list[Event]]]:
        from ray.data import ActorPoolStrategy, DataContext, read_datasource

        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.target_max_block_size = _BLOCK_BYTES
        # Reading takes no processor of its own: the actors may have them all.
        chunks = read_datasource(_chunks_source(rows, skip, size), ray_remote_args={"num_cpus": 0})
        data = chunks.map_batches(
            _Actor,
            # In a list, so that Ray hands over the reference and not what it refers to.
            fn_constructor_args=([work],),
            batch_size=1,
            num_cpus=1,
            num_gpus=self.gpus or None,
            compute=ActorPoolStrategy(size=self.workers),
        )
        for batch in data.iter_batches(batch_size=1, prefetch_batches=1):
            yield _result(bytes(batch["made"][0]))


def _ray() -> Any:
    # Nothing of what is labelled leaves the machines, usage figures included.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingDependencyError(
            "The engine ray needs the ray package",
            remedy="Install it with: pip install 'labelfusion[ray]'",
        ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def check_cache(config: RunConfig, machines: int) -> None:
    """Raise ConfigError where workers would not see each other's answers, and pay twice."""
    asked = any(asks(entry) for entry in config.llm)
    if asked and machines > 1 and config.cache.backend == "disk":
        raise ConfigError(
            "The answer cache is on a disk, and the cluster has several machines",
            where="config cache.backend",
            expected="redis, which all machines share",
            found=f"disk, on {machines} machines",
            remedy="Set cache.backend to redis and LABELFUSION_REDIS_URL on every machine",
        )


def _gate(ray: Any, job: Job, workspace: Workspace) -> Any:
    """The actor with budget and rates, on this machine; None for sources that ask nobody."""
    if not any(asks(entry) for entry in job.config.llm):
        return None
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from labelfusion.scale.ray_gate import Gate

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)(Gate)
    return actor.remote(workspace.root, job.ledger, job.config.costs)


def _packed(folder: Path | None) -> dict[str, bytes]:
    """The files of a folder, so that workers need no disk in common."""
    if folder is None:
        return {}
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _chunks_source(rows: RowsFile, skip: int, size: int) -> Any:
    """A Ray data source whose rows are the chunks of a file, pickled; one task reads it."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Chunks(Datasource):
        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:  # noqa: ARG002
            about = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(partial(_blocks, rows, skip, size), about)]

        def estimate_inmemory_data_size(self) -> None:
            return None

    return Chunks()


def _blocks(rows: RowsFile, skip: int, size: int) -> Iterator[Any]:
    import pyarrow as pa

    for chunk in islice(rows.chunks(size), skip, None):
        yield pa.table({"chunk": pa.array([pickle.dumps(chunk)], pa.large_binary())})


@dataclass(frozen=True)
class _Work:
    """What an actor needs; no key is among it."""

    job: Job
    files: dict[str, bytes]
    workspace: Workspace
    gate: Any


class _Actor:
    """Holds the model and makes one part after another."""

    def __init__(self, work: list[Any]) -> None:
        import ray

        found: _Work = ray.get(work[0])
        self._folder = tempfile.TemporaryDirectory(prefix="labelfusion-model-")
        placed = _unpacked(found.files, Path(self._folder.name))
        job = found.job.placed(placed) if found.files else found.job
        self._worker = job.worker(found.workspace, _lent(job, found))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"made": [self._make(chunk) for chunk in batch["chunk"]]}

    def _make(self, chunk: bytes) -> bytes:
        table, rows = pickle.loads(chunk)  # noqa: S301 - it was made by `_blocks`, in this job
        notes: list[Event] = []

        def keep(event: Event) -> None:
            if event.status == "note":
                notes.append(event)

        try:
            made = self._worker.finish(self._worker.prepare(table, rows, keep), keep)
        except LabelFusionError as error:
            # An error that Ray carries arrives with a traceback of its own around it.
            return pickle.dumps(error)
        return pickle.dumps((made, notes))


def _result(content: bytes) -> tuple[Made, list[Event]]:
    found = pickle.loads(content)  # noqa: S301 - it was made by `_Actor`, in this job
    if isinstance(found, LabelFusionError):
        raise found
    return found


def _unpacked(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _lent(job: Job, work: _Work) -> ScoringContext:
    """As `labelfusion.llm.scoring_session`, with the budget and the rates of the gate."""
    if work.gate is None:
        return ScoringContext(run=job.ledger)
    from labelfusion.cache import open_cache
    from labelfusion.scale.ray_gate import RemoteMeter, RemotePace

    return ScoringContext(
        cache=open_cache(job.config.cache, work.workspace.cache),
        meter=RemoteMeter(work.gate),
        stop_when_spent=job.config.costs.budget.when_spent == "stop",
        run=job.ledger,
        paces=partial(RemotePace, work.gate),
        batches=work.workspace.cache / "batches",
    )
