"""Pictures of every page on the sample data, made by a real browser.

Usage: python -m scripts.screenshots [--out docs/images]                the README's pictures
       python -m scripts.screenshots --every-look --out FOLDER          every page in every look

Trains the samples in a temporary workspace, serves the app and takes the pictures. Needs
Playwright and a Chromium (named by CHROMIUM, else /usr/bin/chromium).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from labelfusion import jobs
from labelfusion.config import RunConfig
from labelfusion.datasets import DatasetStore
from labelfusion.workspace import WORKSPACE_VARIABLE, Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

ROOT = Path(__file__).parent.parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
# A name for each picture, and the page and tab it shows.
VIEWS = {
    "overview": ("", None),
    "data": ("data", None),
    "data-columns": ("data", "Columns"),
    "data-labels": ("data", "Labels"),
    "data-findings": ("data", "Findings"),
    "data-test-split": ("data", "Test split"),
    "data-scores": ("data", "LLM scores"),
    "train": ("train", None),
    "train-llm": ("train", None),
    "jobs": ("jobs", None),
    "results": ("results", None),
    "results-labels": ("results", "Labels"),
    "results-confusion": ("results", "Confusion"),
    "results-curves": ("results", "Curves"),
    "results-thresholds": ("results", "Thresholds"),
    "results-choice": ("results", "Why this fusion"),
    "results-compare": ("results", "Compare runs"),
    "classify": ("classify", None),
    "classify-text": ("classify", None),
    "classify-file": ("classify", "A file"),
    "results-export": ("results", "Export"),
    "label": ("label", None),
    "label-queue": ("label", None),
    "label-suggestions": ("label", "Suggestions"),
    "label-many": ("label", "Confirm many"),
    "label-so-far": ("label", "Labels so far"),
    "label-train": ("label", "Train again"),
    "calibration": ("calibration", None),
    "calibration-labels": ("calibration", "Every label"),
    "calibration-metrics": ("calibration", "Metrics"),
    "cost": ("cost", None),
    "cost-ledger": ("cost", "Ledger"),
    "errors": ("errors", None),
    "errors-slices": ("errors", "Slices"),
    "errors-labels": ("errors", "Suspected labels"),
    "errors-corrections": ("errors", "Corrections"),
}
# Views of another data set than the tickets.
DATASETS = {"label-queue": "half", "label-many": "half", "label-train": "half"}
TICKET = "You took 19.90 twice this month, and the belt I sent back is still not refunded."
# What the README shows.
README_VIEWS = ("results", "results-confusion", "errors-labels", "cost")
WIDTHS = {"wide": 1440, "narrow": 800}
START_SECONDS = 60
TRAIN_SECONDS = 600
SETTLE_MS = 1200


def start_app(
    workspace: Path, script: str | Path = "app.py"
) -> tuple[subprocess.Popen[bytes], str]:
    """Serve a script on a free port; the process and its address. Ending it is the caller's."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    command += ["--server.port", str(port)]
    environment = os.environ | {WORKSPACE_VARIABLE: str(workspace)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server)
    except BaseException:
        server.kill()
        server.wait()
        raise
    return server, f"http://127.0.0.1:{port}"


@contextmanager
def served_app(workspace: Path, script: str | Path = "app.py") -> Iterator[str]:
    """Serve the app on a free port while the block runs; gives its address."""
    server, url = start_app(workspace, script)
    try:
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(url):
                return
        except URLError:
            time.sleep(0.2)
    raise TimeoutError(f"the app did not answer at {url}")


def train_samples(workspace: Workspace) -> str:
    """Train on both samples, and the tickets once more with TF-IDF; returns the first run's id."""
    store, runs = DatasetStore(workspace), []
    for name, encoder in (("tickets", "minilm"), ("tickets", "tfidf"), ("reviews", "minilm")):
        stored = store.add_sample(name)
        scores = stored.scores_config()
        values = {"data": stored.config, "llm": [scores], "encoder": encoder}
        config = RunConfig.from_dict(values)
        runs.append(jobs.start(workspace, config, name=name))
    add_half_labelled(store)
    for run_id in runs:
        jobs.wait(workspace, run_id, timeout_s=TRAIN_SECONDS)
    return runs[0]


def add_half_labelled(store: DatasetStore) -> None:
    """The tickets as `half`, every other one without its label: something to be labelled."""
    import pandas as pd

    tickets = pd.read_csv(ROOT / "sample_data" / "tickets.csv", dtype=str)
    tickets.loc[1::2, "label"] = ""
    stored = store.add("half.csv", tickets.to_csv(index=False).encode(), {})
    store.configure(stored, stored.config)


def take_all(
    browser: Browser,
    url: str,
    run: str,
    out: Path,
    views: Iterable[str],
    looks: list[tuple[str, str]],
) -> None:
    """The named views in every look (colour scheme, width). Each is opened once, as people do."""
    for name in views:
        page = browser.new_page(color_scheme=looks[0][0], viewport=size(looks[0][1]))
        page.set_default_timeout(1000 * START_SECONDS)
        path, tab = VIEWS[name]
        dataset = DATASETS.get(name, "tickets")
        address = f"{url}/{path}?run={run}&dataset={dataset}&who=ana"
        page.goto(address + (f"&tab={tab}" if tab else ""))
        settle(page)
        if name in STEPS:
            STEPS[name](page)
        for scheme, width in looks:
            suffix = "" if len(looks) == 1 else f"-{scheme}-{width}"
            page.emulate_media(color_scheme=scheme)
            take(page, out / f"{name}{suffix}.png", width)
        page.close()


def size(width: str, height: int = 900) -> ViewportSize:
    return {"width": WIDTHS[width], "height": height}


def settle(page: Page) -> None:
    """Wait until the page has been drawn to its end."""
    page.wait_for_selector("h1")
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    # In place of a figure until what draws it has been loaded.
    page.wait_for_selector('[data-testid="stSkeleton"]', state="detached")


def classify(page: Page) -> None:
    page.get_by_label("Text", exact=True).fill(TICKET)
    page.get_by_role("button", name="Classify").click()
    page.get_by_role("heading", name="Sources").wait_for()
    settle(page)


def ask_an_llm(page: Page) -> None:
    """An LLM with a budget below what it will cost."""
    page.get_by_role("button", name="Add an LLM to ask").click()
    limit = page.get_by_label("Limit a run, $", exact=True)
    limit.fill("0.01")
    limit.press("Tab")
    page.wait_for_timeout(SETTLE_MS)
    settle(page)


def take(page: Page, path: Path, width: str) -> None:
    """One picture of a whole page that has been drawn."""
    main = page.locator('[data-testid="stMainBlockContainer"]')
    page.set_viewport_size(size(width))
    # Twice: a figure that comes into view is drawn, and may be higher than its place was.
    for _ in range(2):
        page.wait_for_timeout(SETTLE_MS)
        height = int(main.evaluate("element => element.scrollHeight"))
        page.set_viewport_size(size(width, max(900, height)))
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=path)


# What is done on a page before its picture is taken.
STEPS = {"classify-text": classify, "train-llm": ask_an_llm}


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument(
        "--every-look", action="store_true", help="every page: light and dark, wide and narrow"
    )
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    views, looks = README_VIEWS, [("light", "wide")]
    if chosen.every_look:
        views = tuple(VIEWS)
        looks = [(scheme, width) for scheme in ("light", "dark") for width in WIDTHS]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = train_samples(Workspace.at(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        with served_app(Path(folder)) as url:
            take_all(browser, url, run, chosen.out, views, looks)
        browser.close()


if __name__ == "__main__":
    main()
