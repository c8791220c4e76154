"""The parts of a job made by the workers of a Ray cluster, through Ray Data.

One task reads the input and hands out its chunks; actors, which hold the model, make the parts;
they come back in order. Needs the extra `ray`. API keys are never sent: workers take them from the
environment of the machine they run on.
"""

from __future__ import annotations

import logging
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelfusion.config import RunConfig
from labelfusion.data import RowsFile
from labelfusion.errors import ConfigError, LabelFusionError
from labelfusion.llm import ScoringContext, asks
from labelfusion.scale.ray_cluster import Cluster, started_here
from labelfusion.scale.work import Job, Made
from labelfusion.types import Event
from labelfusion.workspace import Workspace

if TYPE_CHECKING:
    from labelfusion.scale.stream import Manner

# A small one makes Ray hand out chunks one by one instead of many at once.
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RayEngine(Cluster):
    """See `labelfusion.scale.stream.Engine`."""

    def __call__(self, job: Job, rows: RowsFile, skip: int, manner: Manner) -> Iterator[Made]:
        with self.connected() as ray:
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

    def _made(
        self, work: Any, rows: RowsFile, skip: int, size: int
    ) -> Iterator[tuple[Made, list[Event]]]:
        from ray.data import ActorPoolStrategy, DataContext, read_datasource

        logging.getLogger("ray.data").setLevel(logging.ERROR)
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
            **self.share,
            compute=ActorPoolStrategy(size=self.workers),
        )
        for batch in data.iter_batches(batch_size=1, prefetch_batches=1):
            yield _result(bytes(batch["made"][0]))


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
    from labelfusion.scale.ray_gate import Gate

    arguments = (workspace.root, job.ledger, job.config.costs)
    return started_here(ray, Gate, *arguments, max_concurrency=1000)


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
