"""What a run will send to LLMs and what it will cost, shown before it starts; and five texts tried.

Draws. Prompts, estimates and trials are made by `labelfusion.trial` and `labelfusion.costing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from labelfusion.config import LLMConfig, RunConfig
from labelfusion.errors import LabelFusionError
from labelfusion.ui import budget, costs, llm_form, state, widgets
from labelfusion.ui.progress import duration

if TYPE_CHECKING:
    from labelfusion.costing import RunEstimate

AT_MOST = (
    "Every text asked about again and again, with the longest prompts and answers. A budget caps "
    "it; the table shows each source without the budget."
)
NOTICES = {"fits": st.success, "may run out": st.info, "no budget": st.info}


def panels(config: RunConfig) -> None:
    """Estimate, prompt and trial, for the sources that are asked."""
    asked = [entry for entry in config.llm if entry.provider != "recorded"]
    if not asked:
        return
    st.subheader("Before anything is sent", anchor=False)
    estimate(config)
    if remote := [entry for entry in asked if entry.provider != "local"]:
        prompt(config, remote)
    trial(config, asked)


def estimate(config: RunConfig) -> None:
    """Requests, tokens, money and time, expected and at most, and what the budget makes of it."""
    try:
        found = state.estimate(config)
    except LabelFusionError:
        # The check below the panels says the same with its remedy.
        st.caption("The estimate appears once what is said below is mended.")
        return
    if found.estimate.sources:
        _headline(found)
        widgets.table(costs.estimate_table(found), "estimate")
    for name in found.free_sources:
        st.caption(f"{widgets.escape(name)}: costs nothing.")
    if any(source.tokens_estimated for source in found.estimate.sources):
        st.caption("Tokens are estimated from characters; the provider counts its own.")
    if budget.refusal(found, config.costs.budget, llm_form.when_spent()) is None:
        tell = NOTICES.get(found.budget.verdict, st.error)
        tell(widgets.escape(found.budget.sentence))


def budget_refused(config: RunConfig) -> bool:
    """Say why the budget stands in the way of a start, with a button for each remedy.

    Raises LabelFusionError where the run cannot be estimated.
    """
    if all(entry.provider == "recorded" for entry in config.llm):
        return False
    found = state.estimate(config)
    refused = budget.refusal(found, config.costs.budget, llm_form.when_spent())
    if refused is None:
        return False
    widgets.show_error(refused.error)
    with st.container(horizontal=True):
        st.button(
            f"{budget.LIMITS[refused.limit]} to {widgets.escape(costs.money(refused.enough))}",
            on_click=llm_form.raise_limit,
            args=(refused.limit, float(refused.enough)),
        )
        for way, words in budget.WHEN_SPENT.items():
            st.button(words, key=f"say_{way}", on_click=llm_form.say_when_spent, args=(way,))
    return True


def _headline(found: RunEstimate) -> None:
    expected, at_most = found.estimate.expected, found.estimate.at_most
    figures = {
        "Expected cost": (costs.money(expected.usd), None),
        "At most": (costs.money(at_most.usd), AT_MOST),
        "Requests": (f"{expected.requests:,}", None),
        "Time": (duration(expected.seconds), None),
    }
    # In a row that wraps, so that no figure is cut off on a narrow screen.
    with st.container(horizontal=True, gap="large"):
        for label, (value, explained) in figures.items():
            st.metric(label, value, help=explained, width="content")


def prompt(config: RunConfig, entries: list[LLMConfig]) -> None:
    """The prompt as it will be sent for a row of the data file."""
    with st.expander("The prompt as it will be sent"):
        left, right = st.columns(2)
        entry = left.selectbox(
            "Source", entries, format_func=lambda one: one.name, key="prompt_source"
        )
        numbers = state.open_dataset(config.data).row_numbers
        row = right.number_input(
            "Row of the file", int(numbers.min()), int(numbers.max()), key="prompt_row"
        )
        with widgets.errors_as_sentences():
            shown = state.prompt(config, entry, int(row))
            st.caption("The same for every request:")
            st.code(shown.system, language=None, wrap_lines=True, height=300)
            st.caption("The texts, as data; their ids are drawn anew for each request:")
            st.code(shown.user, language=None, wrap_lines=True, height=200)


def trial(config: RunConfig, entries: list[LLMConfig]) -> None:
    """Buttons that score five texts for good, and what came of the last one."""
    from labelfusion.trial import TRIAL_TEXTS

    st.caption(
        f"A trial asks about {TRIAL_TEXTS} texts and pays for them; the run takes its answers from "
        "the cache."
    )
    with st.container(horizontal=True):
        for entry in entries:
            which = f" with {entry.name}" if len(entries) > 1 else ""
            if st.button(f"Try {TRIAL_TEXTS} texts{which}", key=f"try_{entry.name}"):
                _run(config, entry)
    last = st.session_state.get("trial")
    if last and last["entry"] in entries and last["data"] == config.data:
        _show(last)


def _run(config: RunConfig, entry: LLMConfig) -> None:
    from labelfusion.trial import try_texts

    dataset = state.open_dataset(config.data)
    # Somebody is waiting: a server that does not answer is told of soon.
    hasty = entry.model_copy(update={"max_attempts": 1})
    outcome: dict = {"entry": entry, "data": config.data, "labels": dataset.space.names}
    try:
        with st.spinner(f"Asking {entry.name}"):
            outcome["trial"] = try_texts(config, hasty, state.workspace(), dataset=dataset)
    except LabelFusionError as error:
        outcome["error"] = error
    st.session_state["trial"] = outcome
    # Drawn anew, so that the estimate takes off what is in the cache now.
    st.rerun()


def _show(outcome: dict) -> None:
    if error := outcome.get("error"):
        widgets.show_error(error)
        return
    made = outcome["trial"]
    st.markdown(
        f"**{widgets.escape(outcome['entry'].name)}**: {widgets.escape(costs.trial_words(made))}"
    )
    widgets.table(costs.trial_table(made, outcome["labels"]), "trial")
    for number, (_, reply) in enumerate(made.exchanges, start=1):
        st.caption(f"Reply {number} as it came:")
        st.code(reply.text, language=None, wrap_lines=True)
