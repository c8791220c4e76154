"""What a million and a billion texts take: unit costs measured here, prices of genai-prices.

Processor times are of one thread, so that a busy machine tells the same. Rate limits and the price
of a processor are yours to set. Run: `python -m benchmarks.scale_costs [--requests-per-minute N]
[--tokens-per-minute N] [--usd-per-core-hour X] [--routed SHARE]`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.predict_scale import texts, trained, write_rows
from labelfusion.config import CostConfig, DataConfig, LLMConfig, MLConfig
from labelfusion.costs import PriceBook, estimate
from labelfusion.data import open_rows
from labelfusion.encoders import make_encoder
from labelfusion.llm.providers import REMOTE
from labelfusion.llm.remote import plan_costs
from labelfusion.runs import Run, RunFolder
from labelfusion.types import LabelSpace, Rows, Signal

MODELS = tuple(
    (name, kind.default_model) for name, kind in REMOTE.items() if kind.default_model is not None
)
SIZES = (10**6, 10**9)


def rate(work: Callable[[], object], rows: int) -> float:
    """Rows a second of processor time."""
    started = time.process_time()
    work()
    return rows / (time.process_time() - started)


def unit_costs(folder: Path, n: int) -> dict[str, float]:
    """Texts a second of one core, of every part that computes."""
    import torch

    torch.set_num_threads(1)
    run = Run(RunFolder(trained(folder)))
    classifier, given = run.model(None), list(texts(n))
    rows = Rows([str(i) for i in range(n)], given)
    path = folder / "rows.csv"
    write_rows(path, 20 * n)
    space = classifier.space
    frozen = frozen_encoder(space)
    signals = classifier.encode(rows)
    scores = np.random.default_rng(0).dirichlet(np.full(len(space), 0.3), n)
    signals["llm"] = Signal("llm", scores, "probabilities", np.ones(n, dtype=bool))
    prediction = classifier.predict(rows, signals, contributions=False)
    few = Rows(rows.ids[: n // 10], given[: n // 10])
    return {
        "reading a CSV file": rate(lambda: read(path), 20 * n),
        "encoder, TF-IDF": rate(lambda: classifier.encode(rows), n),
        "encoder, frozen MiniLM": rate(lambda: frozen.embed(few.texts), len(few)),
        "fusion": rate(lambda: classifier.predict(rows, signals, contributions=False), n),
        "comparison with the training texts": rate(
            lambda: classifier.compare(rows, signals, prediction), n
        ),
    }


def frozen_encoder(space: LabelSpace):
    encoder = make_encoder(MLConfig(encoder="minilm"), space, seed=0, cache_dir=None)
    encoder.embed(["the model is loaded before the clock starts"])
    return encoder


def read(path: Path) -> int:
    return sum(len(rows) for _, rows in open_rows(path, DataConfig(id_column="id")).chunks(10_000))


def asking(provider: str, model: str) -> tuple[float, float, float]:
    """US dollars, tokens and requests of one text, of the sample tickets."""
    sample = pd.read_csv(Path(__file__).parent.parent / "sample_data" / "tickets.csv")
    rows = Rows(sample["id"].tolist(), sample["text"].tolist())
    space = LabelSpace(tuple(sorted(sample["label"].unique())), multi_label=False)
    entry = LLMConfig.model_validate({"provider": provider, "model": model})
    plan = plan_costs(entry, rows, space, prices=PriceBook.of(CostConfig()))
    found = estimate([plan]).sources[0].expected
    assert found.usd is not None, f"the price of {model} is unknown"
    tokens = found.input_tokens + found.output_tokens
    return float(found.usd) / len(rows), tokens / len(rows), found.requests / len(rows)


def hours(seconds: float) -> str:
    """In the unit that reads best."""
    for name, size in (("years", 31_557_600), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000, help="that units are measured on")
    parser.add_argument("--requests-per-minute", type=float, default=10_000)
    parser.add_argument("--tokens-per-minute", type=float, default=10e6)
    parser.add_argument("--usd-per-core-hour", type=float, default=0.05)
    parser.add_argument("--routed", type=float, default=1.0, help="share of texts that is sent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_computing(unit_costs(Path(folder), options.texts), options.usd_per_core_hour)
    print_asking(options)


def print_computing(units: dict[str, float], usd_per_core_hour: float) -> None:
    print("| part | texts/s a core | 1 M texts, one core | 1 B texts, one core | USD for 1 B |")
    print("|---|---|---|---|---|")
    for name, speed in units.items():
        million, billion = (n / speed for n in SIZES)
        usd = billion / 3600 * usd_per_core_hour
        print(f"| {name} | {speed:,.0f} | {hours(million)} | {hours(billion)} | {usd:,.0f} |")


def print_asking(options: argparse.Namespace) -> None:
    print("\n| model | tokens a text | USD for 1 M | time | USD for 1 B | time | limited by |")
    print("|---|---|---|---|---|---|---|")
    for provider, model in MODELS:
        usd, tokens, requests = (options.routed * part for part in asking(provider, model))
        by_tokens = tokens / options.tokens_per_minute * 60
        by_requests = requests / options.requests_per_minute * 60
        limit = "tokens" if by_tokens > by_requests else "requests"
        cells = [
            cell
            for n in SIZES
            for cell in (f"{n * usd:,.0f}", hours(n * max(by_tokens, by_requests)))
        ]
        print(f"| {model} | {tokens:.0f} | {' | '.join(cells)} | {limit} |")


if __name__ == "__main__":
    main()
