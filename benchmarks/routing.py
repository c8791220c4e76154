"""What routing saves: the texts sent to the LLM for accuracy near full fusion's.

Tickets (the project's sample) and AG News, end to end. The threshold is read off out-of-fold
predictions of the training rows; share and accuracy are those of the test rows, beside the accuracy
of sending the same share at random. Then, for the certified mode, how often a certificate is wrong:
rows are drawn with replacement from all labelled rows, which are the truth it is held against.

    python -m benchmarks.routing [--data FOLDER] [--seeds 5] [--loss 0.003] [--resamples 200]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paths import add_data_option
from labelfusion import RunConfig, pipeline
from labelfusion.evaluation.certificate import certify
from labelfusion.evaluation.frontier import Routable, margins

SAMPLES = Path(__file__).parent.parent / "sample_data"
COLUMNS = "sent | full fusion | routed | loss | random | lead | without LLM | flip rate"
TOLERANCES, ALPHA = (0.003, 0.01, 0.02, 0.05), 0.1


def main() -> None:
    """Print one Markdown row per data set, averaged over seeds, and one per certificate."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--loss", type=float, default=0.003)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=Path(".benchmark_cache"))
    args = parser.parse_args()
    runs = {
        name: [fit(data, seed, args.loss, args.cache) for seed in range(args.seeds)]
        for name, data in data_sets(args.data).items()
    }
    print(f"| data | {COLUMNS} | worst loss | seeds beaten by random |\n" + "|---" * 11 + "|")
    for name, fitted in runs.items():
        print(operating_point(name, [figures(run) for run in fitted]))
    print("\n| data | labels | tolerance | certified | mean share sent | wrong | allowed |")
    print("|---" * 7 + "|")
    for name, fitted in runs.items():
        for tolerance in TOLERANCES:
            print(certificates(name, labelled_rows(fitted[0]), tolerance, args.resamples))


def data_sets(folder: Path) -> dict[str, dict[str, Any]]:
    """Config of each data set that is there; the seed draws the split of both."""
    found = {"tickets": settings(SAMPLES / "tickets.csv", SAMPLES / "tickets_llm_scores.csv")}
    news = folder / "ag_news_1600.csv"
    if news.exists():
        found["AG News"] = settings(news, news) | {"test_size": 0.5}
    return found


def settings(data: Path, scores: Path) -> dict[str, Any]:
    return {
        "data_path": str(data),
        "id_column": "id",
        "label_column": "label",
        "llm_scores": str(scores),
        "evaluation": {"bootstrap_draws": 200},
    }


def fit(data: dict[str, Any], seed: int, loss: float, cache: Path) -> pipeline.FittedRun:
    routing = {"policy": "margin", "max_accuracy_loss": loss}
    config = RunConfig.from_dict(data | {"seed": seed, "routing": routing})
    return pipeline.fit(pipeline.check(config), config, cache_dir=cache)


def figures(run: pipeline.FittedRun) -> list[float]:
    """The columns of COLUMNS, 0..1, on the test rows."""
    test = run.report["routing"]["test"]
    rows = test_rows(run)
    cheap = float((rows.cheap == rows.targets.astype(bool)).all(axis=1).mean())
    full = test["accuracy"] + test["loss"]
    return [
        *(test["share"], full, test["accuracy"], test["loss"]),
        *(test["random_accuracy"], test["lead"], cheap, rows.flip_rate),
    ]


def operating_point(name: str, rows: list[list[float]]) -> str:
    means = " | ".join(f"{100 * value:.2f}" for value in np.mean(rows, axis=0))
    losses, leads = (np.array([row[at] for row in rows]) for at in (3, 5))
    return f"| {name} | {means} | {100 * losses.max():+.2f} | {(leads < 0).sum()} of {len(rows)} |"


def test_rows(run: pipeline.FittedRun) -> Routable:
    """The test rows decided with and without the LLM."""
    rows = run.split.test
    cheap = run.classifier.fusion.predict({"ml": run.signals["ml"].take(rows)})
    whole = run.test_prediction.decisions
    return Routable(run.dataset.targets[rows], margins(cheap), cheap.decisions, whole)


def labelled_rows(run: pipeline.FittedRun) -> Routable:
    """All labelled rows, decided by models that did not see them."""
    fusion, rows = run.classifier.fusion, run.split.train
    cheap, whole = fusion.out_of_fold_without(["llm"]), run.train_prediction
    assert cheap is not None
    train = Routable(run.dataset.targets[rows], margins(cheap), cheap.decisions, whole.decisions)
    both = zip(vars(train).values(), vars(test_rows(run)).values(), strict=True)
    return Routable(*(np.concatenate(parts) for parts in both))


def certificates(name: str, rows: Routable, tolerance: float, resamples: int) -> str:
    """One row: how many resamples certify something, what they send, how many are wrong."""
    losses, rng = rows.losses(), np.random.default_rng(0)
    shares, wrong = [], 0
    for _ in range(resamples):
        drawn = rng.integers(0, len(rows), len(rows))
        found = certify(rows.margin[drawn], losses[drawn], tolerance=tolerance, alpha=ALPHA)
        wrong += ((losses > 0) & (rows.margin >= found.threshold)).mean() > tolerance
        shares.append(found.share)
    given = sum(share < 1 for share in shares)
    return (
        f"| {name} | {len(rows)} | {100 * tolerance:g} % | {given} of {resamples} | "
        f"{100 * np.mean(shares):.1f} | {wrong} | {ALPHA * resamples:g} |"
    )


if __name__ == "__main__":
    main()
