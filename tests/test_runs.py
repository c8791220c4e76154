import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from labelfusion.config import RunConfig
from labelfusion.errors import InputError, RunError
from labelfusion.files import to_json, write_atomically
from labelfusion.llm.providers import DeepSeekProvider
from labelfusion.runs import ResultsManager, RunFolder, SignalStore, create_run, read_status
from labelfusion.runs.compare import flatten
from labelfusion.runs.recorder import Recorder
from labelfusion.runs.run import read_jsonl
from labelfusion.runs.status import now, write_status
from labelfusion.types import Event, Signal
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.run_data import small_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workspace with two finished runs that differ in the seed and in the source used."""
    folder = tmp_path_factory.mktemp("finished")
    workspace = Workspace.at(folder / "ws")
    fitted = []
    for method in ("auto", "ml"):
        config = small_config(folder, name=method, fusion={"method": method, "cv_repeats": 1})
        fitted.append((run := create_run(workspace, config), work(run, workspace)))
    return workspace, fitted


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


def test_the_workspace_is_the_argument_else_the_environment_else_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABELFUSION_WORKSPACE", raising=False)
    assert Workspace.at().root == tmp_path / "labelfusion_workspace"
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(tmp_path / "env"))
    assert Workspace.at().root == tmp_path / "env"
    assert Workspace.at(tmp_path / "given").root == tmp_path / "given"


def test_runs_created_at_the_same_moment_get_different_ids(workspace, tmp_path):
    config = small_config(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create_run(workspace, config), range(16)))
    assert len({folder.id for folder in folders}) == 16
    assert {read_status(folder).id for folder in folders} == {folder.id for folder in folders}
    assert sorted(path.name for path in workspace.runs.iterdir()) == sorted(
        folder.id for folder in folders
    )


@pytest.mark.parametrize("given", [None, "another"])
def test_a_run_names_the_models_that_it_asks_as_defaults_change(workspace, tmp_path, given):
    asked = {"provider": "deepseek", "model": given}
    kept = RunConfig.load(create_run(workspace, small_config(tmp_path, llm=[asked])).config)
    assert kept.llm[0].model == (given or DeepSeekProvider.default_model)


def test_a_run_of_data_that_is_not_there_leaves_no_folder(workspace, tmp_path):
    config = small_config(tmp_path)
    (tmp_path / "tickets.csv").unlink()
    with pytest.raises(InputError, match=r"tickets\.csv"):
        create_run(workspace, config)
    assert not list(workspace.runs.glob("*"))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan_and_takes_numpy():
    value = {"a": np.float64("nan"), "b": np.arange(2), "c": (1.5, float("inf")), "d": np.bool_(1)}
    assert json.loads(to_json(value)) == {"a": None, "b": [0, 1], "c": [1.5, None], "d": True}


@pytest.mark.parametrize("labels", [("a", "b"), ("id", "present"), ("x", "split")])
def test_a_signal_comes_back_bit_for_bit(tmp_path, labels):
    scores = np.random.default_rng(0).normal(size=(5, 2)) / 3
    scores[2] = np.nan
    signal = Signal("ml", scores, "logits", ~np.isnan(scores[:, 0]), "an encoder")
    store = SignalStore(tmp_path / "signals", np.array(list("vwxyz")), labels)
    store["ml"] = signal
    back = SignalStore(tmp_path / "signals", np.array(list("vwxyz")), labels)["ml"]
    assert np.array_equal(back.scores, scores, equal_nan=True)
    assert np.array_equal(back.present, signal.present)
    assert (back.source, back.kind, back.origin) == ("ml", "logits", "an encoder")
    assert list(store) == ["ml"]
    assert "llm" not in store


def test_a_store_refuses_other_rows_damage_and_strange_names(tmp_path):
    store = SignalStore(tmp_path, np.array(["1", "2"]), ("a", "b"))
    store["ml"] = Signal.missing("ml", 2, 2)
    with pytest.raises(RunError, match="other rows"):
        SignalStore(tmp_path, np.array(["1", "3"]), ("a", "b"))["ml"]
    (tmp_path / "ml.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(RunError, match="damaged"):
        store["ml"]
    with pytest.raises(RunError, match="name"):
        store["../ml"] = Signal.missing("ml", 2, 2)
    with pytest.raises(KeyError):
        store["llm"]


def test_a_run_folder_holds_what_the_fit_found(finished):
    workspace, ((folder, fitted), _) = finished
    run = ResultsManager(workspace).open(folder.id)
    assert run.status.state == "finished"
    assert run.status.data["rows"] == 160
    assert run.metrics["systems"].keys() == {"ml", "llm", "fusion"}
    assert run.config.to_dict() == fitted.config.to_dict()
    test = run.predictions[run.predictions["split"] == "test"]
    p = test[[f"p_{name}" for name in fitted.dataset.space.names]].to_numpy()
    assert np.array_equal(p, fitted.test_prediction.probabilities)
    assert test["id"].tolist() == fitted.dataset.ids[fitted.split.test].tolist()
    right = (test["gold"] == test["prediction"]).mean()
    assert right == pytest.approx(run.metrics["systems"]["fusion"]["metrics"]["accuracy"])
    assert run.splits["split"].value_counts().to_dict() == {"train": 120, "test": 40}
    assert run.splits.loc[run.splits["split"] == "test", "fold"].isna().all()
    assert np.array_equal(run.signals["ml"].scores, fitted.signals["ml"].scores, equal_nan=True)
    assert {event["stage"] for event in run.events} >= {"split", "ml", "fusion", "save"}
    assert "# auto" in folder.model_card.read_text(encoding="utf-8")
    assert not list(folder.path.rglob(".tmp-*"))


def test_the_stored_model_predicts_as_the_fitted_one(finished):
    workspace, ((folder, fitted), _) = finished
    model = ResultsManager(workspace).open(folder.id).model()
    test = fitted.dataset.take(fitted.split.test)
    signals = {"llm": fitted.signals["llm"].take(fitted.split.test)}
    prediction = model.predict(test, signals)
    assert np.allclose(prediction.probabilities, fitted.test_prediction.probabilities)


def test_the_list_shows_every_run_whatever_its_state(finished):
    workspace, fitted = finished
    table = ResultsManager(workspace).list()
    assert table["id"].tolist() == [folder.id for folder, _ in reversed(fitted)]
    assert (table["state"] == "finished").all()
    assert (table["reason"] == "").all()
    assert table["fusion"].notna().all()


BROKEN = {
    "no json": "{",
    "a list": "[]",
    "no format": "{}",
    "unknown state": '{"format": 1, "id": "x", "name": "x", "state": "flying", "created": ""}',
    "no time": '{"format": 1, "id": "x", "name": "x", "state": "failed", "created": "soon"}',
    "too little": '{"format": 1}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_run_is_listed_with_a_reason_beside_the_others(workspace, tmp_path, content):
    whole = create_run(workspace, small_config(tmp_path))
    damaged = create_run(workspace, small_config(tmp_path))
    damaged.status.write_text(content)
    table = ResultsManager(workspace).list().set_index("id")
    assert table.loc[whole.id, "state"] == "queued"
    assert table.loc[damaged.id, "state"] == "damaged"
    assert "damaged" in table.loc[damaged.id, "reason"]
    assert ResultsManager(workspace).delete(damaged.id) == damaged.id


def test_a_run_of_a_newer_format_is_said_to_be_one(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    write_status(folder, replace(read_status(folder), format=99))
    assert "newer" in ResultsManager(workspace).list().loc[0, "reason"]
    with pytest.raises(RunError, match="Upgrade labelfusion"):
        ResultsManager(workspace).open(folder.id)


def test_a_finished_run_with_damaged_metrics_is_listed_as_damaged(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    write_status(folder, replace(read_status(folder), state="finished"))
    for content in ("{", "{}", '{"task": 3}'):
        folder.metrics.write_text(content)
        row = ResultsManager(workspace).list().loc[0]
        assert row["state"] == "damaged"
        assert "metrics.json" in row["reason"]


def test_a_run_is_found_by_id_beginning_folder_or_last(workspace, tmp_path):
    config = small_config(tmp_path)
    first, second = (create_run(workspace, config, name=name) for name in ("one", "two"))
    manager = ResultsManager(workspace)
    assert manager.open(first.id).id == first.id
    assert manager.open(str(first.path)).id == first.id
    assert manager.open("last").id == second.id
    assert manager.ids() == [second.id, first.id]
    with pytest.raises(RunError, match="2 runs begin with"):
        manager.open(first.id[:8])
    for absent in ("nothing", "", str(tmp_path)):
        with pytest.raises(RunError):
            manager.open(absent)


def test_comparing_shows_metrics_settings_and_changed_rows(finished):
    workspace, fitted = finished
    ids = [folder.id for folder, _ in fitted]
    comparison = ResultsManager(workspace).compare(ids)
    assert comparison.metrics.loc[("fusion", "accuracy"), ids[0]] == pytest.approx(
        fitted[0][1].report["systems"]["fusion"]["metrics"]["accuracy"]
    )
    assert {"fusion.method", "name"} <= set(comparison.config.index)
    assert "data.path" not in comparison.config.index
    assert comparison.config.loc["fusion.method"].tolist() == ["auto", "ml"]
    assert comparison.shared_rows == 160
    assert 0 < len(comparison.changed) < 160
    assert (comparison.changed[ids[0]] != comparison.changed[ids[1]]).all()
    with pytest.raises(RunError, match="two different"):
        ResultsManager(workspace).compare([ids[0], ids[0]])


def test_settings_are_flattened_to_dotted_keys():
    nested = {"a": {"b": 1, "c": {}}, "llm": [{"x": 1}, {"x": 2}], "d": [1, 2]}
    expected = {"a.b": 1, "a.c": {}, "llm.0.x": 1, "llm.1.x": 2, "d": [1, 2]}
    assert flatten(nested) == expected


def test_deleting_refuses_a_run_that_works(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    manager = ResultsManager(workspace)
    with Recorder(folder, read_status(folder)) as recorder:
        recorder.set(state="running")
        with pytest.raises(RunError, match="running"):
            manager.delete(folder.id)
        recorder.set(state="failed")
    manager.delete(folder.id)
    assert manager.list().empty
    assert not list(workspace.runs.iterdir())


def test_deleting_touches_nothing_outside_the_workspace(workspace, tmp_path):
    elsewhere = create_run(Workspace.at(tmp_path / "other"), small_config(tmp_path))
    with pytest.raises(RunError, match="workspace"):
        ResultsManager(workspace).delete(str(elsewhere.path))
    assert elsewhere.status.is_file()


def test_a_running_run_whose_process_is_dead_reads_as_interrupted(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    with Recorder(folder, read_status(folder)) as recorder:
        recorder.set(state="running")
        alive = recorder.status
        assert read_status(folder).state == "running"
    write_status(folder, replace(alive, pid_created="1.00"))
    assert read_status(folder).state == "interrupted"
    folder.cancel_request.touch()
    assert read_status(folder).state == "cancelled"


def test_a_queued_run_whose_process_never_came_reads_as_interrupted(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    assert read_status(folder).state == "queued"
    long_ago = "2020-01-01T00:00:00+00:00"
    write_status(folder, replace(read_status(folder), created=long_ago, heartbeat=long_ago))
    assert read_status(folder).state == "interrupted"


def test_progress_is_thinned_out_and_the_rest_is_kept(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    with Recorder(folder, read_status(folder)) as recorder:
        recorder.on_event(Event("ml", "start"))
        for done in range(1, 1001):
            recorder.on_event(Event("ml", "progress", "", done, 1000, "texts"))
        recorder.on_event(Event("ml", "done", data={"x": np.float64(1)}))
        recorder.set()
        assert read_status(folder).progress["total"] == 0
    events = read_jsonl(folder.events)
    assert [events[0]["status"], events[-1]["status"]] == ["start", "done"]
    assert events[-2]["done"] == 1000
    assert len(events) < 20


def test_a_line_that_a_killed_process_left_is_passed_over(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    folder.events.write_text('{"stage": "ml"}\n{"stage": "l')
    with Recorder(folder, read_status(folder)) as recorder:
        recorder.on_event(Event("llm", "start"))
    assert [event["stage"] for event in read_jsonl(folder.events)] == ["ml", "llm"]


def test_going_on_with_changed_data_is_an_error_that_says_so(workspace, tmp_path):
    folder = create_run(workspace, small_config(tmp_path))
    with (tmp_path / "tickets.csv").open("a") as file:
        file.write("X1,one more,billing\n")
    with pytest.raises(RunError, match=r"changed since the run began.*"):
        work(folder, workspace)
    assert read_status(folder).state == "failed"
    assert "tickets.csv" in (read_status(folder).error or "")


def test_a_finished_run_is_not_done_again(finished):
    workspace, ((folder, _), _) = finished
    with pytest.raises(RunError, match="finished already"):
        work(folder, workspace)
    assert read_status(folder).state == "finished"


def test_parts_of_an_unfinished_run_are_said_to_be_absent(workspace, tmp_path):
    run = ResultsManager(workspace).open(create_run(workspace, small_config(tmp_path)).id)
    for part in ("metrics", "predictions", "splits", "findings"):
        with pytest.raises(RunError, match="queued"):
            getattr(run, part)
    with pytest.raises(RunError, match="model"):
        run.model()
    assert run.events == []
    assert run.log == ""
    assert now() > run.status.created


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path):
    with pytest.raises(RunError, match="no run here"):
        read_status(RunFolder(tmp_path))
