"""Which source decided what: exact Shapley values over the sources a prediction used.

The game's players are the sources that the row's combiner uses; a coalition is worth the log-odds
that the model gives when only those sources are present, the empty one the class prior (Shapley
1953; Lundberg & Lee 2017, §2.4, with the model refitted for each coalition instead of imputed).
Knows how to enumerate coalitions. Does not know how the model gets a coalition's evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import factorial

import numpy as np

Coalition = tuple[int, ...]


def shapley(players: Coalition, worth: Callable[[Coalition], np.ndarray]) -> dict[int, np.ndarray]:
    """Each player's exact share of worth(players) - worth(()).

    Args:
        players: at most a handful; 2^P coalitions are evaluated, each once.
        worth: coalition -> (n, k) log-odds.
    """
    values = {
        coalition: worth(coalition)
        for size in range(len(players) + 1)
        for coalition in combinations(players, size)
    }
    return {player: _share(player, players, values) for player in players}


def _share(player: int, players: Coalition, values: dict[Coalition, np.ndarray]) -> np.ndarray:
    others = tuple(p for p in players if p != player)
    total = np.zeros_like(values[()])
    for size in range(len(others) + 1):
        weight = factorial(size) * factorial(len(others) - size) / factorial(len(players))
        for coalition in combinations(others, size):
            joined = tuple(p for p in players if p == player or p in coalition)
            total = total + weight * (values[joined] - values[coalition])
    return total
