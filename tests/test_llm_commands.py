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


def test_the_scores_of_a_file_can_be_used_as_recorded_scores(used, tmp_path):
    with running() as (server, address):
        values = asking_config(tmp_path, address, n=40)
        command = ["score", "--config", "config.yaml", "tickets.csv", "--out", "scores.csv"]
        told = ask_json(*command, cwd=tmp_path)
        requests = server.counts["requests"]
        labelfusion(*command, cwd=tmp_path, check=2)
        again = labelfusion(*command, "--force", cwd=tmp_path)
        assert server.counts["requests"] == requests == told["cost"]["requests"]
    assert "40 texts from the cache" in again.stdout
    assert told["sources"]["llm"]["present"] == told["rows"] == 40
    columns = (tmp_path / "scores.csv").read_text().splitlines()[0].split(",")
    assert columns[:2] == ["id", "text"]
    assert columns[-1] == "llm_present"
    recorded = {"provider": "recorded", "path": "scores.csv"}
    write_config(tmp_path, values | {"llm": [recorded]})
    run = ask_json("train", "--config", "config.yaml", cwd=tmp_path)
    shown = ask_json("runs", "show", run["run"], cwd=tmp_path)
    assert shown["metrics"]["systems"]["llm"]["coverage"] == 1
    assert shown["spent_usd"] == 0


def test_rows_the_llm_did_not_score_are_empty_in_the_file(tmp_path):
    with running(shares={"refusal": 1.0}, queue=[""]) as (_, address):
        asking_config(tmp_path, address, n=16, texts_per_request=8, concurrency=1)
        command = ["score", "--config", "config.yaml", "tickets.csv", "--out", "scores.csv"]
        labelfusion(*command, cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [row["llm_present"] for row in rows].count("True") == 8
    assert all((row["llm_billing"] == "") == (row["llm_present"] == "False") for row in rows)


BAD_SCORES = {
    "missing key": ({"api_key_env": "NOT_SET_ANYWHERE"}, [], 2, "NOT_SET_ANYWHERE"),
    "unreachable": ({}, [], 1, "connection attempts failed"),
    "unknown price": ({}, ["--set", "costs.budget.run_usd=1"], 2, "costs.prices.m"),
    "no llm": ({}, ["--set", "llm=[]"], 2, "no LLM"),
}


@pytest.mark.parametrize(("llm", "extra", "code", "said"), BAD_SCORES.values(), ids=BAD_SCORES)
def test_what_cannot_be_scored_is_said_and_nothing_is_written(tmp_path, llm, extra, code, said):
    asking_config(tmp_path, NOWHERE, n=40, **llm)
    command = ["score", "--config", "config.yaml", "tickets.csv", "--out", "scores.csv", *extra]
    assert said in labelfusion(*command, cwd=tmp_path, check=code).stderr
    assert not (tmp_path / "scores.csv").exists()


def test_a_refused_key_is_not_repeated(tmp_path):
    wrong = "sk-wrong-0123456789abcdef"
    with running(key=SECRET) as (_, address):
        asking_config(tmp_path, address, n=40, api_key_env="WRONG_KEY")
        command = ["score", "--config", "config.yaml", "tickets.csv", "--out", "scores.csv"]
        done = labelfusion(*command, cwd=tmp_path, check=1, env={"WRONG_KEY": wrong})
    assert "Incorrect API key" in done.stderr
    assert wrong not in done.stderr + done.stdout


def test_the_prompt_shown_is_the_prompt_sent(tmp_path):
    with running() as (server, address):
        asking_config(tmp_path, address, n=40)
        show = ["prompt", "show", "--config", "config.yaml", "--row"]
        shown = ask_json(*show, 3, cwd=tmp_path)
        assert server.counts["requests"] == 0
        labelfusion(
            *("score", "--config", "config.yaml", "tickets.csv", "--out", "s.csv"), cwd=tmp_path
        )
    sent = server.bodies[0]["messages"]
    assert shown["system"] == sent[0]["content"]
    first = json.loads(shown["user"].removeprefix("<texts>\n").removesuffix("\n</texts>"))[0]
    lines = (tmp_path / "tickets.csv").read_text().splitlines()
    assert first["text"] in next(csv.reader([lines[2]]))
    assert "--- user ---" in labelfusion(*show, 2, cwd=tmp_path).stdout
    assert "2 to 41" in labelfusion(*show, 1, cwd=tmp_path, check=2).stderr
    named = labelfusion(*show, 2, "--source", "lm", cwd=tmp_path, check=2)
    assert "'llm'" in named.stderr


def test_providers_are_listed_without_their_keys(tmp_path):
    done = labelfusion("providers", "check", cwd=tmp_path, env={"OPENAI_API_KEY": SECRET})
    assert "OPENAI_API_KEY is set" in done.stdout
    found = ask_json("providers", "check", cwd=tmp_path)["providers"]
    assert {"openai", "anthropic", "gemini", "deepseek", "compatible"} == {
        each["provider"] for each in found
    }


def test_each_provider_of_a_config_is_called_once(tmp_path):
    with running() as (server, address):
        values = asking_config(tmp_path, address)
        (entry,) = values["llm"]
        recorded = {"provider": "recorded", "name": "old", "path": "tickets.csv"}
        write_config(tmp_path, values | {"llm": [entry, recorded]})
        check = ["providers", "check", "--config", "config.yaml"]
        for _ in range(2):
            assert "llm works" in labelfusion(*check, cwd=tmp_path).stdout
        assert server.counts["requests"] == 2
        others = [
            entry | {"name": "nokey", "api_key_env": "NOT_SET_ANYWHERE"},
            entry | {"name": "down", "base_url": f"{NOWHERE}/v1"},
        ]
        write_config(tmp_path, values | {"llm": [entry, *others]})
        told = json.loads(labelfusion(*check, "--json", cwd=tmp_path, check=1).stdout)
    assert {name: each["works"] for name, each in told["sources"].items()} == {
        "llm": True,
        "nokey": False,
        "down": False,
    }
    assert "NOT_SET_ANYWHERE" in told["sources"]["nokey"]["message"]


def test_a_run_says_what_it_spent(used):
    shown = ask_json("runs", "show", "last", cwd=used)
    (record,) = shown["usage"]
    assert (record["source"], record["texts"], record["unpriced"]) == ("llm", 60, 0)
    assert shown["spent_usd"] == ask_json("costs", cwd=used)["total"]["usd"] > 0
    assert "8 requests" in labelfusion("runs", "show", "last", cwd=used).stdout


def test_no_key_is_in_any_file_of_the_workspace(used):
    files = [path for path in used.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
