"""`predict` on files of growing size: peak memory, processor time, and Ray beside this process.

The rows are generated, the encoder is TF-IDF, and every text's LLM scores are in the answer cache
before the clock starts, so that what is measured is LabelFusion. Each size is a process of its own.
Run: `python -m benchmarks.predict_scale [--rows N ...] [--ray WORKERS] [--folder F]`.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from labelfusion.cache import open_cache
from labelfusion.config import LLMConfig, RunConfig
from labelfusion.llm import ScoringContext
from labelfusion.llm.plan import make_plan
from labelfusion.llm.providers import model_name
from labelfusion.predict_file import Wishes
from labelfusion.runs import Run, RunFolder, create_run
from labelfusion.scale.predict import PredictJob
from labelfusion.scale.ray_engine import RayEngine
from labelfusion.scale.stream import Manner, local_engine, run_job
from labelfusion.types import LabelSpace, Rows
from labelfusion.worker import work
from labelfusion.workspace import Workspace

SAMPLE = Path(__file__).parent.parent / "sample_data"
# Nobody answers at this address: a text that is not in the cache ends the benchmark.
ASKED = {"provider": "compatible", "base_url": "http://127.0.0.1:9/v1", "model": "cached"}
WORDS = 25
CHUNK = 10_000


def trained(folder: Path) -> Path:
    """The folder of a run on the sample tickets, TF-IDF and recorded scores."""
    config = RunConfig.from_dict(
        {
            "name": "scale",
            "data": {
                "path": str(SAMPLE / "tickets.csv"),
                "id_column": "id",
                "label_column": "label",
            },
            "ml": {"encoder": "tfidf", "folds": 2},
            "llm": [{"provider": "recorded", "path": str(SAMPLE / "tickets_llm_scores.csv")}],
            "fusion": {"method": "class_pool", "cv_folds": 2, "cv_repeats": 1},
            "evaluation": {"bootstrap_draws": 100},
        }
    )
    workspace = Workspace.at(folder / "ws")
    run = create_run(workspace, config)
    work(run, workspace)
    return run.path


def texts(n: int) -> Iterator[str]:
    """Different texts made of the sample's words, the same every time."""
    sample = pd.read_csv(SAMPLE / "tickets.csv")["text"]
    words = sorted({word for text in sample for word in text.split()})
    draw = random.Random(0)
    for i in range(n):
        yield f"{' '.join(draw.choices(words, k=WORDS))} {i}"


def write_rows(path: Path, n: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text"])
        rows.writerows((f"n{i}", text) for i, text in enumerate(texts(n)))


def fill_cache(run: Run, workspace: Workspace, path: Path) -> None:
    """Put scores for every text of the file where the scorer looks them up."""
    entry = LLMConfig.model_validate(ASKED)
    space, draw = _space(run), np.random.default_rng(0)
    cache = open_cache(run.config.cache, workspace.cache)
    for part in pd.read_csv(path, chunksize=CHUNK):
        rows = Rows(part["id"].tolist(), part["text"].tolist())
        plan = make_plan(entry, model_name(entry), rows, space, ScoringContext())
        for key, scores in zip(
            plan.keys, draw.dirichlet(np.full(len(space), 0.3), len(rows)), strict=True
        ):
            named = dict(zip(space.names, scores.round(3).tolist(), strict=True))
            answer = {"scores": named, "prompt": plan.version}
            cache.put(key, answer, provider="compatible", model="cached", run="benchmark")
    cache.close()


def _space(run: Run) -> LabelSpace:
    return run.model(None).space


def predict_once(run_folder: Path, path: Path, out: Path, ray: int) -> dict:
    """Predict in this process; seconds of clock and processor, and the peak of its memory (MB)."""
    workspace = Workspace.at(run_folder.parent.parent)
    run = Run(RunFolder(run_folder))
    llm = [LLMConfig.model_validate(ASKED)]
    config = run.config.model_copy(update={"llm": llm})
    job = PredictJob(config, "benchmark", run.folder.model, Wishes(contributions=False), None)
    engine = RayEngine(workers=ray) if ray else local_engine
    before, started = time.process_time(), time.monotonic()
    outcome = run_job(job, path, out, Manner(workspace, engine, CHUNK, fresh=True, force=True))
    return {
        "rows": outcome.rows,
        "workers": ray,
        "seconds": time.monotonic() - started,
        "processor_s": time.process_time() - before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "llm_present": outcome.present["llm"],
    }


def in_a_process(run_folder: Path, path: Path, out: Path, ray: int = 0) -> dict:
    command = [sys.executable, "-m", "benchmarks.predict_scale", "--once"]
    arguments = [run_folder, path, out, ray]
    done = subprocess.run(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def slope(results: Sequence[dict]) -> float:
    """d log(processor time) / d log(rows): 1 where time is linear."""
    rows = np.log([result["rows"] for result in results])
    times = np.log([result["processor_s"] for result in results])
    return float(np.polyfit(rows, times, 1)[0])


def further_row_ms(results: Sequence[dict]) -> str:
    """Processor time a row of the largest file beside the next smaller one, its start left out."""
    if len(results) < 2:
        return ""
    before, last = results[-2:]
    more = last["processor_s"] - before["processor_s"]
    return f"{1000 * more / (last['rows'] - before['rows']):.2f}"


def largest_difference(left: Path, right: Path) -> float:
    """Over all probabilities; infinite where ids, order or labels differ."""
    a, b = (pd.read_parquet(path) for path in (left, right))
    if a["id"].tolist() != b["id"].tolist() or a["prediction"].tolist() != b["prediction"].tolist():
        return float("inf")
    numbers = [column for column in a.columns if column.startswith("p_")]
    return float((a[numbers] - b[numbers]).abs().to_numpy().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--ray", type=int, default=2, help="workers; 0 leaves Ray out")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="kept; else a temporary one")
    parser.add_argument("--once", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        run, path, out, ray = options.once
        print(json.dumps(predict_once(Path(run), Path(path), Path(out), int(ray))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        measure(options.folder or Path(temporary), options.rows, options.ray, options.repeats)


def measure(folder: Path, sizes: Sequence[int], ray: int, repeats: int) -> None:
    run_folder = trained(folder)
    everything, results = folder / "rows.csv", []
    write_rows(everything, max(sizes))
    fill_cache(Run(RunFolder(run_folder)), Workspace.at(folder / "ws"), everything)
    print("| rows | rows/s | processor s | ms a further row | peak MB |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    for n in sorted(sizes):
        path = folder / f"rows-{n}.csv"
        write_rows(path, n)
        runs = [in_a_process(run_folder, path, folder / f"out-{n}.parquet") for _ in range(repeats)]
        assert all(found["llm_present"] == n for found in runs)
        results.append(min(runs, key=lambda found: found["processor_s"]))
        seconds = statistics.median(found["seconds"] for found in runs)
        used = statistics.median(found["processor_s"] for found in runs)
        peak = max(found["peak_mb"] for found in runs)
        further = further_row_ms(results)
        print(f"| {n:,} | {n / seconds:,.0f} | {used:.1f} | {further} | {peak:.0f} |", flush=True)
    if len(sizes) > 1:
        print(f"\nSlope of log processor time over log rows: {slope(results):.3f}", flush=True)
    if ray:
        beside_ray(folder, run_folder, min(sizes), ray)


def beside_ray(folder: Path, run_folder: Path, n: int, workers: int) -> None:
    path, local, other = (folder / name for name in (f"rows-{n}.csv", "a.parquet", "b.parquet"))
    alone = in_a_process(run_folder, path, local)
    shared = in_a_process(run_folder, path, other, workers)
    ratio = alone["seconds"] / shared["seconds"]
    print(
        f"\nRay, {workers} workers, {n:,} rows: {shared['seconds']:.0f} s against "
        f"{alone['seconds']:.0f} s alone, {ratio:.2f} times as fast, the cluster's start included; "
        f"largest difference {largest_difference(local, other):.1e}"
    )


if __name__ == "__main__":
    main()
