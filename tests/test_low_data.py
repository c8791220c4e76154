"""Few labels, no labels, labels nobody has seen: a run ends, and says honestly what it cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from labelfusion.config import RunConfig
from labelfusion.errors import InputError
from labelfusion.estimator import AutoFusionClassifier
from labelfusion.evaluation.words import NO_METRICS
from labelfusion.pipeline import check
from labelfusion.predict_file import label_rows, result_table
from labelfusion.runs import ResultsManager, create_run
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.command_line import PRICES, labelfusion
from tests.llm_server import running
from tests.run_data import SAMPLE

TICKETS = pd.read_csv(SAMPLE / "tickets.csv").iloc[:120]
SCORES = SAMPLE / "tickets_llm_scores.csv"
NAMES = sorted(TICKETS["label"].unique())
DESCRIBED = {name: f"about {name}" for name in NAMES}


def settings(folder, frame, *, encoder="none", sources=("llm",), data=None):
    frame.to_csv(folder / "data.csv", index=False)
    entries = [{"provider": "recorded", "name": name, "path": str(SCORES)} for name in sources]
    return {
        "data": {"path": str(folder / "data.csv"), "id_column": "id", "label_column": "label"}
        | (data or {}),
        "ml": {"encoder": encoder, "folds": 2},
        "llm": entries,
        "fusion": {"cv_folds": 2, "cv_repeats": 1},
        "evaluation": {"bootstrap_draws": 100},
    }


def trained(folder, frame, **options):
    workspace = Workspace.at(folder / "ws")
    config = RunConfig.from_dict(settings(folder, frame, **options))
    made = create_run(workspace, config)
    work(made, workspace, dataset=check(config))
    return ResultsManager(workspace).open(made.id), workspace


def per_class(count):
    nth = TICKETS.groupby("label").cumcount()
    return TICKETS.assign(label=TICKETS["label"].where(nth < count, ""))


@pytest.mark.parametrize("sources", [("llm",), ("llm", "second")])
def test_no_labels_at_all(tmp_path, sources):
    blank = TICKETS.assign(label="")
    run, workspace = trained(tmp_path, blank, sources=sources, data={"labels": DESCRIBED})
    counts = run.metrics["n"]
    assert (counts["train"], counts["test"], counts["predicted"]) == (0, 0, 120)
    assert run.metrics["systems"]["fusion"]["metrics"]["accuracy"] is None
    rows = run.predictions
    assert set(rows["split"]) == {"unlabelled"}
    assert (rows["prediction"].to_numpy() == TICKETS["label"].to_numpy()).mean() > 0.85
    card = run.folder.model_card.read_text(encoding="utf-8")
    assert NO_METRICS in card
    assert "nan" not in card.lower().split()
    listed = ResultsManager(workspace).list().iloc[0]
    assert listed["state"] == "finished"
    assert listed["fusion"] is None
    assert run.metrics["contributions"]["rows"] == 120
    again = label_rows(run, tmp_path / "data.csv", workspace=workspace)
    assert (result_table(again)["prediction"] == rows["prediction"]).all()


def test_no_label_column_needs_only_described_labels(tmp_path):
    frame = TICKETS.drop(columns="label")
    data = {"label_column": None, "labels": DESCRIBED, "multi_label": False}
    run, _ = trained(tmp_path, frame, data=data)
    assert list(run.metrics["task"]["labels"]) == list(DESCRIBED)
    assert not run.metrics["task"]["multi_label"]


def test_no_labels_and_an_encoder_say_what_to_do(tmp_path):
    config = RunConfig.from_dict(
        settings(tmp_path, TICKETS.assign(label=""), encoder="tfidf", data={"labels": DESCRIBED})
    )
    with pytest.raises(InputError, match=r"set ml\.encoder: none"):
        check(config)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_labels_a_class(tmp_path, count):
    run, _ = trained(tmp_path, per_class(count), encoder="tfidf")
    counts = run.metrics["n"]
    assert counts["train"] + counts["test"] + counts["dropped"] == len(NAMES) * count
    assert np.isfinite(run.predictions[[f"p_{name}" for name in NAMES]].to_numpy()).all()
    if count == 1:
        assert counts["test"] == 0
        assert counts["predicted"] == 120 - len(NAMES)
    else:
        assert 0 <= run.metrics["systems"]["fusion"]["metrics"]["accuracy"] <= 1


def test_a_label_no_training_row_has_can_still_be_given(tmp_path):
    frame = TICKETS.assign(split=np.where(np.arange(120) % 2, "test", "train"))
    absent = (frame["split"] == "train") & (frame["label"] == "billing")
    frame.loc[absent, "label"] = ""
    run, _ = trained(tmp_path, frame, encoder="tfidf", data={"split_column": "split"})
    rows = run.predictions.query("split == 'test' and gold == 'billing'")
    assert (rows["prediction"] == "billing").sum() >= len(rows) / 3


def test_a_described_label_that_no_row_has_is_part_of_the_run(tmp_path):
    frame = TICKETS[TICKETS["label"] != "billing"]
    run, workspace = trained(tmp_path, frame, encoder="tfidf", data={"labels": DESCRIBED})
    assert set(run.metrics["task"]["labels"]) == set(NAMES)
    TICKETS[TICKETS["label"] == "billing"].drop(columns="label").to_csv(tmp_path / "new.csv")
    given = result_table(label_rows(run, tmp_path / "new.csv", workspace=workspace))["prediction"]
    assert (given == "billing").any()


def test_a_slip_in_a_described_label_is_still_caught(tmp_path):
    config = RunConfig.from_dict(settings(tmp_path, TICKETS, data={"labels": {"biling": "money"}}))
    with pytest.raises(InputError, match="Did you mean 'billing'"):
        check(config)


def test_heavy_imbalance(tmp_path):
    many = TICKETS[TICKETS["label"] == "technical"]
    rare = TICKETS[TICKETS["label"].isin(["billing", "account"])].groupby("label").head(1)
    run, _ = trained(tmp_path, pd.concat([many, rare]), encoder="tfidf", data={"labels": DESCRIBED})
    assert run.metrics["systems"]["fusion"]["metrics"]["accuracy"] > 0.7


def test_labelled_rows_for_the_test_alone_measure_an_llm(tmp_path):
    run, _ = trained(tmp_path, TICKETS.assign(split="test"), data={"split_column": "split"})
    assert run.metrics["n"]["train"] == 0
    assert run.metrics["systems"]["fusion"]["metrics"]["accuracy"] > 0.85


def test_python_without_labels():
    config = {
        "label_descriptions": DESCRIBED,
        "multi_label": False,
        "encoder": "none",
        "llm_scores": str(SCORES),
    }
    texts = TICKETS[["id", "text"]]
    model = AutoFusionClassifier({**config, "id_column": "id"}).fit(TICKETS["text"].tolist())
    assert list(model.classes_) == list(DESCRIBED)
    assert (model.predict(texts) == TICKETS["label"]).mean() > 0.85
    assert np.allclose(model.predict_proba(texts).sum(axis=1), 1)


def test_the_command_asks_an_llm_about_unlabelled_texts_once(tmp_path):
    with running() as (server, address):
        frame = TICKETS.head(30).assign(label="")
        values = settings(tmp_path, frame, data={"labels": DESCRIBED})
        entry = {"provider": "compatible", "base_url": f"{address}/v1", "model": "m"}
        values |= {"llm": [entry], "costs": {"prices": PRICES}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        command = ("train", "--config", "config.yaml", "--workspace", "ws")
        labelfusion("estimate", "--config", "config.yaml", "--workspace", "ws", cwd=tmp_path)
        shown = labelfusion(*command, cwd=tmp_path).stdout
        assert NO_METRICS in shown
        assert "30 texts without a label were labelled" in shown
        paid = server.counts["paid"]
        labelfusion(*command, cwd=tmp_path)
        assert 0 < server.counts["paid"] == paid
