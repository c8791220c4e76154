"""What the studies over subsets have in common: sizes, seeds, one block a (size, seed).

Knows Material and Options. Does not know what is fitted on a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from labelfusion.config import RunConfig
from labelfusion.data import MIN_LABELLED
from labelfusion.studies.cells import Cell
from labelfusion.studies.material import Block, Material, prepare
from labelfusion.studies.options import Options, Place
from labelfusion.studies.samples import subset_sizes


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
        return self.material.block(int(cell.values["size"]), int(cell.values["seed"]))

    def grid(self, systems: Sequence[str]) -> list[Cell]:
        """A cell for each system, size and seed; those of one block follow each other."""
        return [
            Cell({"system": system, "size": size, "seed": seed})
            for size in self.sizes
            for seed in self.seeds
            for system in systems
        ]
