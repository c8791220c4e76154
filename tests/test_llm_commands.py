"""The commands about LLMs, as users run them, against a server over HTTP."""

import csv
import json

import pytest

from tests.command_line import PRICES, SECRET, asking_config, labelfusion, write_config
from tests.llm_server import running

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A folder whose workspace has one run over 60 tickets that asked a server with a key."""
    folder = tmp_path_factory.mktemp("used")
    with running(key=SECRET) as (_, address):
        values = asking_config(folder, address, api_key_env="TEST_SERVER_KEY")
        write_config(folder, values | {"costs": {"prices": PRICES}})
        labelfusion("train", "--config", "config.yaml", cwd=folder)
    return folder


def ask_json(*arguments, cwd):
    return json.loads(labelfusion(*arguments, "--json", cwd=cwd).stdout)


def test_costs_are_told_by_run_and_by_model(used):
    by_run = ask_json("costs", cwd=used)
    by_model = ask_json("costs", "--by", "model", cwd=used)
    assert [line["group"] for line in by_model["lines"]] == ["m"]
    assert by_run["total"] == by_model["total"]
    assert by_run["total"]["texts"] == 60
    assert by_run["total"]["usd"] > 0
    (run,) = by_run["lines"]
    assert ask_json("costs", "--run", run["group"], cwd=used)["total"]["usd"] == run["usd"]
    assert "$" in labelfusion("costs", "--by", "day", cwd=used).stdout


def test_every_request_goes_into_a_csv_that_is_not_replaced_by_accident(used):
    labelfusion("costs", "--csv", "costs.csv", "--force", cwd=used)
    rows = list(csv.DictReader((used / "costs.csv").read_text().splitlines()))
    assert sum(int(row["texts"]) for row in rows) == 60
    labelfusion("costs", "--csv", "costs.csv", cwd=used, check=2)


def test_costs_of_an_unknown_run_or_group_or_workspace(used, tmp_path):
    assert "no requests" in labelfusion("costs", "--run", "nonsense", cwd=used, check=2).stderr
    labelfusion("costs", "--by", "colour", cwd=used, check=2)
    assert "No LLM request" in labelfusion("costs", cwd=tmp_path).stdout
    assert ask_json("costs", cwd=tmp_path)["lines"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_exported_cleared_and_imported(used, tmp_path):
    exported = tmp_path / "answers.jsonl"
    labelfusion("cache", "export", exported, cwd=used)
    labelfusion("cache", "export", exported, cwd=used, check=2)
    assert SECRET not in exported.read_text()
    assert len(exported.read_text().splitlines()) == 60
    assert ask_json("cache", "stats", cwd=tmp_path)["entries"] == 0
    labelfusion("cache", "import", exported, cwd=tmp_path)
    found = ask_json("cache", "stats", cwd=tmp_path)
    assert (found["entries"], found["models"]) == (60, {"m": 60})
    assert "60 answers" in labelfusion("cache", "stats", cwd=tmp_path).stdout


def test_answers_are_cleared_by_model_run_and_age_and_only_when_sure(used, tmp_path):
    labelfusion("cache", "export", tmp_path / "answers.jsonl", cwd=used)
    labelfusion("cache", "import", "answers.jsonl", cwd=tmp_path)

    def left(*conditions):
        labelfusion("cache", "clear", *conditions, "--yes", cwd=tmp_path)
        return ask_json("cache", "stats", cwd=tmp_path)["entries"]

    assert "--yes" in labelfusion("cache", "clear", cwd=tmp_path, check=2).stderr
    assert left("--model", "other") == left("--run", "other") == left("--older-than", "30d") == 60
    assert left() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cache", "clear", "--older-than", "soon"], "30d"),
        (["cache", "import", "absent.jsonl"], "absent.jsonl"),
        (["cache", "import", "broken.jsonl"], "line 1"),
        (["cache", "stats", "--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_what_the_cache_commands_cannot_use(tmp_path, arguments, said):
    (tmp_path / "broken.jsonl").write_text("no json\n")
    assert said in labelfusion(*arguments, cwd=tmp_path, check=2).stderr
