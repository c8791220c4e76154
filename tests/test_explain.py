"""Explanations: every sum adds up, and says who decided."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.cli.output import print_json, print_json_list
from labelfusion.errors import InputError
from labelfusion.evaluation import model_card
from labelfusion.explain import (
    ContributionTally,
    deciding_sources,
    explanation_table,
    explanations,
    global_contributions,
)
from labelfusion.fusion.model import FusionModel
from labelfusion.predict_file import Wishes, explained_table, label_rows
from labelfusion.runs import ResultsManager
from labelfusion.scale.explain import explained_chunks
from labelfusion.tasks import task_for
from labelfusion.types import LabelSpace, Prediction, Signal
from labelfusion.workspace import Workspace
from tests.command_line import labelfusion, write_config
from tests.run_data import small_config


def model(multi_label, seed=0, n=120):
    rng = np.random.default_rng(seed)
    space = LabelSpace(("a", "b", "c"), multi_label)
    y = (rng.random((n, 3)) < 0.4).astype(int) if multi_label else np.eye(3, dtype=int)[
        rng.integers(0, 3, n)]  # fmt: skip
    said = {
        name: Signal(name, (2 * y - 1) + rng.normal(0, 1.2, (n, 3)), "logits", rng.random(n) < 0.8)
        for name in ("ml", "llm")
    }
    return FusionModel.fit(said, y, space=space), said


@pytest.mark.parametrize("multi_label", [False, True])
def test_prior_and_contributions_add_up_to_the_fused_probability(multi_label):
    fusion, said = model(multi_label)
    prediction, prior = fusion.predict(said, contributions=True), fusion.prior_log_odds()
    table = explanation_table(prediction, prior)
    summed = table[["prior", "ml_contribution", "llm_contribution"]].sum(axis=1)
    assert np.allclose(summed, table["fused"], atol=1e-9)
    assert np.allclose(1 / (1 + np.exp(-table["fused"])), table["probability"], atol=1e-9)
    for text, p in zip(
        explanations(prediction, prior, [str(i) for i in range(len(prediction))]),
        prediction.probabilities,
        strict=True,
    ):
        for part, probability in zip(text["explanation"], p, strict=True):
            fused = part["prior"] + sum(part["contributions"].values())
            assert fused == pytest.approx(part["fused"], abs=1e-9)
            assert part["probability"] == pytest.approx(probability)
    assert json.dumps(explanations(prediction, prior, ["x"] * len(prediction)))


def hand_made(shares, decisions, multi_label=False):
    shares, decisions = np.asarray(shares, float), np.asarray(decisions, bool)
    space = LabelSpace(("a", "b"), multi_label)
    present = np.ones(shares.shape[:2], bool)
    return Prediction(
        space, np.full(decisions.shape, 0.5), decisions, ("ml", "llm"), present, shares
    )


def test_who_decided():
    one = hand_made([[[2, -1], [1, 3]], [[-1, 0], [-2, 1]]], [[1, 0], [1, 0]])
    assert deciding_sources(one) == ["ml", "prior"]
    none = hand_made([[[-1, -1], [-3, -2]], [[1, 1], [2, 0]]], [[0, 0], [0, 0]], multi_label=True)
    assert deciding_sources(none) == ["llm", "prior"]
    both = hand_made([[[2, 2], [3, -2]]], [[1, 1]], multi_label=True)
    assert deciding_sources(both) == ["ml"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_global_contributions_are_the_means_over_present_rows(seed):
    rng = np.random.default_rng(seed)
    shares = rng.normal(size=(6, 2, 2))
    present = rng.random((6, 2)) < 0.6
    shares[~present] = 0
    made = hand_made(shares, np.eye(2, dtype=bool)[rng.integers(0, 2, 6)])
    prediction = Prediction(**{**vars(made), "present": present})
    found = global_contributions(prediction)
    assert found["rows"] == 6
    deciders = deciding_sources(prediction)
    for s, name in enumerate(("ml", "llm")):
        part, own = found["sources"][name], shares[present[:, s], s]
        assert part["rows"] == len(own)
        assert part["decides"] == pytest.approx(deciders.count(name) / 6)
        if not len(own):
            assert part["mean_absolute"] is None
            continue
        assert part["labels"]["b"]["mean_signed"] == pytest.approx(own[:, 1].mean())
        assert part["labels"]["a"]["mean_absolute"] == pytest.approx(np.abs(own[:, 0]).mean())


def test_without_contributions_it_says_so():
    fusion, said = model(False)
    with pytest.raises(InputError, match="contributions=True"):
        global_contributions(fusion.predict(said))
    empty = {name: signal.take(np.zeros(0, int)) for name, signal in said.items()}
    nothing = global_contributions(fusion.predict(empty, contributions=True))
    assert nothing["rows"] == 0
    assert nothing["sources"]["ml"]["decides"] is None
    assert task_for(fusion.space).multi_label is False


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    write_config(folder, small_config(folder).to_dict())
    labelfusion("train", "--config", "config.yaml", "--workspace", "ws", cwd=folder)
    lines = (folder / "tickets.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "few.csv").write_text("".join(lines[:6]), encoding="utf-8")
    return folder


def test_the_run_keeps_global_contributions_and_the_card_shows_them(trained):
    run = ResultsManager(trained / "ws").open("last")
    part = run.metrics["contributions"]
    tested = run.predictions.query("split == 'test'")
    assert part["rows"] == len(tested)
    column = tested["contribution_llm_billing"]
    assert part["sources"]["llm"]["labels"]["billing"]["mean_signed"] == pytest.approx(
        column.mean()
    )
    assert "## Which source decides" in run.folder.model_card.read_text(encoding="utf-8")
    older = {key: value for key, value in run.metrics.items() if key != "contributions"}
    assert "Which source decides" not in model_card(older, run.config.to_dict(), {})


def test_explain_prints_sums_writes_rows_and_json(trained):
    command = ("explain", "last", "few.csv", "--workspace", "ws")
    shown = labelfusion(*command, cwd=trained).stdout
    assert shown.count("decided by") == 5
    numbers = next(line for line in shown.splitlines() if "log-odds" in line).split("log-odds")[1]
    total, parts = numbers.split("=")
    values = [float(word) for word in parts.split() if word[0] in "+-"]
    assert float(total) == pytest.approx(sum(values), abs=0.03)

    options = ("--json", "--chunk-rows", "2", "--out", "parts.csv")
    told = json.loads(labelfusion(*command, *options, cwd=trained).stdout)
    assert [text["id"] for text in told["texts"]] == [f"T{i:04}" for i in range(5)]
    assert set(told["contributions"]["sources"]) == {"ml", "llm"}

    labelfusion(*command, "--out", "why.csv", cwd=trained)
    table = pd.read_csv(trained / "why.csv")
    assert (trained / "parts.csv").read_text() == (trained / "why.csv").read_text()
    assert not list(trained.glob(".labelfusion-*"))
    assert len(table) == 5 * 7
    summed = table[["prior", "ml_contribution", "llm_contribution"]].sum(axis=1)
    assert np.allclose(summed, table["fused"], atol=1e-6)
    again = labelfusion(*command, "--out", "why.csv", cwd=trained, check=2)
    assert "--force" in again.stderr


def test_chunks_say_what_the_whole_file_says(trained):
    workspace = Workspace.at(trained / "ws")
    run = ResultsManager(workspace).open("last")
    whole = label_rows(run, trained / "few.csv", workspace=workspace)
    tally, tables = ContributionTally(), []
    for chunk in explained_chunks(run, trained / "few.csv", Wishes(), workspace, chunk_rows=2):
        tally.add(chunk.prediction)
        tables.append(explained_table(chunk))
    assert list(map(len, tables)) == [14, 14, 7]
    once = explained_table(whole)
    pd.testing.assert_frame_equal(pd.concat(tables, ignore_index=True), once)
    found, expected = tally.to_dict(), global_contributions(whole.prediction)
    assert found["rows"] == expected["rows"] == 5
    for name, part in expected["sources"].items():
        labels = part.pop("labels")
        for label, means in found["sources"][name].pop("labels").items():
            assert means == pytest.approx(labels[label])
        assert found["sources"][name] == pytest.approx(part)


@pytest.mark.parametrize("items", [[], [{"a": "x\ny"}], [{"a": [1.5, None]}, {"b": {"c": "ü"}}]])
def test_a_list_is_printed_item_by_item_as_at_once(items, capsys):
    print_json({"run": "r", "empty": [], "texts": items})
    expected = capsys.readouterr().out
    print_json_list({"run": "r", "empty": []}, "texts", iter(items))
    assert capsys.readouterr().out == expected
