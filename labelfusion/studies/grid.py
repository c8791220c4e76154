"""What the studies over subsets have in common: sizes, seeds, one block a (size, seed).

Knows Material and Options. Does not know what is fitted on a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from labelfusion.classifier import ML_SOURCE
from labelfusion.config import RunConfig
from labelfusion.data import MIN_LABELLED
from labelfusion.studies.cells import Cell
from labelfusion.studies.division import Division
from labelfusion.studies.material import Block, Material, prepare
from labelfusion.studies.options import Options, Place
from labelfusion.studies.samples import subset_sizes
from labelfusion.types import Signal


class GridStudy:
    """A study whose cells are `systems` × sizes × seeds. Subclasses say which and what they do."""

    default_sizes: Sequence[float] = (1.0,)

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        self.config, self.options = config, options
        self.material: Material = prepare(config, place)
        self.seeds = options.numbered(config)

    def tell_cost(self) -> None:
        self.material.asker.tell_cost(self.material.jobs)

    def fingerprint(self) -> str:
        return self.material.fingerprint

    @cached_property
    def rows_to_train(self) -> int:
        """How many training rows every seed has."""
        return min(len(self.material.part(seed).train) for seed in self.seeds)

    @cached_property
    def sizes(self) -> list[int]:
        """Absolute sizes; raises InputError for those that do not fit."""
        return self.fitting(self.options.sizes or self.default_sizes)

    def fitting(self, asked: Sequence[float]) -> list[int]:
        """Absolute sizes of those asked for; few-shot examples are labels that every size needs."""
        least = max(MIN_LABELLED, len(self.material.reserved))
        return subset_sizes(asked, self.rows_to_train, least=least)

    def block(self, cell: Cell) -> Block:
        """The block that a cell's size and seed name."""
        return self.material.block(*block_of(cell))

    def division(self) -> Division | None:
        return self

    def prepare(self) -> None:
        self.material.embed()

    def shared(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """The encoder's cross-fit of every block, then the further signals, the largest first."""
        encoded = self.config.ml.encoder != "none"
        own = {(ML_SOURCE, *block_of(cell)) for cell in cells if encoded}
        others = {(name, *block_of(cell)) for cell in cells if (name := self.needs(cell))}
        return [pieces(found) for found in (own, others) if found]

    def share(self, piece: Cell) -> None:
        block, name = self.block(piece), str(piece.values["signal"])
        if name in self.further:
            self.further[name](block)

    @property
    def further(self) -> Mapping[str, Callable[[Block], Signal]]:
        """What makes a signal of a block, if it is not kept yet, beside those of the sources."""
        return {}

    def needs(self, cell: Cell) -> str | None:  # noqa: ARG002
        """The one of these that a cell needs, by its name."""
        return None

    def grid(self, systems: Sequence[str]) -> list[Cell]:
        """A cell for each system, size and seed; those of one block follow each other."""
        return [
            Cell({"system": system, "size": size, "seed": seed})
            for size in self.sizes
            for seed in self.seeds
            for system in systems
        ]


def block_of(cell: Cell) -> tuple[int, int]:
    """(size, seed) of a cell."""
    return int(cell.values["size"]), int(cell.values["seed"])


def pieces(wanted: Iterable[tuple[str, int, int]]) -> list[Cell]:
    """A piece for each (signal, size, seed); the largest first, since they take longest."""
    order = sorted(wanted, key=lambda piece: (-piece[1], piece))
    return [Cell({"signal": name, "size": size, "seed": seed}) for name, size, seed in order]
