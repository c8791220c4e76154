"""Jobs: what is queued and under way, live, and what became of it. All of it from run folders."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from labelfusion.prediction_job import list_predictions
from labelfusion.runs import Status
from labelfusion.ui import job_panel, state, widgets

SHOWN_FILES = 10
INTRO = "Every run of this workspace. Closing the browser stops nothing."


def listed(runs: pd.DataFrame) -> None:
    if unfolded := widgets.fold(f"All {len(runs)} runs as a table", "jobs_fold"):
        columns = ["name", "state", "created", "seconds", "reason", "id"]
        with unfolded:
            widgets.table(runs.loc[:, columns], "jobs")


def files_labelled(files: list[Status]) -> None:
    """Files that are or were labelled in the background, each with a way to it."""
    with st.expander(f"Files labelled: {len(files)}", expanded=any(f.active for f in files)):
        for one in files[:SHOWN_FILES]:
            label = f"{one.name}: {job_panel.STATES[one.state]}"
            target = {"prediction": one.id, "tab": "A file"}
            st.page_link("pages/classify.py", label=f"{label} →", query_params=target)


with widgets.page("Jobs", INTRO):
    all_runs = state.manager().list()
    files = list_predictions(state.workspace())
    if files:
        files_labelled(files)
    if all_runs.empty:
        widgets.empty("Nothing has been trained yet.", "pages/train.py", "Train a model")
        st.stop()
    names = {
        run["id"]: f"{run['name']} · {run['state']} · {run['id']}"
        for run in all_runs.to_dict("records")
    }
    chosen = state.choose("Run", "run", names)
    job_panel.show(chosen)
    listed(all_runs)
