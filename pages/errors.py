"""Errors: where the fusion is wrong, which slices are worse, which labels look wrong; mend them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from labelfusion import jobs
from labelfusion.data import load_dataset
from labelfusion.datasets import StoredDataset
from labelfusion.errors import LabelFusionError
from labelfusion.review import row_table
from labelfusion.review.corrections import (
    SPLIT_COLUMN,
    save_corrections,
    train_again,
)
from labelfusion.review.verdicts import Verdicts
from labelfusion.runs import Run
from labelfusion.ui import charts, llm_panels, review_charts, review_panels, state, widgets
from labelfusion.ui import review_filters as filters
from labelfusion.ui.review_panels import PAGE, Desk, named
from labelfusion.ui.tables import safe_csv

INTRO = "Where the fusion is wrong, which groups of texts are worse, and which labels look wrong."
TABS = ("Texts", "Slices", "Suspected labels", "Corrections")
ANY = ""
MAX_OPTIONS = 200
CARDS = 10
SHOWN_COLUMNS = ("row", "text", "gold", "predicted", "confidence")


def texts(desk: Desk) -> None:
    """The quadrants, the filters, the texts that pass, and one of them in full."""
    quadrant_figure(desk)
    try:
        asked = filters.read_filters(st.query_params.to_dict(), desk.rows)
        filter_widgets(desk, asked)
        mask = asked.mask(desk.rows, state.slices(desk.run)[0])
    except LabelFusionError as error:
        widgets.show_error(error)
        st.page_link(PAGE, label="Clear the filters →", query_params={"run": desk.run.id})
        return
    order = pick(st, "Order", "order", filters.ORDERS, "surest")
    found = filters.ordered(desk.rows, mask, order)
    wrong = int((~desk.rows.right[found]).sum())
    st.markdown(f"**{len(found):,} of {len(desk.rows):,} texts**, fusion is wrong on {wrong:,}.")
    position = listed(desk, found)
    if position is not None:
        review_panels.detail(desk, position)


def quadrant_figure(desk: Desk) -> None:
    """Which of two sources is right where; a click filters by the cell."""
    sources = list(desk.rows.answers)
    if len(sources) < 2:
        return
    second = sources[1]
    if len(sources) > 2:
        second = st.selectbox("Compare with", sources[1:], format_func=charts.system_name)
    table = review_charts.quadrant_table(desk.rows, sources[0], second)
    chart = review_charts.quadrants(table, sources[0], second)
    for cell in widgets.show_chart(chart, "quadrants", selectable=charts.SELECTION):
        wanted = f"{sources[0]} {cell['first']}, {second} {cell['second']}"
        for name in filters.quadrant_names(desk.rows):
            if name.startswith(wanted):
                link_to(desk, f"See the texts: {filters.quadrant_words(name)} →", quadrant=name)


def link_to(desk: Desk, label: str, **query: str) -> None:
    """A link to this page with other filters."""
    asked = {"run": desk.run.id, "tab": "Texts", **query}
    st.page_link(PAGE, label=widgets.escape(label), query_params=asked)


def pick(box: Any, label: str, name: str, options: Mapping[str, str], default: str = ANY) -> str:
    """A select box that is the query parameter `name`."""
    key = f"errors_{name}"
    now = st.query_params.get(name, default)
    st.session_state[key] = now if now in options else default
    box.selectbox(
        label,
        list(options),
        key=key,
        format_func=lambda value: options.get(value, value),
        on_change=lambda: ask(name, st.session_state[key], default),
    )
    return st.session_state[key]


def ask(name: str, value: str, default: str = ANY) -> None:
    """Put a filter into the address, or take it out where it asks for nothing."""
    st.query_params.pop("row", None)
    if value == default:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value


def filter_widgets(desk: Desk, asked: filters.Filters) -> None:
    rows = desk.rows
    labels = {ANY: "Any"} | {name: name for name in rows.space.names}
    line = st.container(horizontal=True)
    default = filters.read_filters(
        {k: v for k, v in st.query_params.to_dict().items() if k != "show"}, rows
    ).show
    pick(line, "Show", "show", filters.SHOWN, default)
    pick(line, "Label in the data", "gold", labels)
    pick(line, "Predicted label", "predicted", labels)
    pick(line, "Part", "split", {ANY: "Test and training"} | filters.SPLITS)
    quadrants = {name: filters.quadrant_words(name) for name in filters.quadrant_names(rows)}
    left, right = st.columns(2)
    if quadrants:
        pick(left, "Which source is right", "quadrant", {ANY: "Any"} | quadrants)
    contains(right if quadrants else left, "Text contains", "text")
    left, right = st.columns(2)
    spread(left, "Confidence (%)", "confidence", 100, asked.confidence)
    longest = max(int(rows.lengths.max(initial=0)), 1)
    spread(right, "Length (characters)", "length", longest, asked.length or (0, longest))
    if asked.slice:
        boxes = st.columns([3, 1], vertical_alignment="center")
        boxes[0].markdown(f"Slice: **{widgets.escape(asked.slice)}**")
        boxes[1].button("Leave the slice", on_click=ask, args=("slice", ANY))
    column_filters(desk, asked)


def contains(box: Any, label: str, name: str) -> None:
    key = f"errors_{name}"
    st.session_state[key] = st.query_params.get(name, "")
    box.text_input(label, key=key, on_change=lambda: ask(name, st.session_state[key]))


def spread(box: Any, label: str, name: str, most: int, now: tuple[int, int]) -> None:
    """A slider with two ends; all of it asks for nothing."""
    key = f"errors_{name}"
    low, high = (min(max(end, 0), most) for end in now)
    st.session_state[key] = (low, high)
    box.slider(
        label,
        0,
        most,
        key=key,
        on_change=lambda: ask(name, "{}-{}".format(*st.session_state[key]), f"0-{most}"),
    )


def column_filters(desk: Desk, asked: filters.Filters) -> None:
    """A box for each column of the file that is wanted."""
    columns = [str(name) for name in desk.rows.metadata.columns]
    if not columns:
        return
    with st.expander("Filter by the file's columns", expanded=bool(asked.columns)):
        chosen = st.multiselect("Columns", columns, list(asked.columns) or columns[:4])
        for column in chosen:
            name = filters.COLUMN + column
            counts = desk.rows.metadata[column].value_counts()
            if len(counts) <= MAX_OPTIONS:
                options = {str(v): f"{v or '(empty)'} ({n:,})" for v, n in counts.items() if v}
                pick(st, column, name, {ANY: "Any"} | options)
            else:
                contains(st, f"{column} is", name)


def listed(desk: Desk, found: Any) -> int | None:
    """The texts as a table in pages; the position of the one to show in full."""
    if not len(found):
        st.info("No text passes these filters. Take one out.")
        return None
    size = widgets.PAGE_ROWS
    pages = -(-len(found) // size)
    number = st.pagination(pages, key="errors_page") if pages > 1 else 1
    at = found[(number - 1) * size : number * size]
    table = row_table(desk.rows, at)
    names = [name for name in SHOWN_COLUMNS if name in table] + list(desk.rows.answers)
    names += [name for name in table if name.startswith("data_")]
    event = st.dataframe(
        table[names],
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="single-row",
        key=f"errors_table_{number}",
        column_config={
            "confidence": st.column_config.NumberColumn(format="percent"),
            "text": st.column_config.TextColumn(width="large"),
        },
    )
    st.caption("Tick a row to see the text in full below, with everything that was said of it.")
    st.download_button(
        f"Download as CSV ({len(found):,} rows)",
        lambda: safe_csv(row_table(desk.rows, found)),
        file_name=f"{desk.run.id}_texts.csv",
        mime="text/csv",
        on_click="ignore",
    )
    ticked = event.selection.rows
    return int(at[ticked[0]]) if ticked and ticked[0] < len(at) else in_address(desk, int(found[0]))


def in_address(desk: Desk, first: int) -> int:
    """The row that the address names, else the first."""
    row_id = st.query_params.get("row")
    if not row_id:
        return first
    position = desk.rows.position(row_id)
    if position is None:
        st.warning(f"The run has no row with the id {widgets.escape(row_id)}; the first is shown.")
        return first
    return position


def slices(desk: Desk) -> None:
    """Groups of texts that are worse than the rest, the worst first."""
    candidates, found = state.slices(desk.run)
    st.caption(
        f"{len(candidates.names):,} groups were compared: by label, prediction, disagreement, "
        "length, the file's columns and words. Chance alone makes some of so many look bad, so "
        "only those are listed that stand out with at most 5 % false ones expected."
    )
    if found.empty:
        st.success("No group of texts stands out: errors are spread as chance would spread them.")
        return
    widgets.show_chart(review_charts.slices(found), "slices")
    name = str(st.selectbox("A slice", found["slice"].tolist()))
    link_to(desk, f"See its texts: {name} →", slice=name)
    shares = ("error", "rest_error", "excess", "low", "high")
    percent = {key: st.column_config.NumberColumn(format="percent") for key in shares}
    widgets.table(
        found.assign(also=found["also"].map("; ".join)),
        "slices_table",
        columns=percent,
        name=f"{desk.run.id}_slices",
    )


def suspected(desk: Desk) -> None:
    """Labels that the fusion speaks against, with what each source says."""
    found = state.issues(desk.run)
    if desk.rows.texts is None:
        widgets.table(found, "issues_table", name=f"{desk.run.id}_label_issues")
        return
    open_ones = unjudged(desk, found)
    labels = {ANY: "Any"} | {name: name for name in desk.rows.space.names}
    wanted = pick(st, "Suspected label", "suspect", labels)
    if wanted:
        open_ones = open_ones[open_ones["label"] == wanted]
    st.caption(
        f"{len(open_ones):,} labels to look at, the most suspicious first; "
        f"{len(found) - len(open_ones):,} are judged or filtered out. No label was seen by the "
        "model that judges it. A margin of -1: the fusion is sure of another answer; 0: it cannot "
        "tell."
    )
    if open_ones.empty:
        st.success("No label is suspected, or all have been judged.")
        return
    pages = -(-len(open_ones) // CARDS)
    number = st.pagination(pages, key="issues_page") if pages > 1 else 1
    for issue in open_ones.iloc[(number - 1) * CARDS : number * CARDS].to_dict("records"):
        with st.container(border=True):
            review_panels.issue_card(desk, issue)
    if unfolded := widgets.fold("All suspected labels as a table", "issues_fold"):
        with unfolded:
            widgets.table(found, "issues_table", name=f"{desk.run.id}_label_issues")


def unjudged(desk: Desk, found: pd.DataFrame) -> pd.DataFrame:
    """The suspects that are neither kept nor changed by a pending correction."""
    waiting = []
    for at, label, row_id in zip(found["position"], found["label"], found["id"], strict=True):
        fix = desk.pending.get(str(row_id))
        changed = fix is not None and (label in fix.new) != (label in fix.old)
        waiting.append(not changed and not desk.is_kept(int(at), label))
    return found.loc[waiting, :]


def corrections(desk: Desk) -> None:
    """What is to be corrected, the new version, and training on it."""
    if desk.stored is None:
        st.caption("There are no corrections while the run's data is no data set here.")
        return
    if desk.pending:
        gathered(desk, desk.stored)
    else:
        st.info("No correction is waiting. Fix labels on the other tabs, as many as you like.")
    train_again_panel(desk, desk.stored)
    history = Verdicts(desk.stored.folder).all()
    if history:
        said = f"Everything that was said of this data set's labels ({len(history):,})"
        if unfolded := widgets.fold(said, "verdicts_fold"):
            with unfolded:
                table = review_panels.verdict_table(reversed(history))
                widgets.table(table, "verdicts", name=f"{desk.stored.name}_verdicts")


def gathered(desk: Desk, stored: StoredDataset) -> None:
    """The corrections that wait, and the button that makes a version of them."""
    count = len(desk.pending)
    st.markdown(f"**{count:,} correction{'s' if count > 1 else ''} to save**")
    widgets.table(review_panels.verdict_table(desk.pending.values()), "pending")
    names = {f"{v.id}: {named(v.old)} → {named(v.new)}": v for v in desk.pending.values()}
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    left.selectbox("A correction to take back", list(names), key="wrong_correction")
    right.button(
        "Take it back",
        width="stretch",
        on_click=widgets.at_once(
            lambda: desk.take_back(names[st.session_state["wrong_correction"]])
        ),
    )
    st.caption(
        f"Saving adds a version to {widgets.escape(stored.name)} and makes it the current one; "
        f"version {stored.current} and the others stay as they are, and so does this run."
    )
    if st.button(f"Save as version {max(v.number for v in stored.versions) + 1}", type="primary"):
        data = load_dataset(desk.run.config.data)
        saved = save_corrections(state.store(), stored, desk.run, data, review_panels.who())
        widgets.tell(f"Version {saved.current} of {saved.name} has {count:,} labels corrected.")
        st.rerun()


def train_again_panel(desk: Desk, stored: StoredDataset) -> None:
    """What training on the corrected version will do and cost, and the button for it."""
    if SPLIT_COLUMN not in state.open_table(stored.config).columns or desk.rows.texts is None:
        return
    again = train_again(stored, desk.run, state.open_dataset(desk.run.config.data))
    st.subheader(f"Train again on version {stored.current}", anchor=False)
    st.markdown(widgets.escape(review_panels.what_happens(again, desk.run, stored)))
    llm_panels.panels(again.config)
    try:
        state.check(again.config)
    except LabelFusionError as error:
        widgets.show_error(error)
        return
    if st.button("Train again on this version", type="primary", disabled=bool(desk.pending)):
        run_id = jobs.start(state.workspace(), again.config, name=desk.run.status.name)
        widgets.go_to("pages/jobs.py", run=run_id)
    if desk.pending:
        st.caption("Save or take back the corrections first.")


def data_set(run: Run) -> StoredDataset | None:
    """The data set that the run was made from, or the offer to make one of its data."""
    if not state.data_is_there(run):
        st.warning(
            "The run's data file has been moved or changed since, so texts are not shown and "
            "labels cannot be fixed. Put it back where it was: "
            f"{widgets.escape(run.config.data.path or 'its path is not known')}"
        )
        return None
    stored = state.store().holding(run.config.data.path, run.status.data.get("sha256", ""))
    if stored is not None:
        return stored
    st.info(
        "The run's data is no data set of this workspace, so labels cannot be fixed here. A copy "
        "can be kept as one; the file itself stays as it is."
    )
    if st.button("Keep a copy as a data set"):
        adopted = state.store().adopt(run.config.data, run.config.seed)
        state.set_param("dataset", adopted.name)
        widgets.tell(f"The data is now the data set {adopted.name}.")
        st.rerun()
    return None


SECTIONS = (texts, slices, suspected, corrections)

with widgets.page("Errors", INTRO):
    left, right = st.columns([3, 2])
    with left:
        chosen = widgets.choose_finished_run()
    source = data_set(chosen)
    if source is not None:
        right.text_input(
            "Your name",
            state.param("who") or review_panels.default_reviewer(),
            key="reviewer",
            persist_state="session",
            help="It is put down with what you say of labels.",
            on_change=lambda: state.set_param("who", st.session_state["reviewer"] or None),
        )
    widgets.tabs(TABS, SECTIONS, Desk(chosen, state.review(chosen), source))
