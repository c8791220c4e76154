"""Overview: what LabelFusion is, what there is, and the way in."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from labelfusion import jobs
from labelfusion.config import MLConfig, RunConfig
from labelfusion.surroundings import look_around
from labelfusion.ui import state, widgets
from labelfusion.ui.charts import system_name
from labelfusion.ui.tables import metric_called

INTRO = (
    "LabelFusion trains a text encoder on your labelled texts, adds the scores of an LLM, and "
    "fuses the two.  \nIt shows how right each one is on texts it has not seen, and keeps the "
    "fusion only where it is better."
)
LAST_RUNS = 5


def try_sample() -> None:
    """Copy the sample tickets into the workspace and train on them in the background."""
    stored = state.store().add_sample("tickets")
    scores = stored.scores_config()
    config = RunConfig(
        name=stored.name, data=stored.config, ml=MLConfig(), llm=[scores] if scores else []
    )
    run_id = jobs.start(state.workspace(), config, name=stored.name)
    widgets.go_to("pages/jobs.py", run=run_id, dataset=stored.name)


def way_in() -> None:
    clicked = st.button("Try it on the sample tickets", type="primary")
    st.caption(
        "460 synthetic support tickets in 7 labels, with LLM scores made beforehand: needs no key "
        "and no internet, and takes less than a minute."
    )
    if clicked:
        try_sample()


def under_way(runs: pd.DataFrame) -> None:
    st.subheader("Jobs under way", anchor=False)
    active = runs.loc[runs["state"].isin(["queued", "running"]), :]
    if active.empty:
        st.caption("None. A job is started on the Train page.")
    for run in active.to_dict(orient="records"):
        label = f"{run['name']}: {run['state']}"
        st.page_link("pages/jobs.py", label=f"{label} →", query_params={"run": run["id"]})


def last_runs(runs: pd.DataFrame) -> None:
    st.subheader("Last runs", anchor=False)
    finished = runs.loc[runs["state"] == "finished", :]
    if finished.empty:
        widgets.empty("No run is finished yet.", "pages/train.py", "Train one")
        return
    for run in finished.head(LAST_RUNS).to_dict(orient="records"):
        with st.container(border=True):
            headline(run, before(finished, run))
    history(finished)


def before(finished: pd.DataFrame, run: dict) -> list[float]:
    """The figure of the runs of this name up to this one, the oldest first."""
    same = finished["name"].eq(run["name"]) & finished["metric"].eq(run["metric"])
    earlier = same & finished["created"].le(run["created"]) & finished["fusion"].notna()
    return finished.loc[earlier, "fusion"].tolist()[::-1]


def headline(run: dict, line: list[float]) -> None:
    """A run: its name as a link, the fusion's figure and the best source's."""
    metric = metric_called(run["metric"])
    when = (
        f"{run['created'][:16].replace('T', ' ')} UTC, {run['test']:,.0f} test texts, {run['id']}"
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        target = {"run": run["id"]}
        st.page_link("pages/results.py", label=f"**{run['name']}** →", query_params=target)
        st.caption(when)
    gain = None
    fused, source = st.columns(2)
    if pd.notna(run["best_source_value"]):
        gain = metric.show_difference(run["fusion"] - run["best_source_value"])
        best = f"Best source: {system_name(run['best_source'])}"
        source.metric(best, metric.show(run["best_source_value"]))
    drawn = [100 * value for value in line] if len(line) > 1 else None
    name = f"Fusion: {metric.name}"
    fused.metric(name, metric.show(run["fusion"]), gain, chart_data=drawn, chart_type="line")


def history(finished: pd.DataFrame) -> None:
    columns = ["id", "name", "created", "metric", "fusion", "best_source", "best_source_value"]
    if unfolded := widgets.fold(f"All {len(finished)} finished runs as a table", "runs_fold"):
        with unfolded:
            widgets.table(finished.loc[:, columns], "runs")


def data_sets() -> None:
    st.subheader("Data sets", anchor=False)
    stored = state.store().list()
    if not stored:
        widgets.empty("There is no data set yet.", "pages/data.py", "Upload a file")
    for one in stored:
        scores = f", LLM scores for {one.scores.covered:,}" if one.scores else ""
        st.page_link("pages/data.py", label=f"**{one.name}** →", query_params={"dataset": one.name})
        st.caption(f"{one.version.rows:,} rows, version {one.current}{scores}")


def spend() -> None:
    st.subheader("LLM spend", anchor=False)
    today, month = st.columns(2)
    today.metric("Today", state.spend_today())
    month.metric("This month", state.spend_this_month())
    st.caption("Days and months of UTC.")


def surroundings() -> None:
    st.subheader("This computer", anchor=False)
    for check in look_around(state.workspace()):
        mark = "✓" if check.ok else "✗"
        remedy = f"  \n{widgets.escape(check.remedy)}" if check.remedy else ""
        st.caption(f"{mark} **{check.name}**: {widgets.escape(check.found)}{remedy}")
    st.caption(f"Workspace: {widgets.escape(str(state.workspace().root))}")


with widgets.page("Overview", INTRO):
    way_in()
    st.divider()
    all_runs = state.manager().list()
    under_way(all_runs)
    last_runs(all_runs)
    left, right = st.columns(2, gap="large")
    with left:
        data_sets()
        spend()
    with right:
        surroundings()
