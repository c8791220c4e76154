import json
from decimal import Decimal

import pytest

from labelfusion.config import BudgetConfig, CostConfig, PriceConfig, RunConfig
from labelfusion.costing import judge
from labelfusion.costs import check_price, estimate
from labelfusion.errors import ConfigError
from labelfusion.pipeline import check
from tests.command_line import PRICES, asking_config, labelfusion, write_config
from tests.llm_server import running
from tests.test_estimate import PLAN

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("left", "verdict"),
    [(None, "no budget"), (10, "fits"), (1, "may run out"), (0.01, "runs out")],
)
def test_what_a_budget_will_do(left, verdict):
    left = None if left is None else Decimal(str(left))
    found = judge(estimate([PLAN], left), left, BudgetConfig())
    assert (found.verdict, found.left) == (verdict, left)


def test_what_happens_when_it_runs_out_is_said():
    said = [
        judge(estimate([PLAN]), Decimal("0.01"), BudgetConfig(when_spent=way)).sentence
        for way in ("continue", "stop")
    ]
    assert "missing" in said[0]
    assert "resumed" in said[1]


def test_the_command_sends_nothing_and_takes_off_what_is_cached(tmp_path):
    with running() as (server, address):
        values = asking_config(tmp_path, address, api_key_env="NOT_SET_ANYWHERE")
        write_config(tmp_path, values | {"costs": {"prices": PRICES}})
        command = ["estimate", "--config", "config.yaml", "--json"]
        before = json.loads(labelfusion(*command, cwd=tmp_path).stdout)
        assert server.counts["requests"] == 0
        override = ["--set", "llm.0.api_key_env=TEST_SERVER_KEY"]
        labelfusion("train", "--config", "config.yaml", *override, cwd=tmp_path)
        after = json.loads(labelfusion(*command, cwd=tmp_path).stdout)
        paid = json.loads(labelfusion("costs", "--json", cwd=tmp_path).stdout)["total"]
    (source,) = before["estimate"]["sources"]
    assert source["texts"] == before["rows"] == 60
    assert before["estimate"]["expected"]["usd"] == pytest.approx(paid["usd"], rel=0.15)
    assert before["estimate"]["at_most"]["usd"] > paid["usd"]
    assert after["estimate"]["expected"]["requests"] == 0
    assert after["estimate"]["sources"][0]["cached_texts"] == 60


def test_an_unknown_price_is_said_and_refused_under_a_budget_before_training(tmp_path):
    asking_config(tmp_path, NOWHERE)
    command = ["estimate", "--config", "config.yaml"]
    told = labelfusion(*command, cwd=tmp_path).stdout
    assert "unknown price" in told
    assert "No budget is set" in told
    limited = [*command, "--set", "costs.budget.run_usd=1"]
    assert "the run will not start" in labelfusion(*limited, cwd=tmp_path).stdout
    train = ["train", "--config", "config.yaml", "--set", "costs.budget.run_usd=1"]
    refused = labelfusion(*train, cwd=tmp_path, check=2)
    assert "costs.prices.m" in refused.stderr
    assert not (tmp_path / "labelfusion_workspace" / "runs").exists()


def test_people_read_a_table(tmp_path):
    values = asking_config(tmp_path, NOWHERE)
    second = values["llm"][0] | {"name": "second", "model": "other"}
    recorded = {"provider": "recorded", "name": "old", "path": "tickets.csv"}
    write_config(tmp_path, values | {"llm": [*values["llm"], second, recorded]})
    told = labelfusion(
        "estimate", "--config", "config.yaml", "--set", f"costs.prices={json.dumps(PRICES)}",
        cwd=tmp_path,
    ).stdout  # fmt: skip
    assert "old: costs nothing" in told
    assert "60 of 60 texts to ask about" in told
    assert "In all" in told
    assert "estimated from characters" in told


def test_examples_can_be_checked_and_estimated(tmp_path):
    asking_config(tmp_path, NOWHERE, prompt={"examples": {"strategy": "stratified"}})
    check(RunConfig.load(tmp_path / "config.yaml"))
    plain = ["estimate", "--config", "config.yaml", "--json"]
    bare = [*plain, "--set", "llm.0.prompt.examples.strategy=none"]
    tokens = [
        json.loads(labelfusion(*c, cwd=tmp_path).stdout)["estimate"]["expected"]["input_tokens"]
        for c in (plain, bare)
    ]
    assert tokens[0] > tokens[1]


def test_data_that_is_not_there_is_exit_code_2(tmp_path):
    asking_config(tmp_path, NOWHERE)
    (tmp_path / "tickets.csv").unlink()
    done = labelfusion("estimate", "--config", "config.yaml", cwd=tmp_path, check=2)
    assert "tickets.csv" in done.stderr


def test_a_price_of_nothing_is_not_an_unknown_one():
    limited = BudgetConfig(month_usd=1)
    free = PriceConfig(input_per_million=0, output_per_million=0)
    check_price(CostConfig(budget=limited, prices={"m": free}), "compatible", "m", None)
    with pytest.raises(ConfigError, match="unknown"):
        check_price(CostConfig(budget=limited), "compatible", "m", None)
