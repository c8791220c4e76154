import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from labelfusion.cli.app_command import find_script
from labelfusion.cli.output import without_secrets
from labelfusion.config import RunConfig
from labelfusion.errors import InputError
from labelfusion.fusion.routing import RoutingPolicy
from tests.run_data import SAMPLE, small_config

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MY_API_KEY": "key-0123456789"}


def labelfusion(*arguments, cwd, **options):
    """Run the command as a user would; returns the finished process."""
    environment = os.environ | ENVIRONMENT | options.pop("env", {})
    command = [sys.executable, "-m", "labelfusion", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, **options
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a config, a workspace "ws" and one run; with the JSON that train printed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.yaml").write_text(small_config(folder).to_yaml())
    done = labelfusion(
        "train", "--config", "config.yaml", "--workspace", "ws", "--json", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


LOADED = """
import sys
from labelfusion.cli import app
heavy = {"numpy", "pandas", "pydantic", "torch", "sklearn", "streamlit"}
print(sorted(heavy & set(sys.modules)))
"""


def test_help_and_version_load_nothing_heavy(tmp_path):
    done = labelfusion("--help", cwd=tmp_path)
    assert done.returncode == 0
    commands = ("create-config", "train", "predict", "fuse", "runs", "app", "doctor")
    assert all(command in done.stdout for command in commands)
    assert labelfusion("--version", cwd=tmp_path).stdout == "labelfusion 0.1.0\n"
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


BAD_INPUT = {
    "no config": (["train", "--config", "absent.yaml"], "absent.yaml"),
    "neither config nor run": (["train"], "give a configuration, or labelled data"),
    "two configs": (["train", "a.yaml", "--config", "b.yaml"], "not both"),
    "scores of a config": (["train", "a.yaml", "--scores", "s.csv"], "names its own scores"),
    "no such data to train on": (["train", "absent.csv"], "absent.csv"),
    "data without labels": (["train", SAMPLE / "tickets_llm_scores.csv"], "No label column"),
    "both": (["train", "--config", "x.yaml", "--resume", "last"], "alone"),
    "unknown option": (["train", "--nonsense"], "--nonsense"),
    "no data": (["create-config", "c.yaml", "--data", "absent.csv"], "absent.csv"),
    "kind": (
        ["fuse", "--train", "a", "--test", "b", "--sources", "ml", "--kind", "x"],
        "SOURCE=KIND",
    ),
    "output": (["predict", "last", "x.csv", "--out", "x.docx"], ".parquet"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_input_that_cannot_be_used_is_exit_code_2_and_no_traceback(tmp_path, arguments, said):
    done = labelfusion(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_fails_is_exit_code_1(tmp_path):
    done = labelfusion("runs", "show", "last", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There are no runs yet" in done.stderr


UNFORESEEN = """
import os, sys
from labelfusion import files
from labelfusion.cli import main
def fail(*_): raise KeyError(os.environ["MY_API_KEY"])
files.write_text = fail
sys.exit(main())
"""


def test_an_unforeseen_error_is_short_and_its_traceback_is_kept_without_keys(tmp_path):
    arguments = ["create-config", "c.yaml", "--data", str(SAMPLE / "tickets.csv")]
    environment = os.environ | ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", UNFORESEEN, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (kept,) = tmp_path.glob("labelfusion-*.txt")
    assert str(kept) in done.stderr
    assert "Traceback" not in done.stderr
    text = kept.read_text()
    assert "KeyError" in text
    assert "create_config.py" in text
    assert "key-0123456789" not in text + done.stderr
    assert kept.stat().st_mode & 0o077 == 0


def test_the_values_of_secret_variables_are_taken_out(monkeypatch):
    monkeypatch.setenv("THEIR_TOKEN", "abcdefghij")
    assert without_secrets("sent abcdefghij") == "sent [THEIR_TOKEN removed]"


def test_ctrl_c_is_130_and_leaves_the_run_to_be_resumed(tmp_path):
    (tmp_path / "config.yaml").write_text(small_config(tmp_path).to_yaml())
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests/job_process.py", "train", "--config", "config.yaml"],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT | {"TEST_GATES": str(tmp_path)},
        # A shell that runs the tests in the background has SIGINT ignored, and children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "gate" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    process.stderr.close()
    assert "Traceback" not in rest
    shown = labelfusion("runs", "show", "last", "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["status"]["state"] == "interrupted"
    done = labelfusion("train", "--resume", "last", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fusion"]["accuracy"] > 0.5


def test_a_closed_pipe_is_quiet(trained):
    folder, _, _ = trained
    command = f"{sys.executable} -m labelfusion runs show last --workspace ws | true"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["tickets", "reviews"])
def test_a_created_config_is_commented_relative_and_can_be_loaded(tmp_path, name):
    for file in (f"{name}.csv", f"{name}_llm_scores.csv"):
        (tmp_path / file).write_bytes((SAMPLE / file).read_bytes())
    arguments = ["create-config", "c.yaml", "--data", f"{name}.csv"]
    arguments += ["--scores", f"{name}_llm_scores.csv"]
    assert labelfusion(*arguments, cwd=tmp_path).returncode == 0
    text = (tmp_path / "c.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["data"]["path"] == f"{name}.csv"
    assert f"  path: {name}.csv\n" in text
    assert "# 'text' is the text" in text
    config = RunConfig.load(tmp_path / "c.yaml")
    assert config.data.path == str(tmp_path / f"{name}.csv")
    assert config.data.multi_label is (name == "reviews")
    assert config.llm[0].kind == "probabilities"
    (tmp_path / "c.yaml").write_text("mine")
    again = labelfusion(*arguments, cwd=tmp_path)
    assert (again.returncode, (tmp_path / "c.yaml").read_text()) == (2, "mine")
    assert labelfusion(*arguments, "--force", cwd=tmp_path).returncode == 0


def test_train_prints_one_json_object_and_progress_elsewhere(trained):
    folder, printed, progress = trained
    assert Path(printed["run"]).parent == folder / "ws" / "runs"
    assert printed["sources"].keys() == {"ml", "llm"}
    for figures in (printed["fusion"], *printed["sources"].values()):
        assert figures.keys() == {"accuracy", "macro_f1", "nll"}
    assert printed["chosen"] in {candidate["name"] for candidate in printed["candidates"]}
    assert "[ml]" in progress
    assert "\r" not in progress


def test_data_alone_is_trained_on_with_its_layout_guessed_and_said(trained, tmp_path):
    folder, printed, _ = trained
    quick = ("fusion.cv_repeats=1", "ml.encoder=tfidf", "evaluation.bootstrap_draws=100")
    done = labelfusion(
        "train",
        folder / "tickets.csv",
        "--scores",
        folder / "tickets_llm_scores.csv",
        *(word for setting in quick for word in ("--set", setting)),
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "'label' is the label" in done.stderr
    told = json.loads(done.stdout)
    assert told["n"]["test"] == printed["n"]["test"]
    assert set(told["sources"]) == {"ml", "llm"}


def test_a_setting_is_overridden_and_a_misspelt_one_is_named(trained, tmp_path):
    folder, _, _ = trained
    config = ["train", "--config", folder / "config.yaml", "--workspace", tmp_path / "ws"]
    wrong = labelfusion(*config, "--set", "ml.fold=3", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "folds" in wrong.stderr
    assert not (tmp_path / "ws").exists()
    done = labelfusion(*config, "--set", "fusion.method=ml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Chosen: ml" in done.stdout


def read_table(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_csv(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predict_keeps_the_columns_and_adds_the_prediction(trained, suffix):
    folder, _, _ = trained
    given = pd.read_csv(SAMPLE / "tickets.csv").iloc[150:170].drop(columns="label")
    given.to_csv(folder / "new.csv", index=False)
    out = folder / f"out{suffix}"
    arguments = ["predict", "last", "new.csv", "--out", out, "--workspace", "ws"]
    done = labelfusion(*arguments, "--contributions", cwd=folder)
    assert done.returncode == 0, done.stderr
    table = read_table(out)
    assert table["id"].tolist() == given["id"].tolist()
    assert table["text"].tolist() == given["text"].tolist()
    p = table.filter(regex="^p_")
    assert np.allclose(p.sum(axis=1), 1)
    assert ("p_" + table["prediction"]).tolist() == p.idxmax(axis=1).tolist()
    assert table["llm_present"].sum() == 10  # the run's scores hold the first 160 tickets
    assert table["ml_present"].all()
    assert table.filter(regex="^contribution_").shape[1] == 2 * p.shape[1]
    again = labelfusion(*arguments, cwd=folder)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_predict_can_do_without_the_llm_or_take_other_scores(trained):
    folder, _, _ = trained
    given = pd.read_csv(SAMPLE / "tickets.csv").iloc[200:210].drop(columns="label")
    given.to_csv(folder / "others.csv", index=False)
    base = ["predict", "last", "others.csv", "--workspace", "ws", "--force"]
    present = {}
    for name, extra in {
        "no": ["--no-llm"],
        "own": ["--scores", SAMPLE / "tickets_llm_scores.csv"],
    }.items():
        done = labelfusion(*base, "--out", f"{name}.csv", *extra, cwd=folder)
        assert done.returncode == 0, done.stderr
        present[name] = pd.read_csv(folder / f"{name}.csv")["llm_present"]
    assert not present["no"].any()
    assert present["own"].all()


def test_predict_obeys_the_saved_routing_unless_told_otherwise(trained):
    folder, _, _ = trained
    model = next((folder / "ws" / "runs").iterdir()) / "model"
    saved = RoutingPolicy.load(model)
    given = pd.read_csv(SAMPLE / "tickets.csv").drop(columns="label")
    given.to_csv(folder / "routed.csv", index=False)
    base = ["predict", "last", "routed.csv", "--workspace", "ws", "--force", "--out", "out.csv"]
    base += ["--scores", SAMPLE / "tickets_llm_scores.csv"]
    sent = {}
    try:
        RoutingPolicy("margin", 0.5, 0.5, "for this test").save(model)
        for name in ("saved", "always"):
            done = labelfusion(*base, "--routing", name, cwd=folder)
            assert done.returncode == 0, done.stderr
            sent[name] = pd.read_csv(folder / "out.csv")["llm_present"]
    finally:
        saved.save(model)
    assert saved.policy == "always"
    assert 0 < sent["saved"].mean() < 1
    assert sent["always"].all()
    assert labelfusion(*base, "--routing", "never", cwd=folder).returncode == 2


def test_runs_are_listed_shown_compared_and_deleted(trained, tmp_path):
    folder, _, _ = trained
    workspace = ["--workspace", tmp_path / "ws"]
    for method in ("ml", "llm"):
        config = ["--config", folder / "config.yaml", "--set", f"fusion.method={method}"]
        assert labelfusion("train", *config, *workspace, cwd=tmp_path).returncode == 0
    listed = json.loads(labelfusion("runs", "list", "--json", *workspace, cwd=tmp_path).stdout)
    ids = [run["id"] for run in listed["runs"]]
    assert len(ids) == 2
    compared = labelfusion("runs", "compare", *ids, "--json", *workspace, cwd=tmp_path)
    assert {row["setting"] for row in json.loads(compared.stdout)["config"]} == {"fusion.method"}
    shown = labelfusion("runs", "show", ids[0], *workspace, cwd=tmp_path)
    assert "finished" in shown.stdout
    assert labelfusion("runs", "delete", ids[0], *workspace, cwd=tmp_path).returncode == 0
    left = labelfusion("runs", "list", *workspace, cwd=tmp_path).stdout
    assert ids[1] in left
    assert ids[0] not in left


def test_the_doctor_tells_of_keys_only_whether_they_are_set(tmp_path):
    environment = {"OPENAI_API_KEY": "sk-not-to-be-shown"}
    done = labelfusion("doctor", "--json", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["keys"]["openai"] is True
    assert "sk-not-to-be-shown" not in done.stdout + done.stderr
    assert found["packages"]["numpy"]
    assert found["encoder"]["ok"] is True
    assert len(found["encoder"]["sha256"]) == 64


def test_the_app_needs_its_files_and_says_so(tmp_path):
    with pytest.raises(InputError, match=r"app\.py"):
        find_script([tmp_path])
    (tmp_path / "app.py").touch()
    (tmp_path / "pages").mkdir()
    assert find_script([tmp_path]) == tmp_path / "app.py"
