"""Pictures of every page, light and dark, wide and narrow, from a running app.

Usage: python scripts/screenshots.py URL [--out docs/images] [--query "run=…&dataset=…"]
Needs Playwright and a Chromium (named by CHROMIUM, else /usr/bin/chromium).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = ("overview", "data", "train", "jobs", "results")
TABS = {
    "data": ("Preview", "Columns", "Labels", "Findings", "Test split", "LLM scores"),
    "results": ("Summary", "Labels", "Confusion", "Why this fusion", "Compare runs", "Export"),
}
WIDTHS = {"wide": 1440, "narrow": 800}
SETTLE_MS = 1200


def addresses(url: str, query: str, pages: list[str]) -> dict[str, str]:
    """A name for each picture and the address it is taken of."""
    found = {}
    for page in pages:
        base = f"{url}/{'' if page == 'overview' else page}?{query}"
        found[page] = base
        for tab in TABS.get(page, ())[1:]:
            found[f"{page}-{tab.lower().replace(' ', '-')}"] = f"{base}&tab={tab}"
    return found


def take(browser: Browser, address: str, path: Path, *, width: int, scheme: str) -> None:
    """One full picture of a page that has finished drawing."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_selector("h1")
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_timeout(SETTLE_MS)
    main = page.locator('[data-testid="stMainBlockContainer"]')
    height = int(main.evaluate("element => element.scrollHeight")) + 20
    page.set_viewport_size({"width": width, "height": max(900, height)})
    page.wait_for_timeout(SETTLE_MS // 2)
    page.screenshot(path=path)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--query", default="")
    parser.add_argument("--pages", nargs="+", default=list(PAGES))
    parser.add_argument("--schemes", nargs="+", default=["light", "dark"])
    parser.add_argument("--widths", nargs="+", default=list(WIDTHS))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name, address in addresses(chosen.url, chosen.query, chosen.pages).items():
            for scheme in chosen.schemes:
                for width in chosen.widths:
                    path = chosen.out / f"{name}-{scheme}-{width}.png"
                    take(browser, address, path, width=WIDTHS[width], scheme=scheme)
        browser.close()


if __name__ == "__main__":
    main()
