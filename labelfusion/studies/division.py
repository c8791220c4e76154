"""The cells of a study divided among processes: first what several of them need, then themselves.

Knows the order and what is told. Does not know what a cell or a piece is, nor where it is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Protocol

from labelfusion.errors import LabelFusionError
from labelfusion.spreading import Spread, one_by_one
from labelfusion.studies.cells import Cell, Row
from labelfusion.types import Event, OnEvent

Measured = tuple[Sequence[Row], float]


class Division(Protocol):
    """What comes before cells that are done beside each other, so that nothing is made twice."""

    def prepare(self) -> None:
        """Put into the workspace's cache what this process makes for all others."""
        ...

    def shared(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """The pieces that cells have in common, each once; each list needs those before it only."""
        ...

    def share(self, piece: Cell) -> None:
        """Make one of these and keep it where the cells will look for it."""
        ...


def divided(
    division: Division | None,
    run: Callable[[Cell], Sequence[Row]],
    cells: Sequence[Cell],
    on_event: OnEvent,
    spread: Spread,
) -> Generator[tuple[int, Measured], None, None]:
    """(position, (rows, seconds)) of each cell as it is finished.

    Without a division the cells stay in this process. In one process a cell makes what it lacks
    itself, and others find it; elsewhere two might make it, so it is made before.
    Raises LabelFusionError, in which the cell is named.
    """
    if division is None:
        spread = one_by_one
    elif spread.beside and cells:
        division.prepare()
        for pieces in division.shared(cells):
            with closing(spread(partial(_made, division), pieces, on_event)) as made:
                for i, (position, _) in enumerate(made, start=1):
                    told = f"For all cells: {pieces[position]}"
                    on_event(Event("evaluate", "progress", told, i, len(pieces), "pieces"))
    yield from spread(partial(_run, run), cells, on_event)


def _made(division: Division, piece: Cell, on_event: OnEvent) -> None:  # noqa: ARG001
    try:
        division.share(piece)
    except LabelFusionError as error:
        raise error.within(str(piece)) from None


def _run(run: Callable[[Cell], Sequence[Row]], cell: Cell, on_event: OnEvent) -> Measured:  # noqa: ARG001
    begun = time.monotonic()
    try:
        rows = run(cell)
    except LabelFusionError as error:
        raise error.within(str(cell)) from None
    return rows, time.monotonic() - begun
