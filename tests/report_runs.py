"""Real finished runs for the tests of reports: what the pipeline writes, not what tests imagine."""

from __future__ import annotations

import json
from pathlib import Path

from labelfusion.config import RunConfig
from labelfusion.runs import create_run
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.command_line import PRICES, asking_config
from tests.llm_server import running
from tests.run_data import SAMPLE, small_config

QUICK = {
    "ml": {"encoder": "tfidf", "folds": 2},
    "fusion": {"cv_folds": 2, "cv_repeats": 1},
    "evaluation": {"bootstrap_draws": 100},
}


def finished_run(root: Path, config: RunConfig, name: str) -> str:
    """Fit in this process; returns the id of a run in the workspace `root`."""
    workspace = Workspace.at(root)
    folder = create_run(workspace, config, name=name)
    work(folder, workspace)
    return folder.id


def tickets_run(root: Path) -> str:
    """160 tickets of several labels with recorded scores."""
    return finished_run(root, small_config(root), "small")


def reviews_run(root: Path) -> str:
    """160 multi-label reviews with recorded scores."""
    for file in ("reviews.csv", "reviews_llm_scores.csv"):
        lines = (SAMPLE / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (root / file).write_text("".join(lines[:161]), encoding="utf-8")
    labels = (root / "reviews.csv").read_text(encoding="utf-8").splitlines()[0].split(",")[2:]
    data = {"path": str(root / "reviews.csv"), "id_column": "id", "label_columns": labels}
    llm = [{"provider": "recorded", "path": str(root / "reviews_llm_scores.csv")}]
    config = RunConfig.from_dict(QUICK | {"data": data | {"multi_label": True}, "llm": llm})
    return finished_run(root, config, "reviews")


def asking_run(root: Path) -> str:
    """60 tickets about which a server was asked, at a known price."""
    with running() as (_, address):
        values = asking_config(root, address) | {"costs": {"prices": PRICES}}
        values["data"]["path"] = str(root / "tickets.csv")
        return finished_run(root, RunConfig.from_dict(values), "asking")


def make_old(folder: Path) -> None:
    """Take from a run's metrics.json what runs made before this version lack."""
    path = folder / "metrics.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    for entry in report["calibration"].values():
        del entry["reason"], entry["reliability"]
        del entry["before"]["ece_smooth"], entry["after"]["ece_smooth"]
    for system in report["systems"].values():
        del system["reliability"]["histogram"], system["metrics"]["ece_smooth"]
    del report["routing"]
    path.write_text(json.dumps(report), encoding="utf-8")
    (folder / "model" / "routing.json").unlink()
