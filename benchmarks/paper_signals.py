"""Guarded fusion on the paper's own signals: AG News, 15 training sizes.

Fits on the validation signals (RoBERTa probabilities, hard LLM labels) and reads the test signals,
through `labelfusion fuse`'s own code.

    python -m benchmarks.paper_signals --data FOLDER
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from benchmarks.paths import add_data_option, require
from labelfusion.config import FusionConfig
from labelfusion.fuse import fuse_tables


def main() -> None:
    """Print one Markdown row per training size, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    folder = require(parser.parse_args().data / "paper_signals_agnews")
    print("| training share | ML | LLM | fusion | fusion - better | chosen |")
    print("|---" * 6 + "|")
    gains = []
    for train in sorted(folder.glob("*__validation.parquet"), key=percent):
        test = train.with_name(train.name.replace("validation", "test"))
        result = fuse_tables(train, test, ["ml", "llm"], config=FusionConfig())
        ml, llm = (result["sources"][name]["accuracy"] for name in ("ml", "llm"))
        fused = result["fusion"]["accuracy"]
        gains.append(fused - max(ml, llm))
        cells = " | ".join(f"{100 * value:.1f}" for value in (ml, llm, fused))
        print(f"| {percent(train)} % | {cells} | {100 * gains[-1]:+.1f} | {result['chosen']} |")
    print(f"\nmean gain {100 * np.mean(gains):+.2f} points, worst {100 * min(gains):+.1f}")


def percent(path: Path) -> int:
    """The training share in a file's name."""
    found = re.search(r"(\d+)pct", path.name)
    if found is None:
        raise SystemExit(f"{path.name} does not say its training share")
    return int(found[1])


if __name__ == "__main__":
    main()
