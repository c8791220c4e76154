"""Every combiner beside the guarded choice, on the same signals: what a sceptic wants to see.

Each (share of the labels, seed) makes the sources' signals once, the encoder's out of fold, then
fits every method on them and reads the test rows. All labels are counted; smaller shares are
nested in larger ones. A cell is stored the moment it is done, so a second call goes on.

    python -m benchmarks.combiners tickets
    python -m benchmarks.combiners reviews
    python -m benchmarks.combiners ag_news --data FOLDER
    python -m benchmarks.combiners go_emotions --data FOLDER    and others of benchmarks.hub
    python -m benchmarks.combiners ranks        over what these have stored
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.label_budget import SAMPLES, TASKS, Task, configuration, subset
from benchmarks.paths import add_data_option, require
from labelfusion import RunConfig, pipeline
from labelfusion.config import FusionConfig
from labelfusion.data import load_dataset
from labelfusion.evaluation.comparison import mcnemar_exact
from labelfusion.evaluation.metrics import evaluate
from labelfusion.fusion.heads import METHODS
from labelfusion.fusion.model import FusionModel
from labelfusion.types import Dataset, Prediction, Signal

SHARES = (0.05, 0.1, 0.2, 0.4, 1.0)
NAMES = {"auto": "guarded", "mlp": "mlp (paper's)"}
MIN_RANKED_LABELS = 40
SHOWN = ("accuracy", "macro_f1", "nll", "ece_classwise")


def main() -> None:
    """Fill in the cells that are missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=[*TASKS, "ranks"])
    add_data_option(parser)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="*", help="label counts in place of shares")
    parser.add_argument("--cache", type=Path, default=Path(".benchmark_cache"))
    args = parser.parse_args()
    if args.task == "ranks":
        print(markdown(ranks(args.cache), digits=3))
        return
    task = TASKS[args.task]
    folder = SAMPLES if task.ours else args.data
    config = configuration(task, require(folder / task.file), folder / task.scores)
    dataset = load_dataset(config.data)
    sizes = args.sizes or [round(share * labelled(dataset, task)) for share in SHARES]
    store = args.cache / f"combiners_{args.task}.jsonl"
    wanted = [(size, seed) for size in sizes for seed in range(args.seeds)]
    fill(store, wanted, dataset, task, config, args)
    cells = read(store)
    for part in tables(cells[cells["size"].isin(sizes) & (cells["seed"] < args.seeds)], task):
        print(part, end="\n\n")


def ranks(cache: Path) -> pd.DataFrame:
    """Mean rank of each system by task and over all, from MIN_RANKED_LABELS labels on."""
    parts = []
    for name, task in TASKS.items():
        cells = read(cache / f"combiners_{name}.jsonl")
        if cells.empty:
            continue
        parts.append(cells.assign(task=name, figure=cells[task.metric]))
    cells = pd.concat(parts)
    cells = cells[cells["size"] >= MIN_RANKED_LABELS]
    cells["rank"] = cells.groupby(["task", "size", "seed"])["figure"].rank(ascending=False)
    by_task = cells.groupby(["system", "task"])[["rank", "nll", "ece_classwise"]].mean()
    table = by_task["rank"].unstack()
    table["mean rank"] = table.mean(axis=1)
    return table.join(by_task[["nll", "ece_classwise"]].groupby("system").mean()).sort_values(
        "mean rank"
    )


def labelled(dataset: Dataset, task: Task) -> int:
    """How many rows there are to train on."""
    if dataset.split is None:
        return len(dataset) - task.test_rows
    return int((dataset.split == "train").sum())


def fill(store: Path, wanted: list, dataset: Dataset, task: Task, config: RunConfig, args) -> None:
    """Compute what the store lacks, several cells at once."""
    store.parent.mkdir(parents=True, exist_ok=True)
    have = read(store)
    done = set(zip(have["size"], have["seed"], strict=True)) if len(have) else set()
    with ProcessPoolExecutor(args.jobs) as pool, store.open("a", encoding="utf-8") as out:
        futures = [
            pool.submit(cell, dataset, task, config.updated({"seed": seed}), size, args.cache)
            for size, seed in wanted
            if (size, seed) not in done
        ]
        for future in as_completed(futures):
            for row in future.result():
                out.write(json.dumps(row) + "\n")
            out.flush()


def read(store: Path) -> pd.DataFrame:
    """The stored cells; empty if there are none."""
    return pd.read_json(store, lines=True) if store.is_file() else pd.DataFrame()


def cell(dataset: Dataset, task: Task, config: RunConfig, size: int, cache: Path) -> list[dict]:
    """Every system's figures on the test rows, for one size and seed."""
    run = pipeline.fit(subset(dataset, task, size, config.seed), config, cache_dir=cache)
    signals, split = run.signals, run.split
    train = {name: signal.take(split.train) for name, signal in signals.items()}
    test = {name: signal.take(split.test) for name, signal in signals.items()}
    y_train, y_test = (run.dataset.targets[rows] for rows in (split.train, split.test))
    models = {
        method: FusionModel.fit(
            train,
            y_train,
            space=dataset.space,
            config=FusionConfig(method=method),
            seed=config.seed,
        )
        for method in METHODS
    }
    told = alone(models["auto"], test) | {
        NAMES.get(method, method): model.predict(test) for method, model in models.items()
    }
    right = {name: (p.decisions == y_test).all(axis=1) for name, p in told.items()}
    best = max(signals, key=lambda name: float(right[name].mean()))
    return [
        {"size": size, "seed": config.seed, "system": name}
        | evaluate(y_test, p.probabilities, p.decisions, dataset.space)
        | {"mcnemar": mcnemar_exact(int((ok & ~right[best]).sum()), int((~ok & right[best]).sum()))}
        for (name, p), ok in zip(told.items(), right.values(), strict=True)
    ]


def alone(model: FusionModel, test: dict[str, Signal]) -> dict[str, Prediction]:
    """Each source by itself."""
    return {name: model.predict_alone(signal) for name, signal in test.items()}


def tables(cells: pd.DataFrame, task: Task) -> Iterator[str]:
    """The main figure by size with the mean rank, then the other figures at every size."""
    metric = task.metric
    table = cells.pivot_table(index="system", columns="size", values=metric, aggfunc="mean") * 100
    ranks = cells.groupby(["size", "seed"])[metric].rank(ascending=False).groupby(cells["system"])
    table["mean rank"] = ranks.mean()
    difference = against_better(cells, metric)
    table["worst seed against the better source"] = difference.groupby("system").min() * 100
    significant = cells[cells["mcnemar"] < 0.05].groupby("system").size()
    table["p < .05 against it"] = significant.reindex(table.index).fillna(0)
    yield f"{metric} in %, means of {cells['seed'].nunique()} seeds\n\n" + markdown(
        table.sort_values("mean rank")
    )
    for size, part in cells.groupby("size"):
        means = part.groupby("system")[list(SHOWN)].mean()
        yield f"{size} labels\n\n" + markdown(means.reindex(table.index), digits=3)


def against_better(cells: pd.DataFrame, metric: str) -> pd.Series:
    """Each cell's figure minus that of the better source of the same size and seed."""
    sources = cells[cells["system"].isin(("ml", "llm"))]
    better = sources.groupby(["size", "seed"])[metric].max()
    indexed = cells.set_index(["size", "seed", "system"])[metric]
    return indexed - better.reindex(indexed.index.droplevel("system")).to_numpy()


def markdown(table: pd.DataFrame, digits: int = 2) -> str:
    """A Markdown table with the index as its first column."""
    rows: list[list[Any]] = [[str(table.index.name), *map(str, table.columns)]]
    rows.append(["---"] * len(rows[0]))
    for name, values in table.iterrows():
        rows.append([str(name), *(f"{value:.{digits}f}" for value in np.asarray(values))])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
