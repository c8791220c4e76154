"""Processor seconds and memory of fitting a fusion with the guarded choice.

python -m benchmarks.fusion_speed
"""

from __future__ import annotations

import resource
import time

import numpy as np

from labelfusion import FusionModel, LabelSpace, Signal

SIZES = ((2000, 10, 2), (5000, 20, 3))


def main() -> None:
    """Print one Markdown row per size."""
    print("| rows | labels | sources | multi-class | multi-label |\n|---|---|---|---|---|")
    for n, k, sources in SIZES:
        times = [seconds(n, k, sources, multi_label=multi) for multi in (False, True)]
        print(f"| {n} | {k} | {sources} | {times[0]:.1f} | {times[1]:.1f} |", flush=True)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def seconds(n: int, k: int, sources: int, *, multi_label: bool) -> float:
    """Processor time of one fit on drawn signals of differing strength."""
    rng = np.random.default_rng(0)
    targets = np.eye(k, dtype=np.int8)[rng.integers(0, k, n)]
    if multi_label:
        targets = (rng.random((n, k)) < 0.25).astype(np.int8)
    everywhere = np.ones(n, dtype=bool)
    signals = {
        f"source{s}": Signal(
            f"source{s}", (1 + s) * targets + rng.normal(size=(n, k)), "logits", everywhere
        )
        for s in range(sources)
    }
    space = LabelSpace(tuple(f"label{j}" for j in range(k)), multi_label)
    started = time.process_time()
    FusionModel.fit(signals, targets, space=space)
    return time.process_time() - started


if __name__ == "__main__":
    main()
