"""Results: how right the fusion is beside each source, where it errs, and why it was chosen."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from labelfusion.evaluation.words import NO_METRICS
from labelfusion.runs import Run
from labelfusion.ui import charts, classify_charts, state, tables, widgets

INTRO = "How right each system is on the test texts, which were kept from all training."
TABS = ("Summary", "Labels", "Confusion", "Why this fusion", "Compare runs", "Export")
PERCENT = {"format": "percent", "min_value": 0.0, "max_value": 1.0}


def summary(run: Run) -> None:
    """Headline figures, the paired tests in words, and the intervals of one metric."""
    report = run.metrics
    cards(report, tables.primary_metric(report))
    for sentence in tables.comparison_sentences(report):
        st.markdown(f"- {widgets.escape(sentence)}")
    metrics = {metric.key: metric for metric in tables.metrics_of(report)}
    primary = list(metrics).index(report["task"]["primary"])
    key = st.selectbox("Metric", list(metrics), primary, format_func=lambda k: metrics[k].name)
    values = tables.metric_table(report, metrics[key])
    chart = charts.forest(values, metrics[key], run.config.evaluation.confidence)
    widgets.show_chart(chart, "forest")
    with st.expander("All metrics as a table"):
        widgets.table(tables.all_metrics_table(report), "metrics")


def cards(report: dict, metric: tables.Metric) -> None:
    values = tables.metric_table(report, metric)
    st.caption(f"{metric.name} on the test texts, with intervals; fusion against the best source")
    for box, row in zip(st.columns(len(values)), values.to_dict("records"), strict=True):
        gain = None
        best = tables.best_source(report, metric)
        if row["system"] == tables.FUSION and best:
            reference = values.set_index("system")["value"][best]
            gain = metric.show_difference(row["value"] - reference)
        with box.container(border=True, height="stretch"):
            st.metric(charts.system_name(row["system"]), metric.show(row["value"]), gain)
            st.caption(f"{metric.show(row['low'])} to {metric.show(row['high'])}")


def labels(run: Run) -> None:
    report = run.metrics
    per_label = tables.per_label_table(report)
    sources = tables.sources_of(report)
    widgets.show_chart(charts.label_f1(per_label, sources), "label_f1")
    bar = st.column_config.ProgressColumn
    shares = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
    shares |= {f"f1_{name}": f"F1 of {charts.system_name(name)}" for name in sources}
    columns = {key: bar(name, width="small", **PERCENT) for key, name in shares.items()}
    columns |= {"support": st.column_config.NumberColumn("Test texts")}
    columns |= {"predicted": st.column_config.NumberColumn("Predicted")}
    st.markdown("**Every label.** Click a heading to sort.")
    widgets.table(per_label, "per_label", columns=columns)


def confusion(run: Run) -> None:
    report = run.metrics
    systems = [tables.FUSION, *tables.sources_of(report)]
    system = st.segmented_control(
        "System", systems, default=tables.FUSION, format_func=charts.system_name, required=True
    )
    if report["task"]["multi_label"]:
        counts = tables.binary_confusion_table(report, system)
        widgets.show_chart(charts.label_counts(counts, system), f"counts_{system}")
        return
    cells = tables.confusion_table(report, system)
    chart = charts.confusion(cells, report["task"]["labels"], system)
    if system != tables.FUSION:
        widgets.show_chart(chart, f"confusion_{system}")
        return
    event = widgets.show_chart(chart, "confusion", selectable=charts.SELECTION)
    texts_of_cells(run, event.selection.get(charts.SELECTION) or [])


def texts_of_cells(run: Run, cells: list[dict[str, str]]) -> None:
    """The test texts of the clicked cells; all errors while nothing is clicked."""
    task_labels = run.metrics["task"]["labels"]
    wanted = [(cell["gold"], cell["predicted"]) for cell in cells]
    if wanted:
        named = "; ".join(f"{gold} called {predicted}" for gold, predicted in wanted)
        st.markdown(f"**Test texts: {widgets.escape(named)}**")
    else:
        st.markdown("**All wrong test texts.** Click a cell of the matrix to see its texts.")
        wanted = [(g, p) for g in task_labels for p in task_labels if g != p]
    rows = tables.rows_in_cells(run.predictions, wanted, task_labels)
    widgets.table(with_texts(run, rows), "errors", name=f"{run.id}_texts")


def with_texts(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with the text of each id, where the data file is still the one that was used."""
    if not state.data_is_there(run):
        st.caption("The data file has been moved or changed since, so texts are not shown.")
        return rows
    dataset = state.open_dataset(run.config.data)
    texts = dict(zip(dataset.ids.tolist(), dataset.texts, strict=True))
    return rows.assign(text=[texts.get(i, "") for i in rows["id"]])


def choice(run: Run) -> None:
    report = run.metrics
    st.markdown(f"**{widgets.escape((report.get('choice') or {}).get('reason') or '')}**")
    candidates = tables.candidates_table(report)
    if candidates.empty:
        st.info("This run had nothing to choose between.")
    else:
        widgets.show_chart(charts.candidates(candidates), "candidates")
    part = report.get("contributions") or {}
    if part.get("rows"):
        widgets.show_chart(classify_charts.contributions(part), "contributions")
    else:
        st.caption("This run keeps no contributions over all texts: train again to have them.")


def predictions(run: Run) -> None:
    """What a run without test texts said of its texts."""
    widgets.table(with_texts(run, run.predictions), "predictions")


def compare(run: Run) -> None:
    finished = state.manager().list().query("state == 'finished' and id != @run.id")
    if finished.empty:
        widgets.empty("There is no other finished run.", "pages/train.py", "Train another one")
        return
    # Runs of the same name first: they are most often what one wants to compare with.
    others = sorted(finished.to_dict("records"), key=lambda row: row["name"] != run.status.name)
    names = {row["id"]: f"{row['name']} · {row['id']}" for row in others}
    other = state.choose("Compare with", "with", names)
    comparison = state.manager().compare([run.id, other])
    st.caption(f"{comparison.shared_rows:,} texts were predicted by both runs.")
    if run.status.data["sha256"] != state.open_run(other).status.data["sha256"]:
        st.warning("The runs used different data: rows with the same id may be different texts.")
    st.markdown("**Metrics**")
    widgets.table(comparison.metrics.reset_index(), "compare_metrics")
    st.markdown("**Settings that differ**")
    widgets.table(comparison.config.reset_index().astype(str), "compare_settings")
    st.markdown(f"**Texts whose prediction changed: {len(comparison.changed):,}**")
    widgets.table(comparison.changed, "compare_texts")


def export(run: Run) -> None:
    st.caption("Cells that a spreadsheet would run as a formula begin with a quote in the CSV.")
    files = {"Model card": run.folder.model_card, "Metrics (JSON)": run.folder.metrics}
    with st.container(horizontal=True):
        st.download_button(
            "Predictions (CSV)",
            lambda: tables.safe_csv(run.predictions),
            f"{run.id}_predictions.csv",
            on_click="ignore",
        )
        for label, path in files.items():
            name = f"{run.id}_{path.name}"
            st.download_button(label, path.read_bytes(), name, on_click="ignore")
    st.caption(f"The whole run is a folder: {widgets.escape(str(run.folder.path))}")
    with st.expander("The model card"), st.container(height=420):
        st.markdown(run.folder.model_card.read_text(encoding="utf-8"))


UNTESTED_TABS, UNTESTED_SECTIONS = ("Predictions", *TABS[3::2]), (predictions, choice, export)
SECTIONS = (summary, labels, confusion, choice, compare, export)

with widgets.page("Results", INTRO):
    all_runs = state.manager().list()
    if all_runs.empty:
        widgets.empty("There is no run yet.", "pages/train.py", "Train a model")
        st.stop()
    names = {
        run["id"]: f"{run['name']} · {run['state']} · {run['id']}"
        for run in all_runs.to_dict("records")
    }
    chosen = state.open_run(state.choose("Run", "run", names))
    if chosen.status.state != "finished":
        st.info(f"This run is {chosen.status.state}, so there are no results yet.")
        st.page_link("pages/jobs.py", label="See the job →", query_params={"run": chosen.id})
        st.stop()
    counts = chosen.metrics["n"]
    st.caption(f"{counts['train']:,} texts for training, {counts['test']:,} for the test.")
    if counts["test"]:
        widgets.tabs(TABS, SECTIONS, chosen)
    else:
        st.info(NO_METRICS)
        st.caption(f"{counts['predicted']:,} texts without a label were labelled by this run.")
        widgets.tabs(UNTESTED_TABS, UNTESTED_SECTIONS, chosen)
