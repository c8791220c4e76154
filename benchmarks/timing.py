"""Systems timed in turn, by the clock and in processor seconds, and told as ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

DRAWS = 2000


def clocks() -> np.ndarray:
    """(2,) seconds by the clock, and of the processor, which other work does not change."""
    return np.array([time.perf_counter(), time.process_time()])


def in_turn(systems: Mapping[str, Callable[[], np.ndarray]], repeats: int) -> dict[str, np.ndarray]:
    """(repeats, 2) seconds of each system, as it tells them.

    They take turns within a repetition, so that all share bad moments; the first is not counted.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in systems}
    for repeat in range(repeats + 1):
        for name, run in systems.items():
            taken = run()
            if repeat:
                found[name].append(taken)
    return {name: np.array(times) for name, times in found.items()}


def speed_table(n: int, seconds: Mapping[str, np.ndarray], ours: str) -> Iterator[str]:
    """Markdown: texts a second, and how much faster `ours` is, with 95 % bootstrap intervals."""
    yield f"| system | texts a second | {ours} is faster by | in processor seconds |"
    yield "|---|---|---|---|"
    for name, times in seconds.items():
        ratios = times / seconds[ours]
        faster = [_interval(ratios[:, i]) if name != ours else "" for i in range(2)]
        yield f"| {name} | {n / np.median(times[:, 0]):.1f} | {faster[0]} | {faster[1]} |"


def _interval(ratios: np.ndarray) -> str:
    drawn = np.random.default_rng(0).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return f"{np.median(ratios):.2f} × ({low:.2f} to {high:.2f})"
