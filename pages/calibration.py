"""Calibration: whether a stated probability comes true as often as it says, before and after."""

from __future__ import annotations

import streamlit as st

from labelfusion.runs import Run
from labelfusion.ui import calibration_charts, charts, state, tables, widgets
from labelfusion.ui import calibration_tables as calibration

INTRO = (
    "Whether a probability can be taken at its word: of the texts given 90 %, nine in ten should "
    "be right."
)
TABS = ("Diagrams", "Every label", "Metrics")


def diagrams(run: Run) -> None:
    """The chosen system's diagrams, and why it is calibrated as it is."""
    report = run.metrics
    left, right = st.columns(2)
    with left:
        system = choose_system(run)
    with right:
        label = widgets.choose_label(run, together=True)
    shown = calibration.diagrams(report, system, label)
    if not shown[-1].bins:
        st.info("There were no test texts to draw a diagram from.")
        return
    for box, diagram in zip(widgets.figures("reliability", len(shown)), shown, strict=True):
        with box:
            chart = calibration_charts.reliability(diagram, system, label)
            widgets.show_chart(chart, f"reliability_{diagram.name}")
    st.caption(
        "Grey: where the points would lie if the probabilities were right, by chance alone. Bars "
        "at the points: the interval of what was observed."
        + (" Below: how often which probability was stated." if shown[-1].histogram else "")
    )
    if system != tables.FUSION:
        if len(shown) == 1:
            st.caption(
                "This run was made before diagrams of the raw scores were kept: retry it on the "
                "Jobs page to see them."
            )
        chosen_calibrator(run, system)


def choose_system(run: Run) -> str:
    systems = [tables.FUSION, *tables.sources_of(run.metrics)]
    names = {name: charts.system_name(name) for name in systems}
    return state.choose("System", "source", names)


def chosen_calibrator(run: Run, source: str) -> None:
    st.subheader("The calibrator", anchor=False)
    for sentence in calibration.why(run.metrics, source):
        st.markdown(f"- {widgets.escape(sentence)}")
    candidates = calibration.candidates_table(run.metrics, source)
    if not candidates.empty:
        st.caption("Cross-validated log loss of each candidate on the training texts, lowest first")
        widgets.table(candidates, "calibrators")


def every_label(run: Run) -> None:
    """All labels of a system, the furthest off first."""
    table = calibration.label_table(run.metrics, choose_system(run))
    if table.empty:
        st.info("There were no test texts to judge the labels by.")
        return
    worst = table.iloc[0]
    st.markdown(f"Furthest off: **{widgets.escape(worst['label'])}**.")
    st.caption(widgets.escape(worst["reading"]))
    shares = {name: st.column_config.NumberColumn(format="percent") for name in table.columns[2:5]}
    widgets.table(table, "label_calibration", columns=shares)
    st.caption("A label with few texts can be far off by chance: read the count beside it.")


def metrics(run: Run) -> None:
    """The metrics of probabilities, of each source before and after, and of the fusion."""
    table = calibration.quality_table(run.metrics)
    names = calibration.quality_names(run.metrics)
    columns = {
        key: st.column_config.NumberColumn(name, format="%.4f") for key, name in names.items()
    }
    table["system"] = [charts.system_name(name) for name in table["system"]]
    widgets.table(table, "calibration_metrics", columns=columns)
    st.caption(
        "Lower is better everywhere. Log loss and Brier score judge a probability as a whole; the "
        "calibration errors only whether it comes true as often as it says. Before and after are "
        "on the texts that the source answered."
    )


with widgets.page("Calibration", INTRO):
    subject = widgets.choose_finished_run()
    widgets.tabs(TABS, (diagrams, every_label, metrics), subject)
