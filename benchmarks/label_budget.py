"""What a budget of labels buys: each source, the guarded fusion and a paper-style MLP.

AG News end to end, the training rows in nested subsets, all labels counted. The MLP is the form of
the LabelFusion paper (arXiv 2512.10793): hidden sizes 64 and 32 over [embedding, LLM scores].

    python -m benchmarks.label_budget --data FOLDER [--sizes 40,80,200,800] [--seeds 5]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.paths import add_data_option, require
from labelfusion import RunConfig, pipeline
from labelfusion.data import dataset_from_table, read_table
from labelfusion.encoders import make_encoder
from labelfusion.types import Dataset

SYSTEMS = ("ml", "llm", "fusion", "paper-style MLP")


def main() -> None:
    """Print one Markdown row per size: mean accuracy and the worst difference of any seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--sizes", default="40,80,200,800")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(".benchmark_cache"))
    args = parser.parse_args()
    path = require(args.data / "ag_news_1600.csv")
    print("| labels | " + " | ".join(SYSTEMS) + " | fusion - better (mean) | (worst seed) |")
    print("|---" * (len(SYSTEMS) + 3) + "|")
    for size in map(int, args.sizes.split(",")):
        rows = np.array([accuracies(path, size, seed, args.cache) for seed in range(args.seeds)])
        better = rows[:, :2].mean(axis=0).max()
        worst = (rows[:, 2] - rows[:, :2].max(axis=1)).min()
        cells = " | ".join(f"{100 * value:.1f}" for value in rows.mean(axis=0))
        gain = 100 * (rows[:, 2].mean() - better)
        print(f"| {size} | {cells} | {gain:+.2f} | {100 * worst:+.2f} |", flush=True)


def accuracies(path: Path, size: int, seed: int, cache: Path) -> list[float]:
    """Test accuracy of each system, trained on `size` of the training rows."""
    config = RunConfig.from_dict(
        {
            "seed": seed,
            "data": {
                "path": str(path),
                "id_column": "id",
                "label_column": "label",
                "split_column": "split",
            },
            "llm_scores": str(path),
            "evaluation": {"bootstrap_draws": 100},
        }
    )
    dataset = subset(dataset_from_table(read_table(path), config.data), size, seed)
    run = pipeline.fit(dataset, config, cache_dir=cache)
    systems = run.report["systems"]
    found = [systems[name]["metrics"]["accuracy"] for name in SYSTEMS[:3]]
    return [*found, paper_style_mlp(run, config, cache)]


def subset(dataset: Dataset, size: int, seed: int) -> Dataset:
    """The dataset with `size` training rows; those of a smaller size are among them."""
    assert dataset.split is not None
    train = np.random.default_rng(seed).permutation(np.flatnonzero(dataset.split == "train"))
    return dataset.take(np.concatenate([train[:size], np.flatnonzero(dataset.split == "test")]))


def paper_style_mlp(run: pipeline.FittedRun, config: RunConfig, cache: Path) -> float:
    """Accuracy of an MLP over the concatenated embedding and LLM scores."""
    dataset, split = run.dataset, run.split
    encoder = make_encoder(config.ml, dataset.space, seed=config.seed, cache_dir=cache)
    embedding = encoder.embed(dataset.texts)
    features = np.hstack([embedding, run.signals["llm"].scores])
    codes = dataset.targets.argmax(axis=1)
    mlp = MLPClassifier((64, 32), max_iter=200, random_state=config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp.fit(features[split.train], codes[split.train])
    return float(mlp.score(features[split.test], codes[split.test]))


if __name__ == "__main__":
    main()
