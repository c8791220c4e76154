"""What a budget of labels buys: each source, the guarded fusion and a paper-style MLP.

End to end, the training rows in nested subsets, all labels counted. The MLP has the form of the
LabelFusion paper (arXiv 2512.10793): hidden sizes 64 and 32 over [embedding, LLM scores].

    python -m benchmarks.label_budget tickets
    python -m benchmarks.label_budget reviews
    python -m benchmarks.label_budget ag_news --data FOLDER

The data sets that benchmarks.hub fetches are read in the same way.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.hub import SOURCES
from benchmarks.paths import add_data_option, require
from labelfusion import RunConfig, pipeline
from labelfusion.data import load_dataset
from labelfusion.encoders import make_encoder
from labelfusion.evaluation.metrics import decision_metrics
from labelfusion.types import Dataset

SAMPLES = Path(__file__).parent.parent / "sample_data"
SYSTEMS = ("ml", "llm", "fusion", "paper-style MLP")
ASPECTS = (
    "comfort", "durability", "app_experience", "content", "value", "support", "setup", "results",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A data set: its file, scores and layout, the sizes to try, and test rows if it names none."""

    file: str
    scores: str
    layout: dict[str, Any]
    metric: str
    sizes: tuple[int, ...]
    test_rows: int = 0

    @property
    def ours(self) -> bool:
        """Whether it is one of the samples that the project carries."""
        return (SAMPLES / self.file).exists()


def _of_the_hub(name: str, metric: str) -> Task:
    """A data set that benchmarks.hub has written."""
    layout = {"split_column": "split", **SOURCES[name].layout}
    return Task(f"{name}.csv", f"{name}_scores.csv", layout, metric, (50, 100, 200, 400, 1000))


TASKS = {
    "tickets": Task(
        "tickets.csv",
        "tickets_llm_scores.csv",
        {"label_column": "label"},
        "accuracy",
        (40, 60, 120, 300),
        160,
    ),
    "reviews": Task(
        "reviews.csv",
        "reviews_llm_scores.csv",
        {"label_columns": list(ASPECTS)},
        "macro_f1",
        (60, 120, 220),
        100,
    ),
    "ag_news": Task(
        "ag_news_1600.csv",
        "ag_news_1600.csv",
        {"label_column": "label", "split_column": "split"},
        "accuracy",
        (40, 80, 200, 800),
    ),
    "ag_news_hub": _of_the_hub("ag_news_hub", "accuracy"),
    "go_emotions": _of_the_hub("go_emotions", "macro_f1"),
    "reuters": _of_the_hub("reuters", "macro_f1"),
}


def main() -> None:
    """Print one Markdown row per size: mean figures and the worst difference of any seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    add_data_option(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(".benchmark_cache"))
    args = parser.parse_args()
    task = TASKS[args.task]
    folder = SAMPLES if task.ours else args.data
    config = configuration(task, require(folder / task.file), folder / task.scores)
    dataset = load_dataset(config.data)
    print(f"{task.metric}, {args.seeds} seeds\n")
    print("| labels | " + " | ".join(SYSTEMS) + " | fusion - better (mean) | (worst seed) |")
    print("|---" * (len(SYSTEMS) + 3) + "|")
    for size in task.sizes:
        rows = [
            figures(dataset, task, config.updated({"seed": seed}), size, args.cache)
            for seed in range(args.seeds)
        ]
        print(table_row(size, np.array(rows)), flush=True)


def table_row(size: int, rows: np.ndarray) -> str:
    """(seeds, systems) figures as a Markdown row."""
    gain = 100 * (rows[:, 2].mean() - rows[:, :2].mean(axis=0).max())
    worst = 100 * (rows[:, 2] - rows[:, :2].max(axis=1)).min()
    cells = " | ".join(f"{100 * value:.1f}" for value in rows.mean(axis=0))
    return f"| {size} | {cells} | {gain:+.2f} | {worst:+.2f} |"


def configuration(task: Task, path: Path, scores: Path) -> RunConfig:
    """The run's configuration; few bootstrap draws, as intervals are not read here."""
    return RunConfig.from_dict(
        {
            "data": {"path": str(path), "id_column": "id", **task.layout},
            "llm_scores": str(scores),
            "evaluation": {"bootstrap_draws": 100},
        }
    )


def figures(dataset: Dataset, task: Task, config: RunConfig, size: int, cache: Path) -> list[float]:
    """The test figure of each system, trained on `size` rows."""
    run = pipeline.fit(subset(dataset, task, size, config.seed), config, cache_dir=cache)
    systems = run.report["systems"]
    found = [systems[name]["metrics"][task.metric] for name in SYSTEMS[:3]]
    return [*found, paper_style_mlp(run, task.metric, cache)]


def subset(dataset: Dataset, task: Task, size: int, seed: int) -> Dataset:
    """The test rows and `size` training rows; those of a smaller size are among them."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    if dataset.split is None:
        test, pool = order[: task.test_rows], order[task.test_rows :]
    else:
        test = np.flatnonzero(dataset.split == "test")
        pool = order[dataset.split[order] == "train"]
    parts = np.array(["train"] * size + ["test"] * len(test))
    return replace(dataset.take(np.concatenate([pool[:size], test])), split=parts)


def paper_style_mlp(run: pipeline.FittedRun, metric: str, cache: Path) -> float:
    """The figure of an MLP over the concatenated embedding and LLM scores."""
    dataset, split, config = run.dataset, run.split, run.config
    encoder = make_encoder(config.ml, dataset.space, seed=config.seed, cache_dir=cache)
    embedding = encoder.embed(dataset.texts)
    assert embedding is not None
    features = np.hstack([embedding, run.signals["llm"].scores])
    mlp = MLPClassifier((64, 32), max_iter=200, random_state=config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp.fit(features[split.train], answers(dataset, split.train))
    told = np.asarray(mlp.predict(features[split.test]))
    decisions = told if dataset.space.multi_label else np.eye(len(dataset.space))[told]
    return decision_metrics(dataset.targets[split.test], decisions.astype(bool))[metric]


def answers(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Class codes, or indicators for multi-label."""
    targets = dataset.targets[rows]
    return targets if dataset.space.multi_label else targets.argmax(axis=1)


if __name__ == "__main__":
    main()
