"""What each kind of study varies, and what it finds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from labelfusion.config import RunConfig
from labelfusion.errors import InputError
from labelfusion.fusion.heads import METHODS
from labelfusion.runs import create_run
from labelfusion.studies import Options, run_study
from labelfusion.studies.frontier import POINT
from labelfusion.studies.material import prepare
from labelfusion.studies.options import Place
from labelfusion.studies.systems import fused, measured
from labelfusion.studies.transfer import AWAY, HOME
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.command_line import PRICES, asking_config, labelfusion, write_config
from tests.llm_server import running
from tests.run_data import SAMPLE


def test_an_ablation_tells_what_each_source_is_worth(folder, workspace, config):
    found = run_study(
        "ablation",
        config,
        out=folder / "ablation",
        workspace=workspace,
        options=Options(seeds=2),
    )
    by_system = found.cells.groupby("system")["accuracy"].mean()
    worth = {record["system"]: record for record in found.findings.details["worth"]}
    assert worth["without llm"]["gain"] == pytest.approx(
        by_system["all sources"] - by_system["without llm"]
    )
    assert worth["without llm"]["gain"] > worth["without ml"]["gain"]
    assert {"all, not calibrated", "all, hard LLM labels", "ml alone", "llm alone"} <= set(worth)
    # Hard labels keep the decision of the LLM and lose how sure it was.
    assert worth["all, hard LLM labels"]["nll_saved"] > 0
    # TF-IDF has no embedding.
    assert not [name for name in worth if "embedding" in name]


def test_the_embedding_takes_the_place_of_the_logits(folder, workspace, config, monkeypatch):
    material = prepare(config, Place(folder / "embedding", workspace))
    block = material.block(40, 0)
    vectors = np.random.default_rng(0).normal(size=(40, 6))

    class Embeds:
        origin = "vectors + head"

        def embed(self, texts, on_event):
            known = {text: i for i, text in enumerate(material.dataset.texts)}
            gold = material.dataset.targets[[known[text] for text in texts]]
            return gold @ vectors[: gold.shape[1]]

    from labelfusion.studies import embedding

    monkeypatch.setattr(embedding, "make_encoder", lambda *args, **more: Embeds())
    signal = embedding.embedding_signal(material, block)
    assert set(np.flatnonzero(signal.present)) == {*block.split.train, *block.split.test}
    right = signal.scores.argmax(axis=1) == material.dataset.targets.argmax(axis=1)
    assert right[block.split.test].mean() > 0.8
    assert signal.origin == "vectors + MLP (64, 32)"


def test_a_frontier_goes_from_sending_none_to_sending_all(folder, workspace, config):
    priced = config.updated({"routing.usd_per_text": 0.002})
    found = run_study(
        "frontier", priced, out=folder / "frontier", workspace=workspace, options=Options(seeds=2)
    )
    points = found.cells[found.cells["policy"] == POINT]
    for _, curve in points.groupby("seed"):
        curve = curve.sort_values("share")
        first, last = curve.iloc[0], curve.iloc[-1]
        assert (first["share"], last["share"], last["loss"]) == (0, 1, 0)
        assert first["lead"] == last["lead"] == pytest.approx(0)
        assert last["usd_per_1000"] == pytest.approx(2.0)
    policies = found.findings.table.set_index("policy")
    assert policies.loc["send all", "share"] == 1
    none = points[points["share"] == 0].groupby("seed")["accuracy"].first()
    assert policies.loc["send none", "accuracy"] == pytest.approx(none.mean())
    assert [plot.stem for plot in found.findings.plots][-1] == "frontier-usd"


def test_calibration_is_measured_before_and_after_where_there_are_rows(folder, workspace, config):
    found = run_study(
        "calibration",
        config,
        out=folder / "calibration",
        workspace=workspace,
        options=Options(seeds=2),
    )
    assert found.cells["size"].unique().tolist() == [50]
    assert "200" in found.findings.about[1]
    assert set(found.cells["system"]) == {"ml", "llm", "fusion"}
    table = found.findings.table.set_index(["system", "calibrator"])
    assert table.loc[("ml", "temperature"), "nll"] != table.loc[("ml", "identity"), "nll"]
    # Before: the fusion as it is, whose log-loss the curve over the same rows has too.
    material = prepare(config, Place(folder / "calibration", workspace))
    whole = [fused(material.block(50, seed), config.fusion) for seed in (0, 1)]
    targets = [material.block(50, seed).test_targets for seed in (0, 1)]
    losses = [measured(y, p)["nll"] for y, p in zip(targets, whole, strict=True)]
    assert table.loc[("fusion", "identity"), "nll"] == pytest.approx(np.mean(losses))
    # A temperature changes no multi-class decision.
    accuracy = table["accuracy"]
    assert accuracy[("ml", "temperature")] == accuracy[("ml", "identity")]


def test_the_form_of_the_mlp_is_varied(folder, workspace, config):
    found = run_study(
        "architecture",
        config,
        out=folder / "architecture",
        workspace=workspace,
        options=Options(seeds=1, sizes=(40,)),
    )
    systems = set(found.cells["system"])
    assert {"ml", "llm", "auto", "hidden 64 × 32", "hidden 8"} <= systems
    assert found.cells["nll"].nunique() > 4


def test_prompts_are_compared_on_the_same_texts(tmp_path):
    template = tmp_path / "own.txt"
    template.write_text(
        "version: 1\n--- system ---\nSort.\n{{labels}}\n{{output}}\n"
        "--- user ---\n<texts>\n{{texts}}\n</texts>\n"
    )
    command = ["study", "prompt", "--config", "config.yaml", "--rows", "12", "--out", "out"]
    command += ["--variant", "configured", "--variant", "static:2", "--variant", "own.txt"]
    with running() as (server, address):
        values = asking_config(tmp_path, address)
        write_config(tmp_path, values | {"costs": {"prices": PRICES}})
        done = labelfusion(*command, "--json", cwd=tmp_path)
        asked = server.counts["requests"]
        again = json.loads(labelfusion(*command, "--json", cwd=tmp_path).stdout)
        assert server.counts["requests"] == asked
        bad = labelfusion(*command, "--variant", "nonsense:2", cwd=tmp_path, check=2)
    assert "36 texts to ask about once" in done.stderr
    told = json.loads(done.stdout)
    assert (told["computed"], again["computed"]) == (3, 0)
    rows = {row["variant"]: row for row in told["table"]}
    assert list(rows) == ["configured", "static:2", "own.txt"]
    assert set(server.texts.values()) == {3}
    assert len(server.texts) == 12
    assert all(row["coverage"] == 1 and row["usd"] > 0 for row in rows.values())
    # Examples make a prompt longer, a short template shorter.
    dear = [rows[name]["usd_per_1000"] for name in ("static:2", "configured", "own.txt")]
    assert dear == sorted(dear, reverse=True)
    # This server's scores depend on the text alone.
    assert len({row["nll"] for row in rows.values()}) == 1
    assert rows["static:2"]["mcnemar_p"] == 1
    assert "STRATEGY:COUNT" in bad.stderr


def test_built_in_variants_that_come_to_the_same_prompt_are_scored_once(tmp_path):
    with running() as (server, address):
        asking_config(tmp_path, address)
        found = run_study(
            "prompt",
            RunConfig.load(tmp_path / "config.yaml"),
            out=tmp_path / "out",
            workspace=Workspace.at(tmp_path / "ws"),
            options=Options(rows=10),
        )
    # Nothing is configured beyond the defaults: zero-shot and undescribed are the same.
    assert found.cells["variant"].tolist() == [
        *("configured", "static:8", "stratified:8", "knn:4", "knn:8")
    ]
    assert set(server.texts.values()) == {5}


def test_recorded_scores_have_no_prompt_to_vary(config, folder):
    with pytest.raises(InputError, match=r"only where an LLM can be asked.*recorded"):
        run_study("prompt", config, out=folder / "prompt")
    assert not (folder / "prompt").exists()


@pytest.fixture(scope="module")
def other(folder):
    """A config of tickets that the small config has not, with their scores."""
    tickets = pd.read_csv(SAMPLE / "tickets.csv", dtype=str)
    both = pd.concat([tickets.iloc[200:300], tickets.iloc[:5]])
    both.to_csv(folder / "other.csv", index=False)
    values = {
        "data": {"path": "other.csv", "id_column": "id", "label_column": "label"},
        "llm": [{"provider": "recorded", "path": str(SAMPLE / "tickets_llm_scores.csv")}],
    }
    path = folder / "other.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_models_are_applied_to_another_data_set_as_they_are(folder, workspace, config, other):
    options = Options(seeds=2, target=other)
    found = run_study(
        "transfer", config, out=folder / "transfer", workspace=workspace, options=options
    )
    assert found.findings.details["left_out"] == 5
    away = found.cells[found.cells["data"] == AWAY]
    assert (away["test_rows"] == 100).all()
    assert set(away["system"]) == {"ml", "llm", *METHODS}
    assert set(found.cells["data"]) == {HOME, AWAY}
    table = found.findings.table.set_index(["data", "system"])
    assert table.loc[(AWAY, "auto"), "accuracy"] > table.loc[(AWAY, "ml"), "accuracy"]


def test_a_trained_run_is_applied_as_it_is(folder, workspace, config, other):
    run = create_run(workspace, config)
    fitted = work(run, workspace)
    options = Options(run=run.path, target=other)
    found = run_study(
        "transfer", config, out=folder / "from-run", workspace=workspace, options=options
    )
    home = found.cells[found.cells["data"] == HOME].set_index("system")
    for system in ("ml", "llm", "fusion"):
        expected = fitted.report["systems"][system]["metrics"]
        assert home.loc[system, "accuracy"] == pytest.approx(expected["accuracy"])
        assert home.loc[system, "nll"] == pytest.approx(expected["nll"])
    assert "--run" in (found.folder / "README.md").read_text()


def test_what_cannot_be_transferred_to_is_said_before_anything_is_trained(
    folder, workspace, config, other
):
    def refused(target, match):
        with pytest.raises(InputError, match=match):
            run_study(
                "transfer",
                config,
                out=folder / "refused",
                workspace=workspace,
                options=Options(target=target),
            )
        assert not (folder / "refused").exists()

    refused(None, "--target")
    refused(folder / "tickets.csv", "no labelled row of its own")
    # A data file alone: the recorded scores of the config have none of its rows.
    refused(folder / "other.csv", "scores")
    strange = pd.read_csv(folder / "other.csv", dtype=str)
    strange["label"] = strange["label"].replace("billing", "invoices")
    strange.to_csv(folder / "strange.csv", index=False)
    refused(folder / "strange.csv", "other labels.*invoices")
