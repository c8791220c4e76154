"""Options that say where work is done: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

if TYPE_CHECKING:
    from labelfusion.scale.stream import Engine
    from labelfusion.spreading import Spread

EngineOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Where the work is done; ray needs the extra ray.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster, e.g. auto on one of its machines; else one is started."),
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Ray: how many work at once.")]
GpusOption = Annotated[float, typer.Option(min=0, help="Ray: GPUs that each worker takes.")]


def chosen_engine(engine: str, address: str | None, workers: int, gpus: float = 0.0) -> Engine:
    """The engine that the options name, for the rows of a file."""
    from labelfusion.scale.stream import local_engine

    if _is_local(engine, address):
        return local_engine
    from labelfusion.scale.ray_engine import RayEngine

    return RayEngine(address, workers, gpus)


class Where(NamedTuple):
    """Where the parts of a training or a study are worked on, as the options say."""

    engine: str
    address: str | None
    workers: int
    gpus: float


def chosen_spread(where: Where, workspace: Path | None) -> AbstractContextManager[Spread]:
    """What the options name for the parts of a training or a study; held until it is left."""
    from labelfusion.spreading import one_by_one
    from labelfusion.workspace import Workspace

    if _is_local(where.engine, where.address):
        return nullcontext(one_by_one)
    from labelfusion.scale.ray_cluster import Cluster
    from labelfusion.scale.ray_tasks import RayTasks

    return RayTasks(
        Cluster(where.address, where.workers, where.gpus), Workspace.at(workspace).cache
    )


def _is_local(engine: str, address: str | None) -> bool:
    if engine == "local" and address is not None:
        raise typer.BadParameter("--address is for --engine ray")
    return engine == "local"
