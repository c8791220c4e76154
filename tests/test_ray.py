"""The Ray engine on a cluster of two workers: the same results, one budget, one shared cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelfusion.config import RunConfig
from labelfusion.errors import ConfigError, LimitError
from labelfusion.runs import ResultsManager, create_run
from labelfusion.scale import Manner, predict, score
from labelfusion.scale.ray_engine import RayEngine, check_cache
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.command_line import PRICES, SECRET, asking_config
from tests.llm_server import running
from tests.ray_cluster import MARKS, small_cluster
from tests.run_data import SAMPLE, small_config

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = MARKS
ENGINE = RayEngine(workers=2)
KEY = "TEST_SERVER_KEY"


@pytest.fixture(scope="module")
def cluster():
    """A cluster that all tests of this module share; its workers know the key, as users' would."""
    with small_cluster(**{KEY: SECRET}):
        yield


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_ray_says_what_this_process_says(cluster, made, tmp_path, suffix):
    run, workspace, path = made
    alone, shared = tmp_path / f"alone{suffix}", tmp_path / f"shared{suffix}"
    here = predict(run, path, alone, manner=Manner(workspace, chunk_rows=20))
    there = predict(run, path.as_uri(), shared.as_uri(), manner=Manner(workspace, ENGINE, 20))
    a, b = (read(path) for path in (alone, shared))
    assert a["id"].tolist() == b["id"].tolist()
    assert a["prediction"].tolist() == b["prediction"].tolist()
    numbers = [column for column in a if column.startswith("p_")]
    np.testing.assert_allclose(a[numbers], b[numbers], atol=1e-5)
    assert here.outcome.present == there.outcome.present
    assert here.drift == there.drift


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    workspace = Workspace.at(folder / "ws")
    run = create_run(workspace, small_config(folder, fusion={"method": "class_pool"}))
    work(run, workspace)
    path = folder / "in.parquet"
    pd.read_csv(SAMPLE / "tickets.csv").head(90).drop(columns="label").to_parquet(path)
    return ResultsManager(workspace).open(run.id), workspace, path


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def test_one_budget_one_rate_and_one_cache_for_all_workers(cluster, redis_url, tmp_path):
    with running(latency=0.05) as (server, address):
        values = asking_config(tmp_path, address, n=60, api_key_env=KEY)
        values["data"]["path"] = str(tmp_path / "tickets.csv")
        values |= {"cache": {"backend": "redis", "url": redis_url}}
        values |= {"costs": {"prices": PRICES, "budget": {"run_usd": 0.02, "when_spent": "stop"}}}
        config = RunConfig.from_dict(values)
        workspace, out = Workspace.at(tmp_path / "ws"), tmp_path / "scores.csv"
        manner = Manner(workspace, ENGINE, chunk_rows=10)
        with pytest.raises(LimitError, match="run budget"):
            score(config, tmp_path / "tickets.csv", out, manner)
        assert spent(workspace) <= 0.02
        config.costs.budget.run_usd = None
        found = score(config, tmp_path / "tickets.csv", out, manner)
        assert found.outcome.present == {"llm": 60}
        # Every text was paid once, over both workers and both attempts.
        assert found.cost.texts == 60
        paid = server.counts["paid"]
        other = Workspace.at(tmp_path / "another machine")
        score(config, tmp_path / "tickets.csv", tmp_path / "again.csv", Manner(other))
        assert server.counts["paid"] == paid
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    kept = [path for path in logs.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


def spent(workspace: Workspace) -> float:
    from labelfusion.costs.ledger import LEDGER_NAME, Ledger

    ledger = Ledger(workspace.root / LEDGER_NAME)
    return sum(float(row["usd"] or 0) for row in ledger.rows())


def test_a_disk_cache_is_refused_where_machines_are_several(tmp_path):
    config = RunConfig.from_dict(asking_config(tmp_path, "http://127.0.0.1:9"))
    check_cache(config, 1)
    with pytest.raises(ConfigError, match="redis"):
        check_cache(config, 2)
