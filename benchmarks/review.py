"""How well suspected label errors are ranked: planted flips by fusion, ML, LLM and disagreement.

A share of the labels of all rows is flipped (to another label; multi-label: one entry), the run is
trained and tested on what is then in the data, and every row's given label is ranked by the margin
of predictions that did not see it. Average precision, mean over seeds with Student's 95 % interval.

    python -m benchmarks.review [--data FOLDER] [--seeds 5] [--share 0.05]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student
from sklearn.metrics import average_precision_score

from benchmarks.label_budget import SAMPLES, TASKS, configuration
from benchmarks.paths import add_data_option
from labelfusion import RunConfig, pipeline
from labelfusion.data import load_dataset
from labelfusion.review import label_margin
from labelfusion.types import Dataset, Prediction

RANKINGS = ("fusion margin", "ML margin", "LLM margin", "disagreement")
COLUMNS = (*RANKINGS, "fusion - LLM")


def main() -> None:
    """Print one Markdown row per data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--cache", type=Path, default=Path(".benchmark_cache"))
    args = parser.parse_args()
    print("| data | flips | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name, config in data_sets(args.data).items():
        dataset = load_dataset(config.data)
        found = [
            precisions(dataset, config.updated({"seed": seed}), args.share, args.cache)
            for seed in range(args.seeds)
        ]
        flips = round(np.mean([count for count, _ in found]))
        values = np.array([precision for _, precision in found])
        cells = " | ".join(map(cell, [*values.T, values[:, 0] - values[:, 2]]))
        print(f"| {name} | {flips} | {cells} |", flush=True)


def data_sets(folder: Path) -> dict[str, RunConfig]:
    """The configuration of each data set that is there; splits are drawn by the seed."""
    found = {}
    for name, task in TASKS.items():
        home = folder if name == "ag_news" else SAMPLES
        if (home / task.file).exists():
            config = configuration(task, home / task.file, home / task.scores)
            config.data.split_column = None
            found[name] = config
    return found


def cell(values: np.ndarray) -> str:
    """Mean and interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ± {half:.3f}"


def precisions(
    dataset: Dataset, config: RunConfig, share: float, cache: Path
) -> tuple[int, list[float]]:
    """How many labels were flipped among the rows ranked, and each ranking's average precision."""
    targets = flipped(dataset, share, np.random.default_rng(config.seed))
    given = replace(dataset, targets=targets)
    run = pipeline.fit(given, config, cache_dir=cache)
    rows = np.concatenate([run.split.train, run.split.test])
    gold = targets[rows].astype(bool)
    wrong = judged(dataset, gold != dataset.targets[rows].astype(bool))
    fused = np.vstack([run.train_prediction.probabilities, run.test_prediction.probabilities])
    alone = {name: answer(run, name, rows).probabilities for name in ("ml", "llm")}
    apart = np.abs(alone["ml"] - alone["llm"])
    scores = [-label_margin(dataset.space, gold, p) for p in (fused, alone["ml"], alone["llm"])]
    scores.append(apart if dataset.space.multi_label else apart.sum(axis=1, keepdims=True))
    found = [float(average_precision_score(wrong.ravel(), score.ravel())) for score in scores]
    return int(wrong.sum()), found


def flipped(dataset: Dataset, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n, k) targets of which a share is wrong: another label, or one entry the other way."""
    targets, k = dataset.targets.copy(), len(dataset.space)
    if dataset.space.multi_label:
        at = rng.choice(targets.size, round(share * targets.size), replace=False)
        targets.flat[at] = 1 - targets.flat[at]
        return targets
    rows = rng.choice(len(targets), round(share * len(targets)), replace=False)
    other = (targets[rows].argmax(axis=1) + rng.integers(1, k, len(rows))) % k
    targets[rows] = np.eye(k, dtype=targets.dtype)[other]
    return targets


def judged(dataset: Dataset, differs: np.ndarray) -> np.ndarray:
    """(n, 1) or, multi-label, (n, k) bool: which of the given labels are flipped."""
    return np.asarray(differs if dataset.space.multi_label else differs.any(axis=1, keepdims=True))


def answer(run: pipeline.FittedRun, source: str, rows: np.ndarray) -> Prediction:
    """What a source says by itself, out of fold on training rows."""
    return run.classifier.fusion.predict_alone(run.signals[source].take(rows))


if __name__ == "__main__":
    main()
