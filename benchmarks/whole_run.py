"""Where the time of a whole `labelfusion train` goes: fine-tuned encoder, LLM, fusion.

Each repetition is a process of its own in an empty workspace, on --rows rows of AG News, with a
fine-tuned MiniLM, and an LLM behind the tests' protocol server on this machine (200 ms an answer,
16 requests at once). Seconds by stage are read from the run's own events, the whole from outside:
"start" is what comes before the first event and after the last. Encoder and LLM go on at the same
time: "both" is from the beginning of the first to the end of the last.

    python -m benchmarks.whole_run --data FOLDER [--rows 400] [--epochs 5] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from benchmarks.label_budget import TASKS
from benchmarks.llm_throughput import server
from benchmarks.paths import add_data_option, require

STAGES = ("check", "split", "ml", "llm", "fusion", "evaluate", "save")
ENCODER, LLM = "ml", "llm"
LATENCY_S, CONCURRENCY = 0.2, 16


def main() -> None:
    """Print one Markdown row per stage, and the two ratios."""
    args = _arguments()
    runs = [measure(args) for _ in range(args.repeats)]
    print(f"{args.rows} rows, {args.epochs} epochs, {args.repeats} repetitions\n")
    print("\n".join(table(runs)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_option(parser)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--texts-per-request", type=int, default=8)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of one run by stage, of both together, of what is outside them, and of all."""
    with tempfile.TemporaryDirectory() as name, server(latency=LATENCY_S) as address:
        folder = Path(name)
        write_inputs(folder, address, args)
        command = [sys.executable, "-m", "labelfusion", "train", "--config", "config.yaml"]
        root = str(Path(__file__).parent.parent)
        begun = time.time()
        subprocess.run(
            [*command, "--workspace", "workspace"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": root},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        whole = time.time() - begun
        (events,) = folder.glob("workspace/runs/*/events.jsonl")
        return seconds(list(map(json.loads, events.read_text().splitlines())), whole)


def write_inputs(folder: Path, address: str, args: argparse.Namespace) -> None:
    """The first rows of AG News, and a configuration that asks the server."""
    rows = pd.read_csv(require(args.data / TASKS["ag_news"].file))
    rows.iloc[: args.rows][["id", "text", "label"]].to_csv(folder / "rows.csv", index=False)
    entry = {
        "provider": "compatible",
        "base_url": f"{address}/v1",
        "model": "m",
        "concurrency": CONCURRENCY,
        "texts_per_request": args.texts_per_request,
    }
    values = {
        "data": {"path": "rows.csv", "id_column": "id", "label_column": "label"},
        "ml": {"fine_tune": True, "device": "cpu", "training": {"epochs": args.epochs}},
        "llm": [entry],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def seconds(events: Sequence[Mapping[str, str]], whole: float) -> dict[str, float]:
    """By stage, from a run's events; `whole` is measured from outside."""
    times = {
        stage: [datetime.fromisoformat(e["time"]).timestamp() for e in events if _is(e, stage)]
        for stage in STAGES
    }
    spans = {stage: (min(found), max(found)) for stage, found in times.items() if found}
    taken = {stage: end - begun for stage, (begun, end) in spans.items()}
    together = [spans[ENCODER], spans[LLM]]
    both = max(end for _, end in together) - min(begun for begun, _ in together)
    inside = both + sum(taken[stage] for stage in taken if stage not in (ENCODER, LLM))
    return taken | {"start": whole - inside, "both": both, "outside": whole - both, "whole": whole}


def _is(event: Mapping[str, str], stage: str) -> bool:
    return event["stage"] == stage


def table(runs: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Medians with the lowest and highest repetition."""
    yield "| | seconds | lowest to highest | share of the whole |"
    yield "|---|---|---|---|"
    for name in (*STAGES, "start", "both", "outside", "whole"):
        found = np.array([run[name] for run in runs])
        shares = found / np.array([run["whole"] for run in runs])
        spread = f"{found.min():.2f} to {found.max():.2f}"
        yield f"| {name} | {np.median(found):.2f} | {spread} | {100 * np.median(shares):.1f} % |"
    longer = np.array([max(run[ENCODER], run[LLM]) for run in runs])
    ratios = np.array([run["both"] for run in runs]) / longer
    yield ""
    yield f"both / the longer of the two: {np.median(ratios):.3f} (at most {ratios.max():.3f})"
    ratios = np.array([run["whole"] for run in runs]) / longer
    yield f"whole / the longer of the two: {np.median(ratios):.3f} (at most {ratios.max():.3f})"


if __name__ == "__main__":
    main()
