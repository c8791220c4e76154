"""Studies as they are run: what they compute once, what survives a kill, what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from labelfusion import pipeline
from labelfusion.config import RunConfig
from labelfusion.data import make_split
from labelfusion.errors import ConfigError, InputError, RunError
from labelfusion.fusion.heads import METHODS
from labelfusion.queueing import held
from labelfusion.studies import KINDS, Options, run_study
from labelfusion.studies.material import prepare
from labelfusion.studies.options import Place
from labelfusion.studies.study import MARK
from labelfusion.types import Event
from labelfusion.workspace import Workspace
from tests.command_line import ENVIRONMENT, PRICES, asking_config, labelfusion, write_config
from tests.llm_helpers import Watcher
from tests.llm_server import running
from tests.run_data import SAMPLE

PATIENCE_S = 120
TWO = Options(seeds=2, sizes=(30, 1.0))


@pytest.fixture(scope="module")
def curve(folder, workspace, config):
    """A finished learning curve, and what was told of it."""
    watch = Watcher()
    found = run_study(
        "learning-curve",
        config,
        out=folder / "curve",
        workspace=workspace,
        options=TWO,
        on_event=watch,
    )
    return found, watch


def test_a_learning_curve_has_every_source_and_method_at_every_size(curve):
    found, _ = curve
    systems = ["ml", "llm", *METHODS]
    assert found.computed == len(systems) * 2 * 2 == len(found.cells)
    assert list(found.cells["system"].unique()) == systems
    assert sorted(found.cells["size"].unique()) == [30, 120]
    assert (found.findings.table["seeds"] == 2).all()
    assert set(found.findings.details["mean_rank"]) == set(systems)
    for record in found.findings.details["fusion_against_best"]:
        values = found.cells[found.cells["size"] == record["size"]]
        means = values.groupby("system")["accuracy"].mean()
        assert record["gain"] == pytest.approx(means["auto"] - means[["ml", "llm"]].max())


def test_a_study_leaves_files_that_a_person_can_read(curve):
    folder = curve[0].folder
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["kind"] == "learning-curve"
    assert len(pd.read_csv(folder / "table.csv")) == len(summary["table"])
    readme = (folder / "README.md").read_text()
    assert "labelfusion study learning-curve --config" in readme
    assert summary["reading"][0] in readme
    for figure in curve[0].figures:
        assert figure.name in readme
        assert figure.stat().st_size > 1000
    page = (folder / "figures.html").read_text()
    assert page.count("<script src=") == 0
    assert page.count("Plotly.newPlot(") == 3


def test_a_finished_study_is_not_computed_again_but_can_grow(curve, workspace, config):
    found, _ = curve
    lines = (found.folder / "cells.jsonl").read_text()

    def again(config, options):
        return run_study(
            "learning-curve", config, out=found.folder, workspace=workspace, options=options
        )

    same = again(config, TWO)
    assert (same.computed, same.kept) == (0, found.computed)
    pd.testing.assert_frame_equal(same.findings.table, found.findings.table)
    more = again(config, replace(TWO, seeds=3))
    assert (more.computed, more.kept) == (found.computed // 2, found.computed)
    assert (found.folder / "cells.jsonl").read_text().startswith(lines)
    changed = config.updated({"fusion.calibration": "identity"})
    assert again(changed, Options(seeds=1, sizes=(30,))).kept == 0


def test_what_is_told(curve):
    _, watch = curve
    done = [event for event in watch.events if event.stage == "evaluate"]
    assert done[0].message.endswith("0 of them done before")
    assert done[-1].done == done[-1].total == curve[0].computed
    assert "system ml, size 30, seed 0" in [event.message for event in done]


def test_subsets_are_nested_and_tested_on_the_same_rows(folder, workspace, config):
    material = prepare(config, Place(folder / "curve", workspace))
    small, large = material.block(30, 1), material.block(120, 1)
    assert set(small.split.train) < set(large.split.train)
    np.testing.assert_array_equal(small.split.test, large.split.test)
    assert not set(large.split.train) & set(large.split.test)
    split = make_split(material.dataset, config.data, 1)
    assert set(large.split.train) == set(split.train)
    assert set(material.block(30, 0).split.train) != set(small.split.train)


def test_a_subset_of_all_rows_is_what_a_run_trains_on(folder, workspace, config, curve):
    run = pipeline.fit(pipeline.check(config), config)
    cells = curve[0].cells
    rows = cells[(cells["size"] == 120) & (cells["seed"] == 0)].set_index("system")
    # Only the order of the training rows differs, and with it the folds.
    assert rows.loc["llm", "accuracy"] == run.report["systems"]["llm"]["metrics"]["accuracy"]
    assert rows.loc["ml", "accuracy"] == pytest.approx(
        run.report["systems"]["ml"]["metrics"]["accuracy"], abs=0.05
    )


def kept_cells(path):
    if not path.is_file():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line)["key"] for line in lines if line.endswith("}")]


def test_a_killed_study_loses_the_cell_under_way_and_asks_no_text_twice(tmp_path):
    command = ["study", "learning-curve", "--config", "config.yaml", "--out", "out"]
    command += ["--seeds", "2", "--sizes", "20,45"]
    path = tmp_path / "out" / "cells.jsonl"
    with running() as (server, address):
        asking_config(tmp_path, address)
        process = subprocess.Popen(
            [sys.executable, "-m", "labelfusion", *command],
            cwd=tmp_path,
            env=os.environ | ENVIRONMENT,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_S
        while len(kept_cells(path)) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.wait()
        kept = kept_cells(path)
        signals = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/signals").iterdir()}
        told = json.loads(labelfusion(*command, "--json", cwd=tmp_path).stdout)
    total = (2 + len(METHODS)) * 4
    assert 3 <= len(kept) < total
    assert (told["kept"], told["computed"]) == (len(kept), total - len(kept))
    after = kept_cells(path)
    assert after[: len(kept)] == kept
    assert len(after) == len(set(after)) == total
    assert (
        signals.items()
        <= {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/signals").iterdir()}.items()
    )
    assert len(server.texts) == 60
    assert set(server.texts.values()) == {1}


def test_few_shot_examples_are_in_every_subset_and_in_no_test_part(tmp_path):
    with running() as (server, address):
        examples = {"examples": {"strategy": "stratified", "count": 7}}
        asking_config(tmp_path, address, prompt=examples)
        config = RunConfig.load(tmp_path / "config.yaml")
        options = Options(seeds=2, sizes=(12, 30))
        found = run_study(
            "learning-curve",
            config,
            out=tmp_path / "out",
            workspace=Workspace.at(tmp_path / "ws"),
            options=options,
        )
        assert set(server.texts.values()) == {1}
    material = prepare(config, Place(found.folder, Workspace.at(tmp_path / "ws")))
    shown = set(material.reserved)
    assert len(shown) == 8
    for size in (12, 30):
        for seed in (0, 1):
            block = material.block(size, seed)
            assert shown <= set(block.split.train)
            assert not shown & set(block.split.test)
    many = config.updated({"llm.0.prompt.examples": {"strategy": "stratified", "count": 20}})
    with pytest.raises(InputError, match="sizes"):
        run_study("learning-curve", many, out=tmp_path / "other", options=options)
    with pytest.raises(ConfigError, match="study prompt"):
        run_study(
            "learning-curve",
            config.updated({"llm.0.prompt.examples.strategy": "knn"}),
            out=tmp_path / "other",
        )
    assert not (tmp_path / "other").exists()


def test_the_cost_is_told_first_and_the_budget_is_obeyed(tmp_path):
    with running() as (server, address):
        values = asking_config(tmp_path, address, texts_per_request=1, concurrency=2)
        budget = {"run_usd": 0.03, "when_spent": "stop"}
        write_config(tmp_path, values | {"costs": {"prices": PRICES, "budget": budget}})
        command = ["study", "ablation", "--config", "config.yaml", "--seeds", "1"]
        stopped = labelfusion(*command, cwd=tmp_path, check=1)
        paid = server.counts["paid"]
        assert 0 < paid < 60
        assert "60 texts to ask about once" in stopped.stderr
        assert "stops" in stopped.stderr
        more = ["--set", "costs.budget.run_usd=1"]
        labelfusion(*command, *more, cwd=tmp_path)
        assert set(server.texts.values()) == {1}
        unknown = ["--set", "costs.prices={}", "--out", "other"]
        refused = labelfusion(*command, *unknown, cwd=tmp_path, check=2)
    assert "costs.prices" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_bad_input_is_said_before_anything_is_made(folder, workspace, config):
    def refused(error, match, kind="learning-curve", config=config, **options):
        with pytest.raises(error, match=match):
            run_study(
                kind, config, out=folder / "bad", workspace=workspace, options=Options(**options)
            )
        assert not (folder / "bad").exists()

    refused(ConfigError, "learning-curve", kind="learning-curves")
    refused(InputError, "sizes", sizes=(500,))
    alone = config.updated({"llm": []})
    refused(InputError, "at least 2 sources", kind="ablation", config=alone)
    refused(InputError, "at least 2 sources", kind="frontier", config=alone)
    no_encoder = config.updated({"ml.encoder": "none"})
    other = no_encoder.llm[0].model_copy(update={"name": "second"})
    two = no_encoder.model_copy(update={"llm": [*no_encoder.llm, other]})
    refused(InputError, "margin", kind="frontier", config=two)


def test_a_folder_of_something_else_is_left_alone(folder, workspace, config, curve):
    for kind, out in (("ablation", curve[0].folder), ("learning-curve", folder)):
        before = sorted(out.iterdir())
        with pytest.raises(InputError, match="something else"):
            run_study(kind, config, out=out, workspace=workspace)
        assert sorted(out.iterdir()) == before


def test_two_processes_do_not_work_on_one_study(curve, workspace, config):
    with held(curve[0].folder / ".lock") as mine:
        assert mine
        with pytest.raises(RunError, match="Another process"):
            run_study(
                "learning-curve", config, out=curve[0].folder, workspace=workspace, options=TWO
            )


def test_one_source_has_a_learning_curve_too(folder, workspace, config):
    found = run_study(
        "learning-curve",
        config.updated({"llm": []}),
        out=folder / "alone",
        workspace=workspace,
        options=Options(seeds=1, sizes=(40,)),
    )
    assert found.cells["system"].tolist() == ["ml"]


def test_a_multi_label_study(folder, workspace):
    values = {
        "data": {"path": str(SAMPLE / "reviews.csv"), "id_column": "id"},
        "ml": {"encoder": "tfidf", "folds": 2},
        "fusion": {"cv_folds": 2, "cv_repeats": 1},
        "llm": [{"provider": "recorded", "path": str(SAMPLE / "reviews_llm_scores.csv")}],
    }
    header = (SAMPLE / "reviews.csv").read_text(encoding="utf-8").splitlines()[0]
    values["data"]["label_columns"] = header.split(",")[2:]
    config = RunConfig.from_dict(values)
    options = Options(seeds=1, sizes=(60,))
    for kind in ("ablation", "calibration", "frontier"):
        found = run_study(
            kind, config, out=folder / f"multi-{kind}", workspace=workspace, options=options
        )
        assert found.cells["accuracy"].notna().any()
        assert found.findings.reading


def test_every_kind_is_a_command(tmp_path):
    told = labelfusion("study", "--help", cwd=tmp_path).stdout
    assert [kind for kind in KINDS if kind not in told] == []
    both = labelfusion("study", "transfer", "--target", "x.csv", cwd=tmp_path, check=2)
    assert "--run" in both.stderr


def test_ctrl_c_leaves_a_study_that_can_be_gone_on_with(folder, workspace, config):
    class Stop:
        def __call__(self, event: Event):
            if event.stage == "evaluate" and event.done == 2:
                raise KeyboardInterrupt

    options = Options(seeds=1, sizes=(40,))
    out = folder / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run_study(
            "learning-curve", config, out=out, workspace=workspace, options=options, on_event=Stop()
        )
    assert (out / MARK).is_file()
    found = run_study("learning-curve", config, out=out, workspace=workspace, options=options)
    assert found.kept == 2
