"""A training in several processes of this machine, from their start to their end.

They are started by this one (multiprocessing, "spawn"), find each other by a file and stay on the
loopback interface; accelerate joins them to a team. This process trains nothing: it passes on what
the first of them tells, and ends all of them when it is itself ended, or when one of them fails.
Does not know what is trained or where the result goes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from labelfusion.config import LoRAConfig
from labelfusion.encoders.backbone import Backbone
from labelfusion.encoders.batches import MicroBatch
from labelfusion.encoders.checkpoint import Checkpoint, TrainingProgress
from labelfusion.encoders.optimisation import MakeLearner
from labelfusion.encoders.team import PeerLost, Team
from labelfusion.encoders.training import Plan, Training
from labelfusion.errors import LabelFusionError, ModelError
from labelfusion.types import Event, OnEvent, ignore_event

if TYPE_CHECKING:
    import torch

# Exit code of a process that ended because another one had.
PEER_LOST = 3
# For leaving the team, once the result is here.
GRACE_SECONDS = 10.0
# Ctrl-C is heard between waits on every system.
_LISTEN_EVERY_S = 0.5


class ChildError(RuntimeError):
    """What nobody foresaw, in one of the processes: holds its traceback."""


@dataclass(frozen=True)
class Assignment:
    """All that a process needs for its part of a training; it can be pickled.

    Attributes:
        device: "cpu" or "cuda", of which each process takes its own.
        load: gives the pretrained backbone.
        learner: makes what learns.
        micro_size: texts that go through the network at once.
    """

    device: str
    load: Callable[[], Backbone]
    lora: LoRAConfig | None
    learner: MakeLearner
    plan: Plan
    micro_size: int
    checkpoint: Checkpoint | None

    def train(self, team: Team, on_event: OnEvent) -> Trained:
        """Do this process' part. Raises what `Training.run` raises, and PeerLost."""
        backbone = self.load()
        if self.lora is not None:
            backbone.adapt(self.lora, self.plan.seed)
        micro = MicroBatch(self.micro_size, on_event)
        learner = self.learner(backbone=backbone, micro=micro, team=team)
        progress = Training(learner, self.plan, self.checkpoint, on_event).run()
        arrays = {name: tensor.numpy() for name, tensor in learner.state().items()}
        return Trained(progress, arrays if team.leads else {})


@dataclass(frozen=True)
class Trained:
    """What a training came to: `arrays` are those of `Learner.state`."""

    progress: TrainingProgress
    arrays: dict[str, np.ndarray]

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """For `Learner.restore`."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.arrays.items()}


def train_in_processes(assignment: Assignment, count: int, on_event: OnEvent) -> Trained:
    """Train in `count` processes, and wait for them. None of them is left, however this ends.

    Raises:
        LabelFusionError: as one of the processes raised it.
        ChildError: one failed in a way that nobody foresaw.
        ModelError: one was ended from outside (as systems do where memory is short).
    """
    with TemporaryDirectory(prefix="labelfusion-") as folder:
        place = _Place(count, str(Path(folder) / "meeting"), _threads_each(count))
        with _started(place, assignment) as (processes, words):
            return _Listening(processes, words, on_event).result()


@dataclass(frozen=True)
class _Place:
    """Where `size` processes meet, and how many threads each may use."""

    size: int
    meeting: str
    threads: int


def _threads_each(count: int) -> int:
    import torch

    return max(torch.get_num_threads() // count, 1)


@contextmanager
def _started(
    place: _Place, assignment: Assignment
) -> Iterator[tuple[list[SpawnProcess], list[Connection]]]:
    """The processes, and what is heard of each; at the end there is none of them."""
    spawn = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    words: list[Connection] = []
    try:
        for rank in range(place.size):
            hear, tell = spawn.Pipe(duplex=False)
            words.append(hear)
            # Held by the child alone, so that its death is heard as the end of its words.
            with tell:
                arguments = (rank, place, assignment, tell)
                process = spawn.Process(target=_work, args=arguments, daemon=True)
                process.start()
                processes.append(process)
        yield processes, words
        for process in processes:
            process.join(GRACE_SECONDS)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        for hear in words:
            hear.close()


class _Listening:
    """Hears the processes until the result is there or one of them has failed."""

    def __init__(
        self, processes: Sequence[SpawnProcess], words: Sequence[Connection], on_event: OnEvent
    ) -> None:
        self._processes, self._on_event = list(processes), on_event
        self._open = dict(zip(words, processes, strict=True))
        self._trained: Trained | None = None
        self._errors: list[Exception] = []
        self._failed: list[SpawnProcess] = []

    def result(self) -> Trained:
        """What the first process came to. Raises as `train_in_processes` does."""
        while self._trained is None:
            if self._errors or self._failed or not self._open:
                self._raise()
            wait(list(self._open), _LISTEN_EVERY_S)
            self._hear_all()
        return self._trained

    def _hear_all(self) -> bool:
        """Take in one word of each process that has said one; False if none has."""
        said = [words for words in self._open if words.poll()]
        for words in said:
            self._hear(words)
        return bool(said)

    def _hear(self, words: Connection) -> None:
        try:
            word = words.recv()
        except (EOFError, OSError):
            self._ended(self._open.pop(words))
            return
        if isinstance(word, Event):
            self._on_event(word)
        elif isinstance(word, Trained):
            self._trained = word
        else:
            self._errors.append(word)

    def _ended(self, process: SpawnProcess) -> None:
        # One that is done says nothing more either.
        process.join(GRACE_SECONDS)
        if process.exitcode:
            self._failed.append(process)

    def _raise(self) -> None:
        """Raise what went wrong first: a cause is said before its consequences are."""
        while not self._errors and self._hear_all():
            pass
        raise self._errors[0] if self._errors else self._silent_end()

    def _silent_end(self) -> ModelError:
        causes = [p for p in self._failed if p.exitcode != PEER_LOST] or self._failed
        number, size = self._processes.index, len(self._processes)
        ended = [f"process {number(p) + 1} of {size}: exit code {p.exitcode}" for p in causes]
        return ModelError(
            "A process of the fine-tuning ended before it was done",
            where="ml.training.processes",
            found=f"{', '.join(ended)} (-9: killed, as systems do when memory is short)",
            remedy="Read what it wrote into the log, lower ml.batch_size, or set processes: 1; a "
            'script that calls LabelFusion needs `if __name__ == "__main__":` around the call',
        )


def _work(rank: int, place: _Place, assignment: Assignment, tell: Connection) -> None:
    """The whole life of one process."""
    # Ctrl-C reaches all processes of a shell's job: the one that started these ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with _Telling(tell):
        team = _joined(rank, place, assignment.device)
        trained = assignment.train(team, tell.send if team.leads else ignore_event)
        if team.leads:
            tell.send(trained)
        _leave()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _joined(rank: int, place: _Place, device: str) -> Team:
    """Meet the others by a file; each takes a device of its own."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(place.size),
        "LOCAL_WORLD_SIZE": str(place.size),
        "OMP_NUM_THREADS": str(place.threads),
    }
    # One machine needs no other interface, and no other machine is to reach these sockets.
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    for backend in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{backend}_SOCKET_IFNAME", loopback)
    import torch
    from accelerate import PartialState
    from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

    torch.set_num_threads(place.threads)
    store = FileStore(place.meeting, place.size)
    PartialState(cpu=device == "cpu", store=store, rank=rank, world_size=place.size)
    return Team(rank, place.size)


def _leave() -> None:
    from accelerate import PartialState

    PartialState().destroy_process_group()


class _Telling:
    """Tells an error to the process that waits, in place of raising it."""

    def __init__(self, tell: Connection) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        if isinstance(error, PeerLost):
            traceback.print_exception(error)
            sys.stderr.flush()
            os._exit(PEER_LOST)
        told = error if isinstance(error, LabelFusionError) else ChildError(_words(error))
        with suppress(OSError):
            self._tell.send(told)
        # A team that lacks a process cannot be left in order: its end may wait for that process.
        os._exit(1)


def _words(error: Exception) -> str:
    return "A process of the fine-tuning failed:\n" + "".join(traceback.format_exception(error))
