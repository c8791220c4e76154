"""Fixtures shared by tests: the app in a real browser, fine-tuning, studies, a Redis server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from labelfusion.config import MLConfig, RunConfig
from labelfusion.encoders import make_encoder
from labelfusion.encoders.finetuned import FineTunedEncoder
from labelfusion.workspace import Workspace
from scripts.screenshots import ARGUMENTS, CHROMIUM, ROOT, served_app
from tests.answer_cache import redis_server
from tests.browser import DRAW_MS
from tests.fine_tuning import SPACE
from tests.run_data import small_config
from tests.tiny_transformer import write_tiny_transformer


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[str]:
    """The address of a served app with an empty workspace."""
    with served_app(tmp_path_factory.mktemp("workspace")) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """A Chromium; skips where Playwright is not installed."""
    playwright_api = pytest.importorskip("playwright.sync_api")
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A fresh page, 1440 pixels wide."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(DRAW_MS)
    yield page
    page.close()


@pytest.fixture(scope="module")
def small_csv(tmp_path_factory) -> Path:
    """The sample tickets of two labels, as a file to upload."""
    path = tmp_path_factory.mktemp("upload") / "desk.csv"
    tickets = pd.read_csv(ROOT / "sample_data" / "tickets.csv")
    tickets[tickets["label"].isin(["billing", "delivery"])].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Small matrices are no faster on several threads, and sums come out alike on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder with a transformer of a few kilobytes."""
    return write_tiny_transformer(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def without_dropout(tiny, tmp_path) -> Path:
    """The tiny model, with nothing random in its passes."""
    folder = shutil.copytree(tiny, tmp_path / "without_dropout")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def tiny_encoder(tiny):
    """Makes an encoder of the tiny model; keywords are settings of its training."""

    def make(
        cache_dir: Path | None = None,
        space=SPACE,
        seed=0,
        folder=tiny,
        batch_size=4,
        joint=False,
        **training,
    ) -> FineTunedEncoder:
        ml = {"encoder": str(folder), "fine_tune": True, "joint": joint, "c": 1.0}
        training = {"learning_rate": 1e-3, "epochs": 3} | training
        config = MLConfig.model_validate(ml | {"batch_size": batch_size, "training": training})
        made = make_encoder(config, space, seed=seed, cache_dir=cache_dir)
        assert isinstance(made, FineTunedEncoder)
        return made

    return make


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory) -> Iterator[str]:
    """The address of a real Redis server; skips where none is installed."""
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


# What the tests of studies share; a module with fixtures of these names has its own.
@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of the test module, for what is written and read again."""
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def workspace(folder) -> Workspace:
    return Workspace.at(folder / "ws")


@pytest.fixture(scope="module")
def config(folder) -> RunConfig:
    """A run of 120 tickets, whose files are in the folder."""
    return small_config(folder)
