"""Parts of the Results page: a label's threshold, and why the fusion is what it is.

Draws with Streamlit. What a threshold changes and what a source is worth, others compute.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
from scipy.special import logit

from labelfusion import operating_point
from labelfusion.fusion.decisions import DecisionRule
from labelfusion.runs import Run
from labelfusion.ui import (
    charts,
    classify_charts,
    curve_charts,
    decisions,
    source_charts,
    state,
    tables,
    widgets,
)

OVERLAP_COLUMNS = {
    "pair": "Sources",
    "texts": "Test texts both answered",
    "agreement": st.column_config.NumberColumn("They agree", format="percent"),
    "error_correlation": st.column_config.NumberColumn("Correlation of errors", format="%.2f"),
}


def thresholds(run: Run) -> None:
    """Multi-label: what another threshold of a label changes, and saving it with the model."""
    if not run.metrics["task"]["multi_label"]:
        st.info("Each text has exactly one label: the most probable one wins, without thresholds.")
        return
    label = widgets.choose_label(run, together=False)
    assert label is not None
    rule = operating_point.saved_rule(run)
    saved = dict(zip(run.metrics["task"]["labels"], rule.probabilities.tolist(), strict=True))
    tried = st.session_state.setdefault(f"thresholds_{run.id}", {})
    st.caption(
        "Choose thresholds by the out-of-fold figures. The test texts are for looking once at the "
        "end: a threshold that is chosen on them makes their figures too good."
    )
    key = f"threshold_{run.id}_{label}"
    st.session_state.setdefault(key, round(tried.get(label, saved[label]), 2))
    tried[label] = st.slider(f"Threshold of {label}", 0.01, 0.99, step=0.01, key=key)
    now = saved | {name: t for name, t in tried.items() if round(saved[name], 2) != t}
    threshold_figures(run, label, rule, now)
    curve = decisions.threshold_curve(state.rows_of(run, "train"), label)
    widgets.show_chart(curve_charts.threshold(curve, label, saved[label], now[label]), "threshold")
    save_thresholds(run, saved, now)


def threshold_figures(run: Run, label: str, rule: DecisionRule, now: dict[str, float]) -> None:
    """The label's and all labels' figures, out of fold and on the test texts, and what changed."""
    new = replace(rule, thresholds=logit(np.array(list(now.values()))))
    for split, title in (("train", "Out of fold"), ("test", "Test texts")):
        rows = state.rows_of(run, split)
        st.markdown(f"**{title}**: {len(rows.targets):,} texts")
        if not len(rows.targets):
            continue
        before = decisions.figures(rows, rows.decided(rule), label)
        after = decisions.figures(rows, rows.decided(new), label)
        for box, (name, value) in zip(widgets.side_by_side(len(after)), after.items(), strict=True):
            shown = name[:1].upper() + name[1:]
            gap = value - before[name]
            box.metric(shown, f"{100 * value:.1f} %", f"{100 * gap:+.1f} points" if gap else None)


def save_thresholds(run: Run, saved: dict[str, float], now: dict[str, float]) -> None:
    changed = [label for label in now if now[label] != saved[label]]
    trained = {
        row["label"]: row["threshold"] for row in run.metrics["systems"]["fusion"]["per_label"]
    }
    with st.container(horizontal=True):
        if st.button(f"Save {len(changed)} changed", type="primary", disabled=not changed):
            put_thresholds(run, now, "Saved: every later prediction of this run decides by them.")
        original = all(abs(trained[label] - saved[label]) < 1e-6 for label in trained)
        if st.button("Back to the trained ones", disabled=original and not changed):
            put_thresholds(run, trained, "The thresholds are as they were trained.")
    st.caption(
        "They hold for texts that every source answered. The other tabs, the model card and "
        "the stored predictions go on showing the run as it was trained."
    )
    stages = {"trained": trained, "saved": saved, "tried": now}
    columns = {name: [values[label] for label in now] for name, values in stages.items()}
    table = pd.DataFrame({"label": list(now)} | columns)
    widgets.table(table, "thresholds", name=f"{run.id}_thresholds")


def put_thresholds(run: Run, values: dict[str, float], said: str) -> None:
    labels = run.metrics["task"]["labels"]
    operating_point.save_thresholds(run, np.array([values[label] for label in labels]))
    st.session_state.pop(f"thresholds_{run.id}", None)
    for label in labels:
        st.session_state.pop(f"threshold_{run.id}_{label}", None)
    widgets.tell(said)
    st.rerun()


def why(run: Run) -> None:
    """How the combiner was chosen, what each source is worth beside the others, who decides."""
    report = run.metrics
    st.markdown(f"**{widgets.escape((report.get('choice') or {}).get('reason') or '')}**")
    candidates = tables.candidates_table(report)
    if candidates.empty:
        st.info("This run had nothing to choose between.")
    else:
        widgets.show_chart(charts.candidates(candidates), "candidates")
        st.caption(
            "Cross-validated on the training texts. The gain is log loss saved against the best "
            "single source. Only sources and the fusion are measured on the test texts, once: see "
            "Summary."
        )
    worth(run)
    part = report.get("contributions") or {}
    if part.get("rows"):
        widgets.show_chart(classify_charts.contributions(part), "contributions")
    else:
        st.caption("This run keeps no contributions over all texts: train again to have them.")


def worth(run: Run) -> None:
    """What the fusion loses without each source, and how often two of them err together."""
    entries, overlap = run.metrics.get("source_values"), run.metrics.get("overlap")
    if entries:
        confidence = run.config.evaluation.confidence
        widgets.show_chart(source_charts.values(entries, confidence), "source_values")
    if overlap:
        st.markdown("**Which sources err together**")
        table = source_charts.overlap_table(overlap)
        for sentence in table.pop("in words"):
            st.markdown(f"- {widgets.escape(sentence)}")
        widgets.table(table, "overlap", columns=OVERLAP_COLUMNS)
    if not entries:
        st.caption(
            "What each source is worth can be told of two sources or more, of runs with test texts."
        )
