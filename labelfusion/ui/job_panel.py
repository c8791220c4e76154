"""A job as it goes: state, stages, rates, money, log, and what can be done with it.

Draws a run or a file that is labelled, from its folder. Starts nothing by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import streamlit as st

from labelfusion import jobs
from labelfusion.prediction_job import PredictionFolder
from labelfusion.runs import Run, Status
from labelfusion.ui import costs, state, widgets
from labelfusion.ui.progress import Scoring, Stage, duration, scorings, spent, stages

REFRESH_SECONDS = 2.0
LOG_LINES = 40
STATES = {
    "queued": "waiting for its turn",
    "running": "running",
    "finished": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "interrupted: its process is gone",
}
MARKS = {"waiting": "○", "running": "◐", "done": "●", "stopped": "✗", "not needed": "–"}


def show(run_id: str, about: Callable[[str], None] | None = None) -> None:
    """The run or prediction, drawn again by itself while it is at work; `about` draws below it."""
    watched = jobs.status(state.workspace(), run_id).active

    @st.fragment(run_every=REFRESH_SECONDS if watched else None)
    @widgets.guarded
    def panel() -> None:
        run = Run(jobs.folder_of(state.workspace(), run_id))
        status = jobs.status(state.workspace(), run_id)
        if watched and not status.active:
            # Draw the whole page once more: that ends the refreshing, and updates the list.
            st.rerun()
        draw(run, status)
        if about is not None:
            about(run_id)

    panel()


def draw(run: Run, status: Status) -> None:
    st.subheader(f"{status.name}: {STATES[status.state]}", anchor=False)
    st.caption(f"{run.id} · worked {duration(status.seconds)}")
    if status.error:
        st.error(widgets.escape(status.error))
    events = run.events
    scored = scorings(events)
    actions(run, status, pays=bool(scored))
    draw_scoring(scored, spent(events))
    for stage in stages(events, status.state):
        draw_stage(stage)
    lines = run.log.splitlines()[-LOG_LINES:]
    with st.expander("Log", expanded=status.state == "failed"):
        st.code("\n".join(lines) or "The log is empty.", language=None, height=240)
    with st.expander("The same run from the command line"):
        st.code(status.command, language="bash", wrap_lines=True)


def draw_stage(stage: Stage) -> None:
    mark, facts = st.columns([2, 3], vertical_alignment="center")
    mark.markdown(f"{MARKS[stage.state]} **{stage.name}**: {stage.state}")
    if stage.seconds is None:
        return
    if stage.share is not None and stage.state != "done":
        facts.progress(stage.share, text=_counted(stage))
    else:
        counted = f"{stage.total:,} {stage.unit} · " if stage.total else ""
        facts.caption(f"{counted}{duration(stage.seconds)}  \n{widgets.escape(stage.message)}")


def draw_scoring(scored: list[Scoring], money: tuple[Decimal, int] | None) -> None:
    """What asking LLMs has cost so far, and how far each of them is."""
    if money is not None:
        usd, unpriced = money
        more = f" and {unpriced:,} requests at an unknown price" if unpriced else ""
        st.metric("Spent on LLMs by this run", costs.money(usd) + more)
    for one in scored:
        st.progress(one.share, text=f"**{widgets.escape(one.source)}**: {one.words()}")


def _counted(stage: Stage) -> str:
    text = f"{stage.done:,} of {stage.total:,} {stage.unit}"
    if stage.rate is not None:
        text += f" · {stage.rate:.1f} a second"
    return text + (f" · {duration(stage.left)} left" if stage.left is not None else "")


def actions(run: Run, status: Status, *, pays: bool) -> None:
    """What can be done with a run in its state; `pays` says whether it asks LLMs."""
    workspace, run_id = state.workspace(), status.id
    with st.container(horizontal=True, vertical_alignment="center"):
        file = isinstance(run.folder, PredictionFolder)
        if status.state == "finished" and not file:
            st.page_link(
                "pages/results.py", label="**See the results** →", query_params={"run": run_id}
            )
        if status.active:
            if st.button(
                "Cancel",
                key=f"cancel_{run_id}",
                help="What is computed is kept, and so is what is paid for.",
            ):
                jobs.cancel(workspace, run_id)
                st.rerun()
            if pays:
                st.caption("Cancelling loses nothing: answers that are paid for stay in the cache.")
        stopped = status.state in ("failed", "cancelled", "interrupted")
        resume = stopped and st.button(
            "Resume",
            key=f"resume_{run_id}",
            type="primary",
            help="Goes on; what is computed and paid for is not repeated.",
        )
        if resume:
            jobs.resume(workspace, run_id)
            st.rerun()
        if file:
            return
        if not status.active and st.button("Retry", help="The same settings as a new run."):
            state.set_param("run", jobs.retry(workspace, run_id))
            st.rerun()
