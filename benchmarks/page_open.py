"""Time to open each page with a stored run, beside an empty Streamlit page plus its data.

python -m benchmarks.page_open [--repeats 15]

Each opening is a new session in a browser that has the scripts of both apps in its cache: from the
request until the heading is painted, and until the page's script has ended and all is drawn. The
pages take turns, so that a busy machine slows all of them. The data of a page are read once more in
a fresh process that has pandas loaded: what any reader of the files would pay. A ratio is a page's
time over the empty page's time of the same kind plus that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labelfusion import jobs
from labelfusion.config import RunConfig
from labelfusion.datasets import DatasetStore
from labelfusion.workspace import Workspace
from scripts.screenshots import ARGUMENTS, CHROMIUM, served_app

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

EMPTY = """import streamlit as st
st.set_page_config(page_title="Empty", layout="wide")
st.title("Empty")
"""
PAGES = (
    "",
    "data",
    "train",
    "jobs",
    "results",
    "calibration",
    "cost",
    "errors",
    "classify",
    "label",
)
# The script has ended, and no figure is still a grey place.
DRAWN = """() => document.querySelector(
    '[data-testid="stApp"][data-test-script-state="notRunning"]')
    && !document.querySelector('[data-testid="stSkeleton"]')"""
WAIT_MS = 120_000
# Reads what a page shows, and prints the seconds that took.
READ = """
import sys, time
import pandas as pd
from labelfusion.data import load_dataset
from labelfusion.runs import ResultsManager
from labelfusion.workspace import Workspace
manager = ResultsManager(Workspace.at(sys.argv[1]))
begun = time.perf_counter()
manager.list()
run = manager.open(sys.argv[2])
if sys.argv[3] not in ("", "jobs"):
    run.metrics
if sys.argv[3] in ("results", "errors", "calibration"):
    run.predictions
if sys.argv[3] == "errors":
    run.signals, run.splits
if sys.argv[3] in ("errors", "data", "train", "label", "classify"):
    load_dataset(run.config.data)
print(time.perf_counter() - begun)
"""


def main() -> None:
    """Print one Markdown row a page."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = stored_run(Workspace.at(folder))
        script = Path(folder) / "empty.py"
        script.write_text(EMPTY, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        with served_app(Path(folder)) as app, served_app(Path(folder), script) as empty:
            pages = {name: f"{app}/{name}?run={run}&dataset=tickets&who=ana" for name in PAGES}
            times = measured(browser.new_context(), {"empty": empty} | pages, repeats)
        browser.close()
        data = {name: reading(folder, run, name, repeats) for name in PAGES}
    report(times, data)


def stored_run(workspace: Workspace) -> str:
    """A finished run on the sample tickets."""
    stored = DatasetStore(workspace).add_sample("tickets")
    values = {"data": stored.config, "llm": [stored.scores_config()], "encoder": "tfidf"}
    values["fusion"] = {"method": "log_pool"}
    run = jobs.start(workspace, RunConfig.from_dict(values), name="tickets")
    jobs.wait(workspace, run, timeout_s=600)
    return run


def measured(
    context: BrowserContext, addresses: dict[str, str], repeats: int
) -> dict[str, np.ndarray]:
    """(repeats, 2) seconds until heading and end; the first, with cold caches, is not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in addresses}
    for _ in range(repeats + 1):
        for name, address in addresses.items():
            found[name].append(opening(context, address))
    return {name: np.array(seconds[1:]) for name, seconds in found.items()}


def opening(context: BrowserContext, address: str) -> tuple[float, float]:
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector("h1", timeout=WAIT_MS)
    painted = time.perf_counter() - begun
    page.wait_for_function(DRAWN, timeout=WAIT_MS)
    ended = time.perf_counter() - begun
    page.close()
    return painted, ended


def reading(folder: str, run: str, page: str, repeats: int) -> np.ndarray:
    """Seconds to read a page's files, each time in a process of its own."""
    command = [sys.executable, "-c", READ, folder, run, page]
    tries = range(max(3, repeats // 3))
    return np.array([float(subprocess.check_output(command, text=True)) for _ in tries])


def report(times: dict[str, np.ndarray], data: dict[str, np.ndarray]) -> None:
    empty = times.pop("empty")
    print("| page | its data, s | heading, s | ratio (95 % interval) | all, s | ratio |")
    print("|---|---|---|---|---|---|")
    print(f"| (empty) | | {np.median(empty[:, 0]):.2f} | | {np.median(empty[:, 1]):.2f} | |")
    for name, seconds in times.items():
        cells = [name or "overview", f"{np.median(data[name]):.2f}"]
        for kind in (0, 1):
            cells += [f"{np.median(seconds[:, kind]):.2f}"]
            cells += [ratio(seconds[:, kind], empty[:, kind], data[name])]
        print(f"| {' | '.join(cells)} |", flush=True)


def ratio(seconds: np.ndarray, empty: np.ndarray, data: np.ndarray) -> str:
    """The ratio of medians and its interval."""
    middle = np.median(seconds) / (np.median(empty) + np.median(data))
    low, high = interval(seconds, empty, data)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def interval(seconds: np.ndarray, empty: np.ndarray, data: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of the ratio of medians; rounds stay together, as they were measured."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        rounds = rng.integers(0, len(seconds), len(seconds))
        read = np.median(rng.choice(data, len(data)))
        draws.append(np.median(seconds[rounds]) / (np.median(empty[rounds]) + read))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
