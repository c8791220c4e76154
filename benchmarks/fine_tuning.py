"""What fine-tuning and joint training are worth at given numbers of labels, on AG News.

Each cell is one run end to end: the encoder frozen, fine-tuned, or fine-tuned jointly with a
FusionMLP, at one number of labels and one seed; all labels are counted. A cell is written to --out
as one JSON line when it is finished; cells that are there already are not run again, so that a time
limit loses only what was under way. The table is made from the lines.

    python -m benchmarks.fine_tuning --data FOLDER --labels 160 800 --seeds 0 1 2 3 4
    python -m benchmarks.fine_tuning --data FOLDER --unscored --device cuda --jobs 4

It runs from a checkout; --weights names a folder with MiniLM where its package is not installed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.label_budget import TASKS, configuration, subset
from benchmarks.paths import add_data_option, require
from labelfusion import RunConfig, pipeline
from labelfusion.data import load_dataset
from labelfusion.encoders.pretrained import choose_device
from labelfusion.types import Dataset

TASK = TASKS["ag_news"]
UNSCORED_FILE = "ag_news_6000_unscored.csv"
ENCODERS: dict[str, dict[str, bool]] = {
    "frozen": {},
    "fine-tuned": {"fine_tune": True},
    "joint": {"fine_tune": True, "joint": True},
}
SYSTEMS = ("ml", "llm", "joint", "fusion")


@dataclass(frozen=True)
class Cell:
    """One run. `unscored`: whether the rows without LLM scores are trained on too."""

    labels: int
    seed: int
    encoder: str
    unscored: bool
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float


@dataclass(frozen=True)
class Place:
    """Where a cell is run and what it reads; none of it should change a result."""

    data: Path
    weights: str
    device: str
    cache: Path | None
    threads: int


def main() -> None:
    """Run the cells that are not in --out yet, then print the table of all that are."""
    args = _arguments()
    require(args.data / TASK.file)
    wanted = list(cells(args))
    done = read(args.out)
    left = [cell for cell in wanted if _key(asdict(cell)) not in {_key(d) for d in done}]
    place = Place(
        args.data, args.weights, args.device, args.cache, max((os.cpu_count() or 1) // args.jobs, 1)
    )
    print(f"{len(left)} of {len(wanted)} cells to run", file=sys.stderr, flush=True)
    failed = run_all(left, place, args.jobs, args.out)
    keys = {_key(asdict(cell)) for cell in wanted}
    print("\n".join(table([line for line in read(args.out) if _key(line) in keys])))
    if failed:
        raise SystemExit(f"{failed} cells failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_option(parser)
    parser.add_argument("--labels", type=int, nargs="+", default=[160, 800])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--unscored", action="store_true", help="add 6,000 rows without LLM scores")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--head-learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--weights", default="minilm", help="a folder with MiniLM's weights")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, a process each")
    parser.add_argument("--out", type=Path, default=Path("fine_tuning.jsonl"))
    parser.add_argument("--cache", type=Path, help="keep embeddings and scores of finished folds")
    return parser.parse_args()


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """The cells asked for, a seed at a time, so that what is finished first can be compared."""
    settings = (args.epochs, args.batch_size, args.learning_rate, args.head_learning_rate)
    for seed in args.seeds:
        for labels in args.labels:
            for encoder in args.encoders:
                yield Cell(labels, seed, encoder, args.unscored, *settings)


def run_all(left: Sequence[Cell], place: Place, jobs: int, out: Path) -> int:
    """Run cells in `jobs` processes and write each as it finishes. Returns how many failed."""
    failed = 0
    # A forked process cannot use a GPU that its parent has touched.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running = {pool.submit(run_cell, cell, place): cell for cell in left}
        for future in as_completed(running):
            error = future.exception()
            if error is not None:
                failed += 1
                print(f"{running[future]} failed: {error!r}", file=sys.stderr, flush=True)
                continue
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(future.result()) + "\n")
    return failed


def run_cell(cell: Cell, place: Place) -> dict[str, Any]:
    """The cell with its accuracies, the choice of the fusion, and how long it took."""
    import torch

    torch.set_num_threads(place.threads)
    config = cell_config(cell, place)
    dataset = cell_rows(cell, place, config)
    begun = time.monotonic()
    run = pipeline.fit(dataset, config, cache_dir=place.cache)
    systems = run.report["systems"]
    return asdict(cell) | {
        "accuracy": {name: systems[name]["metrics"]["accuracy"] for name in systems},
        "nll": {name: systems[name]["metrics"]["nll"] for name in systems},
        "chosen": run.report["choice"]["chosen"],
        "train_rows": len(run.split.train),
        "test_rows": len(run.split.test),
        "seconds": round(time.monotonic() - begun, 1),
        "device": _device_name(place.device),
    }


def cell_config(cell: Cell, place: Place) -> RunConfig:
    """The configuration of a cell's run."""
    path = place.data / TASK.file
    training = {
        "epochs": cell.epochs,
        "learning_rate": cell.learning_rate,
        "head_learning_rate": cell.head_learning_rate,
    }
    ml = {"encoder": place.weights, "device": place.device, "batch_size": cell.batch_size}
    values = configuration(TASK, path, path).to_dict()
    values["ml"] = ml | {"training": training} | ENCODERS[cell.encoder]
    return RunConfig.from_dict(values | {"seed": cell.seed})


def cell_rows(cell: Cell, place: Place, config: RunConfig) -> Dataset:
    """The test rows, `cell.labels` training rows and, if asked for, those without LLM scores."""
    rows = subset(load_dataset(config.data), TASK, cell.labels, cell.seed)
    if not cell.unscored:
        return rows
    path = require(place.data / UNSCORED_FILE)
    layout = config.data.model_copy(update={"path": str(path), "split_column": None})
    more = load_dataset(layout)
    return joined(rows, replace(more, split=np.full(len(more), "train")))


def joined(first: Dataset, second: Dataset) -> Dataset:
    """The rows of both; the second's labels are those of the first, in any order."""
    order = [second.space.index(name) for name in first.space.names]
    assert first.split is not None
    assert second.split is not None
    return replace(
        first,
        ids=np.concatenate([first.ids, second.ids]),
        texts=first.texts + second.texts,
        targets=np.concatenate([first.targets, second.targets[:, order]]),
        labelled=np.concatenate([first.labelled, second.labelled]),
        split=np.concatenate([first.split, second.split]),
        row_numbers=np.concatenate([first.row_numbers, second.row_numbers]),
        metadata=pd.concat([first.metadata, second.metadata], ignore_index=True),
    )


def read(path: Path) -> list[dict[str, Any]]:
    """The finished cells; a line that was cut off is passed over."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: a line is not whole, its cell is run again", file=sys.stderr)
    return found


def table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: mean accuracy over seeds in per cent, a row for each encoder and size."""
    heads = ["labels", "encoder", "seeds", *SYSTEMS, "fusion - better", "(worst seed)", "seconds"]
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for labels in sorted({line["labels"] for line in lines}):
        for encoder in ENCODERS:
            chosen = [c for c in lines if (c["labels"], c["encoder"]) == (labels, encoder)]
            if chosen:
                yield "| " + " | ".join(_cells(labels, encoder, chosen)) + " |"


def _cells(labels: int, encoder: str, lines: Sequence[dict[str, Any]]) -> list[str]:
    scores = [line["accuracy"] for line in lines]
    gains = [100 * (score["fusion"] - max(score["ml"], score["llm"])) for score in scores]
    return [
        str(labels) + (" + 6,000 unscored" if lines[0]["unscored"] else ""),
        encoder,
        str(len(lines)),
        *(
            f"{100 * np.mean([score[name] for score in scores]):.1f}" if name in scores[0] else "–"
            for name in SYSTEMS
        ),
        f"{np.mean(gains):+.2f}",
        f"{min(gains):+.2f}",
        f"{np.median([line['seconds'] for line in lines]):.0f}",
    ]


def _key(line: dict[str, Any]) -> str:
    """What tells a cell from others, of a cell or its finished line."""
    return json.dumps({name: line.get(name) for name in Cell.__dataclass_fields__})


def _device_name(device: str) -> str:
    import torch

    found = choose_device(device)
    return torch.cuda.get_device_name(found) if found.type == "cuda" else found.type


if __name__ == "__main__":
    main()
