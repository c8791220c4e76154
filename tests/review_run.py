"""A small finished run on a data set of a workspace, to be reviewed in tests."""

from __future__ import annotations

from pathlib import Path

from labelfusion.config import RunConfig
from labelfusion.datasets import DatasetStore, StoredDataset
from labelfusion.runs import ResultsManager, Run, create_run
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.run_data import small_config

ASPECTS = ["comfort", "durability", "app_experience", "content", "value", "support", "setup"]
ASPECTS += ["results"]
SAMPLE = Path(__file__).parent.parent / "sample_data"


def tickets_run(workspace: Workspace, folder: Path) -> tuple[Run, StoredDataset]:
    """160 tickets, TF-IDF and recorded scores."""
    folder.mkdir(exist_ok=True)
    return _trained(workspace, small_config(folder, "desk"))


def reviews_run(workspace: Workspace, folder: Path) -> tuple[Run, StoredDataset]:
    """160 reviews, which may have several labels."""
    folder.mkdir(exist_ok=True)
    for file in ("reviews.csv", "reviews_llm_scores.csv"):
        lines = (SAMPLE / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / file).write_text("".join(lines[:161]), encoding="utf-8")
    config = small_config(folder, "shop")
    data = {"path": str(folder / "reviews.csv"), "id_column": "id", "label_columns": ASPECTS}
    config = config.updated({"data": data | {"label_column": None}})
    config.llm[0].path = str(folder / "reviews_llm_scores.csv")
    return _trained(workspace, config)


def _trained(workspace: Workspace, config: RunConfig) -> tuple[Run, StoredDataset]:
    stored = DatasetStore(workspace).adopt(config.data, config.seed)
    config = config.model_copy(update={"data": stored.config})
    folder = create_run(workspace, config)
    work(folder, workspace)
    return ResultsManager(workspace).open(folder.id), stored
