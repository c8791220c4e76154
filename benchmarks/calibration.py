"""Calibration of one source by number of labels: as it came, by `auto`, by isotonic regression.

Drawn sources are calibrated, too sure, not sure enough, or mix two labels up, and are measured on
20,000 fresh rows; the recorded LLM scores of AG News on the rows that were not drawn. The log-loss,
in nats a text, is the mean over seeds.

    python -m benchmarks.calibration --data FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax

from benchmarks.paths import add_data_option, require
from labelfusion import FusionModel, LabelSpace, Signal
from labelfusion.config import FusionConfig
from labelfusion.tasks import signal_evidence, task_for

SIZES = (50, 200, 1000, 5000)
TEST_ROWS = 20_000
LABELS = ("World", "Sports", "Business", "Sci/Tech")
SPACE = LabelSpace(LABELS, multi_label=False)
WAYS = ("as it came", "auto", "isotonic")
# Evidence and targets of the rows to fit on, then of the rows to measure on.
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    """Print one Markdown row per source and number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    scored = pd.read_csv(require(args.data / "ag_news_1600.csv"))
    draws: dict[str, Callable[[int, int], Drawn]] = {
        "calibrated": partial(simulated, np.eye(len(LABELS))),
        "three times too sure": partial(simulated, 3 * np.eye(len(LABELS))),
        "half as sure as it should": partial(simulated, 0.5 * np.eye(len(LABELS))),
        "two labels mixed up": partial(simulated, np.eye(len(LABELS))[[1, 0, 2, 3]]),
        "LLM on AG News": partial(recorded, scored),
    }
    print("| source | labels | " + " | ".join(WAYS) + " | auto against as it came |")
    print("|---" * (len(WAYS) + 3) + "|")
    for name, draw in draws.items():
        for n in SIZES:
            if name == "LLM on AG News" and n > len(scored) / 2:
                continue
            losses = np.mean([row(*draw(n, seed)) for seed in range(args.seeds)], axis=0)
            cells = " | ".join(f"{loss:.4f}" for loss in losses)
            print(f"| {name} | {n} | {cells} | {losses[1] / losses[0] - 1:+.1%} |", flush=True)


def simulated(distortion: np.ndarray, n: int, seed: int) -> Drawn:
    """A source whose log-probabilities are the true ones times `distortion` (k, k)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=2.0, size=(n + TEST_ROWS, len(LABELS)))
    codes = (softmax(z, axis=1).cumsum(axis=1) > rng.random((len(z), 1))).argmax(axis=1)
    scores, targets = log_softmax(z @ distortion, axis=1), np.eye(len(LABELS))[codes]
    return scores[:n], targets[:n], scores[n:], targets[n:]


def recorded(scored: pd.DataFrame, n: int, seed: int) -> Drawn:
    """n rows of the recorded scores, and the rest of them."""
    rows = np.random.default_rng(seed).permutation(len(scored))
    scores = np.log(scored[[f"llm_{name}" for name in LABELS]].to_numpy(float).clip(1e-6))
    targets = (scored["label"].to_numpy()[:, None] == np.array(LABELS)).astype(float)
    inside, outside = rows[:n], rows[n:]
    return scores[inside], targets[inside], scores[outside], targets[outside]


def row(fit: np.ndarray, y_fit: np.ndarray, test: np.ndarray, y_test: np.ndarray) -> list[float]:
    """The log-loss of each way."""
    task = task_for(SPACE)
    given = Signal("source", fit, "logits", np.ones(len(fit), bool))
    fresh = Signal("source", test, "logits", np.ones(len(test), bool))
    losses = [task.row_loss(signal_evidence(task, fresh), y_test).mean()]
    for way in WAYS[1:]:
        config = FusionConfig(calibration=way)
        model = FusionModel.fit([given], y_fit, space=SPACE, config=config)
        p = model.predict([fresh]).probabilities
        losses.append(-np.log(p[y_test == 1]).mean())
    return losses


if __name__ == "__main__":
    main()
