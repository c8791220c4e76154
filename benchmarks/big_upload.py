"""A file of 100,000 texts on the Data page: seconds until it is profiled and mapped, and memory.

python -m benchmarks.big_upload [--rows 100000]

The rows are sample tickets with a number added, so that every text is another. A real browser
uploads them, confirms the guessed layout, and opens the findings, the labels and the test split.
Memory is the most that the app's process ever had (VmHWM, Linux).
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import psutil

from scripts.screenshots import ARGUMENTS, CHROMIUM, ROOT, start_app

if TYPE_CHECKING:
    from playwright.sync_api import Page

WAIT_MS = 120_000
# The tabs that profile and map, and what says that each is there. On the first the layout is saved.
TABS = {
    "Columns": "Save the layout",
    "Findings": re.compile("Nothing was found to mend|(Error|Warning|Note)\\."),
    "Labels": "Save the descriptions",
    "Test split": "texts for training",
}


def main() -> None:
    """Print one Markdown row a step, the sum, and the memory."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = write_rows(Path(folder) / "desk.csv", rows)
        print(f"{rows:,} rows, {file.stat().st_size / 2**20:.0f} MiB\n", flush=True)
        server, url = start_app(Path(folder) / "workspace")
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(WAIT_MS)
            took = steps(page, url, file)
            browser.close()
            report(took, peak_mib(server.pid), processor_seconds(server.pid))
        finally:
            server.kill()
            server.wait()


def write_rows(path: Path, rows: int) -> Path:
    tickets = pd.read_csv(ROOT / "sample_data" / "tickets.csv", dtype=str)
    table = pd.concat([tickets] * -(-rows // len(tickets)), ignore_index=True).head(rows)
    table["id"] = [f"R{i:06}" for i in range(rows)]
    table["text"] = [f"{text} (case {i})" for i, text in enumerate(table["text"])]
    table.to_csv(path, index=False)
    return path


def steps(page: Page, url: str, file: Path) -> dict[str, float]:
    """Seconds of each step, until the page has been drawn to its end."""
    took = {}
    page.goto(f"{url}/data")
    drawn(page)
    begun = time.perf_counter()
    page.locator('input[type="file"]').first.set_input_files(str(file))
    page.get_by_text("encoding: utf-8").wait_for()
    drawn(page)
    took["uploaded, read, layout guessed, previewed"] = time.perf_counter() - begun
    for tab, sign in TABS.items():
        begun = time.perf_counter()
        page.get_by_role("tab", name=tab, exact=True).click()
        page.get_by_text(sign).first.wait_for()
        drawn(page)
        if tab == "Columns":
            page.get_by_role("button", name=sign).click()
            page.get_by_text("Layout saved.").wait_for()
            drawn(page)
        took[tab] = time.perf_counter() - begun
    return took


def drawn(page: Page) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def processor_seconds(pid: int) -> float:
    """What the app's process has computed since it began, imports included."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def report(took: dict[str, float], peak: float, computed: float) -> None:
    print("| step | seconds |\n|---|---|")
    for name, seconds in took.items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"| together | {sum(took.values()):.1f} |\n")
    print(f"app's process: most memory {peak:,.0f} MiB, {computed:.1f} processor seconds")


if __name__ == "__main__":
    main()
