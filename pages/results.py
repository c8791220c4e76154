"""Results: how right the fusion is beside each source, where it errs, and why it was chosen."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from labelfusion.evaluation.curves import precision_recall, roc
from labelfusion.evaluation.words import NO_METRICS
from labelfusion.report_html import report_html
from labelfusion.runs import Run
from labelfusion.ui import (
    charts,
    curve_charts,
    decisions,
    result_panels,
    state,
    tables,
    widgets,
)

INTRO = "How right each system is on the test texts, which were kept from all training."
TABS = (
    *("Summary", "Labels", "Confusion", "Curves", "Thresholds", "Why this fusion"),
    *("Compare runs", "Export"),
)
MCNEMAR = (
    "McNemar's test looks only at the texts where one is right and the other wrong; p is how often "
    "chance alone would divide them as unevenly."
)
FOUR_DIGITS = st.column_config.NumberColumn(format="%.4f")
PERCENT = {"format": "percent", "min_value": 0.0, "max_value": 1.0}


def summary(run: Run) -> None:
    """Headline figures, the paired tests in words, and the intervals of one metric."""
    report = run.metrics
    cards(report, tables.primary_metric(report))
    paired = tables.comparison_sentences(report)
    for sentence in paired:
        st.markdown(f"- {widgets.escape(sentence)}")
    if any("McNemar" in sentence for sentence in paired):
        st.caption(MCNEMAR)
    metrics = {metric.key: metric for metric in tables.metrics_of(report)}
    primary = list(metrics).index(report["task"]["primary"])
    key = st.selectbox("Metric", list(metrics), primary, format_func=lambda k: metrics[k].name)
    values = tables.metric_table(report, metrics[key])
    chart = charts.forest(values, metrics[key], run.config.evaluation.confidence)
    widgets.show_chart(chart, "forest")
    if unfolded := widgets.fold("All metrics as a table", "metrics_fold"):
        with unfolded:
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
    texts_of_cells(run, widgets.show_chart(chart, "confusion", selectable=charts.SELECTION))


def texts_of_cells(run: Run, cells: list[dict[str, str]]) -> None:
    """The test texts of the clicked cells; all errors while nothing is clicked."""
    task_labels = run.metrics["task"]["labels"]
    wanted = [(cell["gold"], cell["predicted"]) for cell in cells]
    if wanted:
        named = "; ".join(f"{gold} called {predicted}" for gold, predicted in wanted)
        st.markdown(f"**Test texts: {widgets.escape(named)}**")
        for gold, predicted in wanted:
            query = {"run": run.id, "gold": gold, "predicted": predicted, "split": "test"}
            label = widgets.escape(f"Look into {gold} called {predicted} →")
            st.page_link("pages/errors.py", label=label, query_params=query)
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


def curves(run: Run) -> None:
    """Precision-recall and ROC of the fusion on the test texts, for one label or all."""
    label = widgets.choose_label(run, together=True)
    rows = state.rows_of(run, "test")
    observed, scores = rows.pairs(label)
    points, what = decisions.operating_points(run.metrics, label), label or "all labels together"
    left, right = widgets.figures("curves", 2)
    found = [precision_recall(observed, scores), roc(observed, scores)]
    if found[0] and found[1]:
        with left:
            share = float(observed.mean())
            chart = curve_charts.precision_recall(found[0], points, share, what)
            widgets.show_chart(chart, "precision_recall")
        with right:
            widgets.show_chart(curve_charts.roc(found[1], points, what), "roc")
    else:
        st.info("A curve needs test texts with the label and others without it.")
    if label is None:
        st.caption("Every pair of a text and a label counts once, so frequent labels weigh most.")
    if unfolded := widgets.fold("Every label as a table", "areas_fold"):
        with unfolded:
            widgets.table(decisions.curve_table(rows), "areas")


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
    numbers = dict.fromkeys(comparison.metrics.columns, FOUR_DIGITS)
    numbers["difference"] = st.column_config.NumberColumn("Difference", format="%+.4f")
    widgets.table(tables.compared_table(comparison.metrics), "compare_metrics", columns=numbers)
    st.markdown("**Settings that differ**")
    widgets.table(comparison.config.reset_index().astype(str), "compare_settings")
    st.markdown(f"**Texts whose prediction changed: {len(comparison.changed):,}**")
    widgets.table(with_texts(run, comparison.changed), "compare_texts")


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
        st.download_button(
            "Report (HTML)",
            lambda: report_html(run).encode("utf-8"),
            f"{run.id}_report.html",
            mime="text/html",
            on_click="ignore",
        )
        for label, path in files.items():
            name = f"{run.id}_{path.name}"
            st.download_button(label, path.read_bytes(), name, on_click="ignore")
    st.caption(f"The whole run is a folder: {widgets.escape(str(run.folder.path))}")
    st.caption("The same report from the command line:")
    st.code(f"labelfusion report {run.id} --out report.html", language="bash")
    with st.expander("The model card"), st.container(height=420):
        st.markdown(run.folder.model_card.read_text(encoding="utf-8"))


SECTIONS = (
    *(summary, labels, confusion, curves, result_panels.thresholds, result_panels.why),
    *(compare, export),
)
UNTESTED_TABS = ("Predictions", "Why this fusion", "Export")
UNTESTED_SECTIONS = (predictions, result_panels.why, export)

with widgets.page("Results", INTRO):
    chosen = widgets.choose_finished_run()
    counts = chosen.metrics["n"]
    st.caption(f"{counts['train']:,} texts for training, {counts['test']:,} for the test.")
    if counts["test"]:
        widgets.tabs(TABS, SECTIONS, chosen)
    else:
        st.info(NO_METRICS)
        st.caption(f"{counts['predicted']:,} texts without a label were labelled by this run.")
        widgets.tabs(UNTESTED_TABS, UNTESTED_SECTIONS, chosen)
