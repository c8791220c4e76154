"""Training again with new labels: which run it follows, with what settings, and what it changed.

Puts runs, data-set versions and jobs together. Fits nothing itself.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from labelfusion.config import MLConfig, RunConfig
from labelfusion.datasets import StoredDataset
from labelfusion.errors import RunError
from labelfusion.labelling.change import Change, curve_points, suggested_rows, what_changed
from labelfusion.labelling.gain import Gain, estimate_gain
from labelfusion.labelling.suggestions import folder_of
from labelfusion.runs import ResultsManager, Run
from labelfusion.workspace import Workspace

CURVE_RUNS = 8


def runs_of(workspace: Workspace, stored: StoredDataset) -> list[Run]:
    """The finished runs on any version of the data set, the newest first."""
    manager = ResultsManager(workspace)
    listed = manager.list()
    finished = [manager.open(i) for i in listed.loc[listed["state"] == "finished", "id"]]
    return [run for run in finished if _is_of(run, stored)]


def _is_of(run: Run, stored: StoredDataset) -> bool:
    return Path(run.config.data.path or "").parent == stored.folder.resolve()


def next_config(stored: StoredDataset, before: Run | None, encoder: str) -> RunConfig:
    """The run before with the data as they are now; for the first one, `encoder` and any scores."""
    if before is not None:
        return before.config.model_copy(
            update={"data": stored.config, "name": stored.name, "seed": stored.seed}, deep=True
        )
    scores = stored.scores_config()
    return RunConfig(
        name=stored.name,
        seed=stored.seed,
        data=stored.config,
        ml=MLConfig(encoder=encoder),
        llm=[scores] if scores else [],
    )


def change_between(workspace: Workspace, name: str, before: Run, after: Run) -> Change:
    """What `after` changed, with what `before` had suggested for texts audited since.

    Raises RunError as `what_changed` does.
    """
    return what_changed(before, after, _suggested(workspace, name, [before]).get(before.id))


def _suggested(workspace: Workspace, name: str, runs: list[Run]) -> dict[str, pd.DataFrame]:
    """What runs have suggested and was kept, by run id."""
    paths = {run.id: folder_of(workspace, name) / f"{run.id}.parquet" for run in runs}
    return {run_id: suggested_rows(path) for run_id, path in paths.items() if path.is_file()}


def expected_gain(workspace: Workspace, name: str, runs: list[Run], more: int) -> Gain | None:
    """What `more` labels would bring by the runs there are; None without any test text."""
    whole = []
    for run in runs[:CURVE_RUNS]:
        try:
            if run.metrics["n"]["test"]:
                whole.append(run)
        except RunError:
            continue
    points = curve_points(whole, _suggested(workspace, name, whole))
    return estimate_gain(points, more) if points else None
