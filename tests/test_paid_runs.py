"""Whole runs that pay a server: killed and resumed, and with a budget that runs out."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from labelfusion.config import RunConfig
from labelfusion.errors import MissingKeyError
from labelfusion.trial import try_texts
from labelfusion.workspace import Workspace
from tests.command_line import ENVIRONMENT, PRICES, asking_config, labelfusion, write_config
from tests.llm_server import running

IN_FLIGHT = 4
PATIENCE_S = 120


def start_and_kill(folder, server, paid):
    """Start a run and kill it once so many requests have been answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labelfusion", "train", "--config", "config.yaml"],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE_S
    while server.counts["paid"] < paid:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()


def test_a_killed_run_pays_only_for_what_was_in_flight_again(tmp_path):
    with running(latency=0.2) as (server, address):
        asking_config(tmp_path, address, texts_per_request=1, concurrency=IN_FLIGHT)
        start_and_kill(tmp_path, server, paid=15)
        assert server.counts["paid"] < 60
        shown = labelfusion("runs", "show", "last", "--json", cwd=tmp_path)
        assert json.loads(shown.stdout)["status"]["state"] == "interrupted"
        labelfusion("train", "--resume", "last", cwd=tmp_path)
    assert len(server.texts) == 60
    assert max(server.texts.values()) <= 2
    assert sum(server.texts.values()) <= 60 + IN_FLIGHT
    (run,) = (tmp_path / "labelfusion_workspace" / "runs").iterdir()
    assert pd.read_parquet(run / "signals" / "llm.parquet")["present"].all()
    (usage,) = [json.loads(line) for line in (run / "usage.jsonl").read_text().splitlines()]
    assert 60 <= usage["texts"] <= 60 + IN_FLIGHT


@pytest.fixture
def limited(tmp_path):
    """A server, and a folder whose config has money for some of its 60 requests."""
    with running() as (server, address):
        values = asking_config(tmp_path, address, texts_per_request=1, concurrency=2)
        budget = {"run_usd": 0.03, "when_spent": "continue"}
        values["costs"] = {"prices": PRICES, "budget": budget}
        write_config(tmp_path, values)
        yield server, tmp_path


def test_a_spent_budget_leaves_rows_missing(limited):
    server, folder = limited
    estimate = labelfusion("estimate", "--config", "config.yaml", cwd=folder)
    assert "missing" in estimate.stdout
    done = labelfusion("train", "--config", "config.yaml", cwd=folder)
    assert "limit was reached" in done.stderr
    (run,) = (folder / "labelfusion_workspace" / "runs").iterdir()
    present = pd.read_parquet(run / "signals" / "llm.parquet")["present"]
    assert 0 < present.sum() == server.counts["paid"] < 60
    costs = json.loads(labelfusion("costs", "--json", cwd=folder).stdout)
    assert 0 < costs["total"]["usd"] <= 0.03


def test_a_spent_budget_stops_a_run_that_goes_on_once_it_is_raised(limited):
    server, folder = limited
    stop = ["--set", "costs.budget.when_spent=stop"]
    stopped = labelfusion("train", "--config", "config.yaml", *stop, cwd=folder, check=1)
    assert "costs.budget.run_usd" in stopped.stderr
    paid = server.counts["paid"]
    assert 0 < paid < 60
    again = ["train", "--resume", "last"]
    refused = labelfusion(*again, "--set", "ml.folds=3", cwd=folder, check=2)
    assert "only its budget" in refused.stderr
    labelfusion(*again, "--set", "costs.budget.run_usd=1", cwd=folder)
    assert server.counts["paid"] == 60
    assert set(server.texts.values()) == {1}
    shown = json.loads(labelfusion("runs", "show", "last", "--json", cwd=folder).stdout)
    assert shown["status"]["state"] == "finished"
    assert 0.03 < shown["spent_usd"] < 1


def test_five_texts_are_tried_for_good(limited):
    server, folder = limited
    config = RunConfig.load(folder / "config.yaml")
    workspace = Workspace.at(folder / "ws")
    first, second = (try_texts(config, config.llm[0], workspace) for _ in range(2))
    assert server.counts["requests"] == 5
    assert list(first.rows.ids) == list(second.rows.ids)
    assert (first.signal.present.all(), second.signal.present.all()) == (True, True)
    assert [json.loads(reply.text)["items"][0]["scores"] for _, reply in first.exchanges]
    assert second.exchanges == []
    assert first.cost is not None
    assert second.cost is not None
    assert (first.cost.texts, second.cost.texts, second.cost.cached_texts) == (5, 0, 5)
    assert first.cost.usd > 0 == second.cost.usd


def test_a_trial_started_twice_at_once_is_paid_once(tmp_path):
    with running(latency=0.3) as (server, address):
        asking_config(tmp_path, address)
        config = RunConfig.load(tmp_path / "config.yaml")
        workspace = Workspace.at(tmp_path / "ws")
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda _: try_texts(config, config.llm[0], workspace), range(2)))
        assert set(server.texts.values()) == {1}
        assert server.counts["paid"] == 1
    assert all(trial.signal.present.all() for trial in made)


def test_trying_without_a_key_says_so(tmp_path):
    asking_config(tmp_path, "http://127.0.0.1:9", api_key_env="NOT_SET_ANYWHERE")
    config = RunConfig.load(tmp_path / "config.yaml")
    with pytest.raises(MissingKeyError, match="NOT_SET_ANYWHERE"):
        try_texts(config, config.llm[0], Workspace.at(tmp_path / "ws"))
    assert not (tmp_path / "ws").exists()
