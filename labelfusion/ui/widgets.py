"""What every page is made of: page frame, sidebar, figures, tables, empty states, errors.

Draws with Streamlit. Reads no run itself and computes nothing that a table or figure shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from labelfusion.errors import InputError, LabelFusionError, did_you_mean
from labelfusion.ui import state
from labelfusion.ui.tables import EVERY_LABEL, safe_csv

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.delta_generator import DeltaGenerator

    from labelfusion.runs import Run
    from labelfusion.ui.charts import Chart

ASSETS = Path(__file__).parent / "assets"
ICON, STYLE = str(ASSETS / "logo.svg"), ASSETS / "app.css"
# The sidebar's list, in working order: file and what it is called.
PAGES = (
    ("app.py", "Overview"),
    ("pages/data.py", "Data"),
    ("pages/train.py", "Train"),
    ("pages/jobs.py", "Jobs"),
    ("pages/results.py", "Results"),
    ("pages/calibration.py", "Calibration"),
    ("pages/cost.py", "Cost"),
    ("pages/errors.py", "Errors"),
    ("pages/classify.py", "Classify"),
    ("pages/label.py", "Label"),
)
PAGE_ROWS = 50
SIDEBAR_PIXELS = 220
SECOND_PRESS_S = 1.5
T = TypeVar("T")
# What is to be drawn at the end of the page; None where there is no page to wait for.
_waiting: ContextVar[list[Callable[[], object]] | None] = ContextVar("waiting", default=None)


@contextmanager
def page(title: str, intro: str) -> Iterator[None]:
    """Frame of a page: settings, sidebar and heading; errors inside become sentences."""
    _stay(title)
    # Before anything else: the icon must be known before the first navigation.
    st.set_page_config(
        page_title=f"{title} · LabelFusion",
        page_icon=ICON,
        layout="wide",
        initial_sidebar_state=SIDEBAR_PIXELS,
    )
    st.html(STYLE)
    state.warm_imports()
    state.read_secrets()
    # First what the reader came for: the sidebar reads the runs from the disk.
    st.title(title, anchor=False)
    st.markdown(intro)
    place = None
    with errors_as_sentences():
        drawn = current()
        place = sidebar(drawn)
        _say_what_was_told()
    if place is None:
        st.stop()
    with errors_as_sentences():
        try:
            with figures_last():
                yield
        finally:
            # A page that found nothing chosen has chosen by now.
            if current() != drawn:
                show_current(place, current())


def go_to(path: str, **query: str) -> None:
    """Leave for a page, and stay there for SECOND_PRESS_S. Never returns.

    The second press of a double click is heard of later, and would bring back the page it was on.
    """
    st.session_state["went"] = (path, query, time.monotonic() + SECOND_PRESS_S)
    st.switch_page(path, query_params=query)


def _stay(title: str) -> None:
    path, query, until = st.session_state.get("went", ("", {}, 0.0))
    if time.monotonic() < until and dict(PAGES)[path] != title:
        st.switch_page(path, query_params=query)


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Show what LabelFusion or the disk refuses as a message. Anything else is a bug: raised."""
    try:
        yield
    except LabelFusionError as error:
        show_error(error)
    except OSError as error:
        st.error(
            f"The disk refused: {error.strerror or error} ({error.filename or 'no file named'}). "
            "Free some space or check the folder's permissions, then try again."
        )


def guarded(draw: Callable[[], None]) -> Callable[[], None]:
    """`draw` with its errors as sentences, for fragments, which run outside the page's frame."""

    @wraps(draw)
    def safe() -> None:
        with errors_as_sentences():
            draw()

    return safe


def at_once(work: Callable[..., None]) -> Callable[..., None]:
    """`work` for a button's on_click, where the next click cannot get ahead of it.

    It runs before the page is drawn. What stands below `if st.button(…)` is not reached, and the
    click is lost, when somebody presses something else while the page is being drawn. What `work`
    refuses is said on the page as it is drawn next.
    """

    @wraps(work)
    def done(*args: Any) -> None:
        try:
            work(*args)
        except (LabelFusionError, OSError) as error:
            st.session_state["refused"] = error

    return done


def show_error(error: LabelFusionError) -> None:
    """An error in its parts: what is wrong and where, then expected, found and the remedy."""
    lines = [f"**{escape(error.problem)}**" + (f" ({escape(error.where)})" if error.where else "")]
    parts = (("Expected", error.expected), ("Found", error.found), ("What to do", error.remedy))
    lines += [f"{name}: {escape(text)}" for name, text in parts if text]
    st.error("  \n".join(lines))


def escape(text: str) -> str:
    """User text that Markdown shows as it is."""
    for mark in "\\`*_[]$<>#~|:":
        text = text.replace(mark, "\\" + mark)
    return text


def current() -> dict[str, str | None]:
    """The data set and the run that every page begins with."""
    return {"dataset": state.current_dataset(), "run": state.current_run()}


def sidebar(chosen: Mapping[str, str | None]) -> DeltaGenerator:
    """The pages in working order, then what is chosen; returns the place where that stands."""
    # Links carry what was chosen, not the newest: a page may know better which of them it can show.
    query = {name: value for name in chosen if (value := state.param(name))}
    with st.sidebar:
        st.logo(ICON, size="large")
        st.markdown("**LabelFusion**")
        for path, name in PAGES:
            st.page_link(path, label=name, query_params=query)
        st.divider()
        place = st.empty()
        show_current(place, chosen)
        # A ledger that cannot be read is said here, and keeps nobody from the rest.
        with errors_as_sentences():
            st.caption(f"LLM spend this month: {escape(state.spend_this_month())}")
    return place


def show_current(place: DeltaGenerator, chosen: Mapping[str, str | None]) -> None:
    """The data set and the run, and whether the run is the newest one."""
    dataset, run = chosen["dataset"], chosen["run"]
    newest = ", the newest" if run and run == state.newest_run() else ""
    with place.container():
        st.caption(f"Data set: {escape(dataset) if dataset else 'none yet'}")
        st.caption(f"Run: {escape(run) + newest if run else 'none yet'}")


def empty(message: str, page_path: str | None = None, label: str | None = None) -> None:
    """An empty state: what is not here and what to do next."""
    st.info(message)
    if page_path and label:
        st.page_link(page_path, label=f"{label} →")


def choose_run() -> Run:
    """The run in the address, from a select box; the page ends here where there is none."""
    runs = state.manager().states()
    if not runs:
        empty("There is no run yet.", "pages/train.py", "Train a model")
        st.stop()
    names = {key: f"{name} · {found} · {key}" for key, (name, found) in runs.items()}
    return state.open_run(state.choose("Run", "run", names))


def choose_finished_run() -> Run:
    """The same, and the page ends where the run has no results yet."""
    run = choose_run()
    if run.status.state != "finished":
        st.info(f"This run is {run.status.state}, so there are no results yet.")
        st.page_link("pages/jobs.py", label="See the job →", query_params={"run": run.id})
        st.stop()
    return run


def choose_label(run: Run, *, together: bool) -> str | None:
    """A label of the run, in the address; None for all `together`, if that may be chosen.

    Raises InputError for a label in the address that the run does not have.
    """
    labels = run.metrics["task"]["labels"]
    options = {EVERY_LABEL: "All labels together"} if together else {}
    options |= {label: label for label in labels}
    if not together and state.param("label") == EVERY_LABEL:
        state.set_param("label", labels[0])
    chosen = state.choose("Label", "label", options)
    if chosen not in options:
        remedy = did_you_mean(chosen, labels)
        raise InputError("The run has no label of this name", found=chosen, remedy=remedy)
    return None if chosen == EVERY_LABEL and together else chosen


def side_by_side(count: int) -> list[DeltaGenerator]:
    """Places beside each other, for figures that go on to the next line where they do not fit."""
    with st.container(horizontal=True, gap="medium"):
        return [st.container(width="content") for _ in range(count)]


def figures(name: str, count: int) -> list[DeltaGenerator]:
    """Places for figures or forms beside each other, below each other where too narrow for that.

    `name` is the page's own for this group.
    """
    with st.container(horizontal=True, gap="medium"):
        return [st.container(key=f"figure-{name}-{number}") for number in range(count)]


@contextmanager
def figures_last() -> Iterator[None]:
    """Inside, figures get their places, and are sent once everything else has been.

    A browser takes most of a second to load what draws them and does nothing else meanwhile, so
    words, numbers and buttons go before.
    """
    waiting: list[Callable[[], object]] = []
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)
        # Also of a page that has been stopped or has failed after a figure.
        for draw in waiting:
            draw()


def show_chart(chart: Chart, key: str, *, selectable: str | None = None) -> list[dict[str, Any]]:
    """A figure with its reading and its data as a table; returns what is selected in it."""
    draw = partial(_figure, st.container(), chart, key, selectable)
    waiting = _waiting.get()
    if waiting is None:
        draw()
    else:
        waiting.append(draw)
    st.caption(escape(chart.reading))
    if unfolded := fold("The figure's data as a table", f"{key}_fold"):
        with unfolded:
            table(chart.table, f"{key}_data")
    chosen = st.session_state.get(key) if selectable else None
    return (chosen.selection.get(selectable) or []) if chosen else []


def _figure(place: DeltaGenerator, chart: Chart, key: str, selectable: str | None) -> None:
    import altair as alt

    figure: Any = chart.figure
    if not isinstance(chart.figure, alt.TopLevelMixin):
        config = {"displaylogo": False}
        place.plotly_chart(figure, width="stretch", key=key, alt=chart.alt, config=config)
    elif selectable is None:
        place.altair_chart(figure, width="stretch", key=key, alt=chart.alt)
    else:
        place.altair_chart(
            figure,
            width="stretch",
            key=key,
            alt=chart.alt,
            on_select="rerun",
            selection_mode=[selectable],
        )


def fold(label: str, key: str) -> DeltaGenerator | None:
    """A closed expander; its place once it is open, None before.

    What it holds is computed and loaded only then: tables nobody looks at slow the opening.
    """
    box = st.expander(label, key=key, on_change="rerun")
    return box if box.open else None


def table(
    rows: pd.DataFrame,
    key: str,
    *,
    columns: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> None:
    """A table that sorts and searches, in pages of PAGE_ROWS, with a safe CSV of all its rows."""
    if rows.empty:
        st.caption("No rows.")
        return
    st.dataframe(
        _page_of(rows, key), hide_index=True, width="stretch", column_config=dict(columns or {})
    )
    st.download_button(
        f"Download as CSV ({len(rows):,} {'row' if len(rows) == 1 else 'rows'})",
        lambda: safe_csv(rows),
        file_name=f"{name or key}.csv",
        mime="text/csv",
        key=f"{key}_csv",
        on_click="ignore",
    )


def _page_of(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    if len(rows) <= PAGE_ROWS:
        return rows
    pages = -(-len(rows) // PAGE_ROWS)
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    orders = {"(as they are)": None}
    orders |= {f"{name}, {way}": (name, way) for name in rows.columns for way in ("up", "down")}
    order = orders[left.selectbox("Sort all rows by", list(orders), key=f"{key}_sort")]
    with right:
        number = st.pagination(pages, key=f"{key}_page")
    if order:
        rows = rows.sort_values(order[0], ascending=order[1] == "up", kind="stable")
    return rows.iloc[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]


def tabs(names: Sequence[str], sections: Sequence[Callable[[T], None]], subject: T) -> None:
    """Sections of a page side by side; only the open one is drawn, and the address names it."""
    for tab, section in zip(
        st.tabs(list(names), key="tab", bind="query-params"), sections, strict=True
    ):
        if tab.open:
            with tab, errors_as_sentences():
                section(subject)


def tell(message: str) -> None:
    """Say something once, on the page as it is drawn next."""
    st.session_state["told"] = message


def _say_what_was_told() -> None:
    if message := st.session_state.pop("told", None):
        st.toast(message)
    if error := st.session_state.pop("refused", None):
        raise error
