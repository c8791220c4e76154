"""Where the benchmark data is: a folder that the user names, never part of the project."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

VARIABLE = "LABELFUSION_BENCHMARKS"


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add --data, by default the folder that the environment variable names."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(VARIABLE, "benchmark_data")),
        help=f"folder with the benchmark data (default: ${VARIABLE})",
    )


def require(path: Path) -> Path:
    """`path`, or an exit that says what to set."""
    if not path.exists():
        raise SystemExit(f"{path} is not there. Set --data or {VARIABLE} to the data's folder.")
    return path
