"""Studies and cross-fits on a Ray cluster of two workers: the same, stored here, nothing twice."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from labelfusion.cli.train import train
from labelfusion.config import RunConfig
from labelfusion.encoders import cross_fit, embeddings
from labelfusion.errors import InputError, RunError
from labelfusion.scale.ray_cluster import Cluster
from labelfusion.scale.ray_tasks import TRIES, RayTasks
from labelfusion.spreading import one_by_one
from labelfusion.studies import KINDS, Options, run_study
from labelfusion.studies.ablation import Ablation
from labelfusion.studies.calibration import CalibrationStudy
from labelfusion.studies.learning_curve import LearningCurve
from labelfusion.types import ignore_event
from labelfusion.workspace import Workspace
from tests.fine_tuning import run_settings, word_rows
from tests.ray_cluster import MARKS, small_cluster
from tests.run_data import small_config

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [*MARKS, pytest.mark.usefixtures("one_torch_thread")]
ONE = Options(seeds=1, sizes=(40,))


@pytest.fixture(scope="module")
def cluster():
    with small_cluster():
        yield


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


@pytest.fixture
def tasks(cluster, workspace):
    """Two workers, which have the workspace's cache."""
    with RayTasks(Cluster(workers=2), workspace.cache) as spread:
        yield spread


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]


def test_a_study_that_was_stopped_ends_as_one_that_was_done_here(tasks, workspace, tmp_path):
    config, out, events = small_config(tmp_path), tmp_path / "there", []

    def study(out, on_event=ignore_event, spread=one_by_one):
        return run_study(
            "calibration",
            config,
            out=out,
            workspace=workspace,
            options=ONE,
            on_event=on_event,
            spread=spread,
        )

    def stop(event):
        if event.unit == "cells" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(out, stop, tasks)
    assert len(lines(out)) == 3
    signals = written(out / "signals")
    assert len(signals) == 3
    there = study(out, events.append, tasks)
    assert (there.kept, there.computed) == (3, len(there.cells) - 3)
    assert written(out / "signals") == signals
    told = [event.done for event in events if (event.unit, event.status) == ("cells", "progress")]
    assert told == list(range(4, len(there.cells) + 1))
    here = study(tmp_path / "here")
    pd.testing.assert_frame_equal(here.cells, there.cells)
    # The same cells, each done once, and the same signals under the same names.
    assert Counter(line["key"] for line in lines(out)) == Counter(
        line["key"] for line in lines(here.folder)
    )
    assert written(here.folder / "signals").keys() == signals.keys()


def written(folder: Path) -> dict[str, int]:
    """When each signal in a folder was written, by its file's name."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_models_are_trained_there_and_applied_to_other_data(tasks, workspace, tmp_path):
    config = small_config(tmp_path, llm=[])
    target = tmp_path / "other.csv"
    rows = pd.read_csv(config.data.path).head(50)
    rows.assign(text="Again: " + rows["text"]).to_csv(target, index=False)
    options = Options(seeds=2, sizes=(40,), target=target)
    here, there = (
        run_study(
            "transfer",
            config,
            out=tmp_path / name,
            workspace=workspace,
            options=options,
            spread=spread,
        )
        for name, spread in (("here", one_by_one), ("there", tasks))
    )
    pd.testing.assert_frame_equal(here.cells, there.cells)
    for store in ("signals", "other-signals"):
        assert written(there.folder / store)
        assert written(there.folder / store).keys() == written(here.folder / store).keys()


class FailingCurve(LearningCurve):
    """A study with a cell that cannot be done."""

    def run(self, cell):
        if cell.values["system"] == "llm":
            raise InputError("There is nothing here", where="row 7")
        return super().run(cell)


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_cell_that_fails_is_named_with_its_cause(where, tasks, workspace, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "failing", FailingCurve)
    spread = {"spread": tasks} if where == "there" else {}
    with pytest.raises(InputError, match="system llm, size 40, seed 0: row 7: There is nothing"):
        run_study(
            "failing",
            small_config(tmp_path),
            out=tmp_path / "study",
            workspace=workspace,
            options=ONE,
            **spread,
        )


def test_an_item_that_fails_unexpectedly_is_named(tasks):
    def do(item, told):
        return 1 // item

    with pytest.raises(RunError, match=r"0: A worker .* ZeroDivisionError.* by zero"):
        list(tasks(do, [2, 0], lambda event: None))


def test_an_item_whose_worker_dies_is_tried_again(tasks, tmp_path):
    def do(name, told):
        marks = len(list(tmp_path.glob(f"{name}*")))
        (tmp_path / f"{name}{marks}").touch()
        if name == "always" or (name == "once" and not marks):
            os._exit(1)
        return name

    told: list = []
    assert dict(tasks(do, ["never", "once"], told.append)) == {0: "never", 1: "once"}
    assert [event.message for event in told] == ["once: its worker died; it is tried again"]
    with pytest.raises(RunError, match="always: Its worker died"):
        list(tasks(do, ["always"], told.append))
    assert len(list(tmp_path.glob("always*"))) == TRIES


def no_network() -> AbstractContextManager:
    """Inside, no text goes through a transformer."""
    return mock.patch.object(embeddings, "pooled", side_effect=AssertionError("embedded again"))


class NothingForwarded(Ablation):
    """An ablation whose cells and pieces find every vector."""

    def share(self, piece):
        with no_network():
            super().share(piece)

    def run(self, cell):
        with no_network():
            return super().run(cell)


def test_texts_are_embedded_once_and_by_the_process_that_asked(
    tasks, tiny, workspace, tmp_path, monkeypatch
):
    texts, targets = word_rows(60)
    settings = run_settings(tmp_path, tiny, texts, targets)
    settings["ml"] |= {"fine_tune": False, "folds": 2}
    config, forwarded, pooled = RunConfig.from_dict(settings), [], embeddings.pooled

    def counted(network, rows, pad):
        forwarded.append(len(rows))
        return pooled(network, rows, pad)

    monkeypatch.setattr(embeddings, "pooled", counted)
    monkeypatch.setitem(KINDS, "counted", NothingForwarded)
    out, options = tmp_path / "there", Options(seeds=2, sizes=(24,))
    there = run_study(
        "counted", config, out=out, workspace=workspace, options=options, spread=tasks
    )
    assert sum(forwarded) == len(set(texts))
    out = tmp_path / "here"
    here = run_study("ablation", config, out=out, workspace=workspace, options=options)
    pd.testing.assert_frame_equal(here.cells, there.cells)
    assert sum(forwarded) == len(set(texts))


def test_what_cells_share_is_made_once_before_them(tmp_path, workspace):
    study = CalibrationStudy(
        small_config(tmp_path), mock.Mock(folder=tmp_path / "s", workspace=workspace), ONE
    )
    found = [[str(piece) for piece in pieces] for pieces in study.shared(study.cells())]
    assert found == [["signal ml, size 40, seed 0"], ["signal fusion, size 40, seed 0"]]


def test_folds_are_the_same_and_kept_by_the_process_that_asked(
    tasks, tiny_encoder, workspace, tmp_path
):
    texts, targets = word_rows(40)
    folds = np.arange(40) % 3
    events: list = []
    alone = cross_fit(lambda: tiny_encoder(tmp_path / "alone"), texts, targets, folds)

    def stop(event):
        if event.message == "Scored out of fold":
            raise KeyboardInterrupt

    def make():
        return tiny_encoder(workspace.cache)

    with pytest.raises(KeyboardInterrupt):
        cross_fit(make, texts, targets, folds, stop, tasks)
    shared = cross_fit(make, texts, targets, folds, events.append, tasks)
    np.testing.assert_allclose(shared.scores, alone.scores, atol=1e-5)
    assert shared.origin == alone.origin
    assert any(event.message.startswith("Fold 3 of 3: ") for event in events)
    assert [event.message for event in events if "an earlier training" in event.message]
    events.clear()
    cross_fit(make, texts, targets, folds, events.append)
    assert sum("an earlier training" in event.message for event in events) == 3


def test_a_run_has_the_same_signals_wherever_its_folds_are_trained(cluster, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(small_config(tmp_path).to_yaml(), encoding="utf-8")
    for name, engine in (("here", "local"), ("there", "ray")):
        train(path, workspace=tmp_path / name, engine=engine)
    here, there = (
        pd.read_parquet(next((tmp_path / name).glob("runs/*/signals/ml.parquet")))
        for name in ("here", "there")
    )
    pd.testing.assert_frame_equal(here, there, atol=1e-5)
