"""Items worked on by the tasks of a Ray cluster: cells of a study, folds of a cross-fit.

What is done is pickled once, sent through the object store and unpickled once a worker. In the
place of caches and stores a worker finds the keeper's. An item whose worker dies is tried again;
one that fails ends the work, and is named. Does not know what is worked on.
"""

from __future__ import annotations

import io
import pickle
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self, TypeVar

from labelfusion.encoders.embeddings import lend_cache
from labelfusion.errors import LabelFusionError, RunError
from labelfusion.runs import SignalStore
from labelfusion.scale.ray_cluster import Cluster, answer, import_ray, started_here
from labelfusion.scale.ray_keeper import Keeper, RemoteCache, RemoteStore
from labelfusion.types import Event, OnEvent

Item = TypeVar("Item")
Result = TypeVar("Result")
Do = Callable[[Any, OnEvent], Any]
TRIES = 3
# How often what workers tell is passed on.
LISTEN_EVERY_S = 1.0


class RayTasks:
    """See `labelfusion.spreading.Spread`. The cluster is held from the first call to `__exit__`.

    Args:
        cluster: where the tasks run.
        cache_dir: the encoders' cache folder, which is this machine's for all workers.
    """

    beside = True

    def __init__(self, cluster: Cluster, cache_dir: Path | None) -> None:
        self._cluster, self._cache_dir = cluster, cache_dir
        self._held = ExitStack()
        self._begun: tuple[Any, Any] | None = None

    def __enter__(self) -> Self:
        import_ray()
        return self

    def __exit__(self, *_: object) -> None:
        self._begun = None
        self._held.close()

    def __call__(
        self, do: Callable[[Item, OnEvent], Result], items: Sequence[Item], on_event: OnEvent
    ) -> Generator[tuple[int, Result], None, None]:
        ray, keeper = self._begun = self._begun or self._begin()
        content, stores = sent(do, on_event)
        answer(keeper.open.remote(stores))
        work = ray.put(_Work(content, keeper, self._cache_dir))
        task = ray.remote(max_retries=0, **self._cluster.share)(_task)
        tasks = _Tasks(ray, partial(task.remote, [work]), items, self._cluster.workers, on_event)
        try:
            while tasks.left:
                finished = tasks.wait()
                for event in answer(keeper.heard.remote()):
                    on_event(event)
                for future in finished:
                    yield from tasks.result(future)
        finally:
            tasks.cancel()

    def _begin(self) -> tuple[Any, Any]:
        ray = self._held.enter_context(self._cluster.connected())
        keeper = started_here(ray, Keeper, self._cache_dir)
        self._held.callback(ray.kill, keeper)
        return ray, keeper


class _Tasks:
    """Items that wait, and those under way: never more than there are workers."""

    def __init__(
        self,
        ray: Any,
        start: Callable[[Any], Any],
        items: Sequence[Any],
        workers: int,
        on_event: OnEvent,
    ) -> None:
        self._ray, self._start, self._items = ray, start, items
        self._workers, self._on_event = workers, on_event
        self._waiting = deque(range(len(items)))
        self._running: dict[Future[Any], tuple[int, Any]] = {}
        self._lost: Counter[int] = Counter()

    @property
    def left(self) -> bool:
        return bool(self._waiting or self._running)

    def wait(self) -> set[Future[Any]]:
        """Start what there is room for; the first to be finished, if one is before long."""
        while self._waiting and len(self._running) < self._workers:
            position = self._waiting.popleft()
            reference = self._start(self._items[position])
            self._running[reference.future()] = position, reference
        # Not ray.wait, in which a signal becomes an error of Ray's.
        return wait(self._running, LISTEN_EVERY_S, FIRST_COMPLETED).done

    def result(self, future: Future[Any]) -> Iterator[tuple[int, Any]]:
        """(position, result) of a task that is finished; nothing if it is to be tried again."""
        from ray.exceptions import RayError, RayTaskError

        position, _ = self._running.pop(future)
        try:
            found = future.result()
        except RayTaskError as error:
            raise self._unexpected(position, error.cause) from error
        except RayError as error:
            self._again(position, error)
            return
        if isinstance(found, _Failed):
            raise found.error
        yield position, found

    def _unexpected(self, position: int, cause: BaseException) -> RunError:
        return RunError(
            f"A worker failed with an unexpected {type(cause).__name__}",
            where=str(self._items[position]),
            found=str(cause),
            remedy="The same command goes on; with --engine local the whole traceback is told",
        )

    def _again(self, position: int, error: Exception) -> None:
        """Have an item tried again whose worker is gone, unless that has been often enough."""
        name = str(self._items[position])
        self._lost[position] += 1
        if self._lost[position] == TRIES:
            raise RunError(
                f"Its worker died {TRIES} times",
                where=name,
                found=type(error).__name__,
                remedy="Give fewer --workers, or more memory; the same command goes on",
            ) from error
        self._on_event(Event("evaluate", "note", f"{name}: its worker died; it is tried again"))
        self._waiting.appendleft(position)

    def cancel(self) -> None:
        for _, reference in self._running.values():
            self._ray.cancel(reference, force=True)


@dataclass(frozen=True)
class _Work:
    """What a worker needs; no key is among it."""

    content: bytes
    keeper: Any
    cache_dir: Path | None


@dataclass(frozen=True)
class _Failed:
    """An error that is raised as it is: one that Ray carries has a traceback of Ray's around it."""

    error: LabelFusionError


def _task(work: list[Any], item: Any) -> Any:
    # In a list, so that Ray hands over the reference, by which a worker knows work again.
    do, told = _loaded(work[0])
    try:
        return do(item, told)
    except LabelFusionError as error:
        return _Failed(error)


@lru_cache(maxsize=1)
def _loaded(reference: Any) -> tuple[Do, OnEvent]:
    import ray

    work: _Work = ray.get(reference)
    lend_cache(work.cache_dir, RemoteCache(work.keeper))
    told = partial(_tell, work.keeper)
    return received(work.content, work.keeper, told), told


def _tell(keeper: Any, event: Event) -> None:
    answer(keeper.tell.remote(event))


def sent(do: Do, on_event: OnEvent) -> tuple[bytes, dict[str, SignalStore]]:
    """`do` pickled, and the signal stores that it refers to, which stay here, by their names."""
    from ray.cloudpickle.cloudpickle import Pickler as CloudPickler

    class Pickler(CloudPickler):
        def persistent_id(self, obj: Any) -> tuple[str, str] | None:
            if obj is on_event:
                return "on_event", ""
            if isinstance(obj, SignalStore):
                stores[str(obj.folder)] = obj
                return "store", str(obj.folder)
            return None

        def reducer_override(self, obj: Any) -> Any:
            # What an object remembers of its own methods is made again where it is needed.
            if isinstance(obj, _MEMORY) and hasattr(obj.__wrapped__, "__self__"):
                return _remembering, (obj.cache_parameters()["maxsize"], obj.__wrapped__)
            return super().reducer_override(obj)

    stores: dict[str, SignalStore] = {}
    file = io.BytesIO()
    Pickler(file).dump(do)
    return file.getvalue(), stores


_MEMORY = type(lru_cache(maxsize=1)(lambda: None))


def _remembering(maxsize: int | None, method: Callable[..., Any]) -> Any:
    return lru_cache(maxsize)(method)


def received(content: bytes, keeper: Any, told: OnEvent) -> Do:
    """Inverse of `sent`: stores are the keeper's, and `told` is told."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: tuple[str, str]) -> Any:
            kind, name = pid
            return told if kind == "on_event" else RemoteStore(keeper, name)

    return Unpickler(io.BytesIO(content)).load()
