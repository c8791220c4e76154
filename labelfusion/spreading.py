"""The same thing done to many items, here or elsewhere, and each result as soon as it is there.

Knows the shape of such work alone. Does not know what is done, nor what clusters are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from labelfusion.types import OnEvent

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spread(Protocol):
    """Does one thing to every item. What it does and gives must be such as can be pickled."""

    @property
    def beside(self) -> bool:
        """Whether several items are worked on at once, in processes that share no memory."""
        ...

    def __call__(
        self, do: Callable[[Item, OnEvent], Result], items: Sequence[Item], on_event: OnEvent
    ) -> Generator[tuple[int, Result], None, None]:
        """(position, result) of every item, in the order in which they are finished.

        Closing it ends what is under way.

        Args:
            do: given an item and whom to tell, returns its result.
            items: `str(item)` names one in an error.
            on_event: told in this process of what is told there.

        Raises what `do` raises.
        """
        ...


class OneByOne:
    """See `Spread`: in this process, each item once the one before it is taken."""

    beside = False

    def __call__(
        self, do: Callable[[Item, OnEvent], Result], items: Sequence[Item], on_event: OnEvent
    ) -> Generator[tuple[int, Result], None, None]:
        for position, item in enumerate(items):
            yield position, do(item, on_event)


one_by_one = OneByOne()
