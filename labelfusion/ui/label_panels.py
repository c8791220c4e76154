"""Around the labelling area: labels to begin with, suggestions, confirming many, agreement, export.

Draws. What it shows is made by `labelfusion.labelling`.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, cast

import pandas as pd
import streamlit as st

from labelfusion.config import RunConfig
from labelfusion.datasets import StoredDataset
from labelfusion.errors import InputError, did_you_mean
from labelfusion.files import write_text
from labelfusion.labelling import suggestions
from labelfusion.labelling.agreement import all_agreements, alpha
from labelfusion.labelling.apply import labels_table, readable, with_texts
from labelfusion.labelling.desk import Book, Card, Plan
from labelfusion.labelling.journal import Entry
from labelfusion.ui import costs, labelling, llm_form, state, widgets
from labelfusion.ui.label_desk import Place

if TYPE_CHECKING:
    from labelfusion.labelling.acquisition import Strategy
    from labelfusion.labelling.suggestions import Making
    from labelfusion.runs import Run

BULK_TEXTS = 20
ASK_TEXTS = 200
SECONDS_BETWEEN_LOOKS = 2.0
NO_SUGGESTIONS = "none"


def declare(stored: StoredDataset, book: Book, who: str) -> None:
    """The first labels of a wholly unlabelled data set, typed in."""
    st.subheader("Which labels are there?", anchor=False)
    with st.form("declare"):
        written = st.text_area(
            "One label a line, and what it means after a colon",
            placeholder="billing: invoices, payments and refunds\ndelivery: parcels on their way",
            help="What a label means is shown while labelling and told to an LLM.",
            height=200,
        )
        several = st.checkbox("A text may have several labels, or none")
        if not st.form_submit_button("Start labelling", type="primary"):
            return
    _declare(stored, book, who, labelling.declared_labels(written), several)


def _declare(
    stored: StoredDataset, book: Book, who: str, names: dict[str, str], several: bool
) -> None:
    book.write([Entry("labels", who, declared=names, multi_label=several)])
    if not (stored.config.label_column or stored.config.label_columns):
        state.store().configure(stored, readable(stored.config, book.refresh()))
    st.rerun()


def more_labels(place: Place) -> None:
    """One label more, or another meaning, while labelling goes on."""
    with st.form("one_more", clear_on_submit=True, border=False):
        left, right = st.columns([1, 2])
        name = left.text_input("New label").strip()
        meaning = right.text_input("What it means").strip()
        if st.form_submit_button("Add the label") and name:
            known = {label: place.space.descriptions.get(label, "") for label in place.space.names}
            names = {**known, name: meaning}
            _declare(place.stored, place.book, place.who, names, place.space.multi_label)


def plan(stored: StoredDataset) -> Plan:
    """What is asked and in which order, chosen by the person; in the address.

    Raises InputError for an order in the address that there is not.
    """
    left, middle, right = st.columns(3)
    with left:
        strategy = state.choose("Ask first about", "strategy", labelling.STRATEGIES)
    if strategy not in labelling.STRATEGIES:
        remedy = did_you_mean(strategy, list(labelling.STRATEGIES))
        raise InputError("There is no such order", found=strategy, remedy=remedy)
    audit = middle.slider(
        "Random audit (%)",
        0,
        50,
        20,
        5,
        key="audit",
        bind="query-params",
        help="This share of the texts is drawn at random, labelled without a suggestion, and "
        "becomes the test split: without it nobody can say how good the model is on all texts.",
    )
    double = right.slider(
        "Texts that two people label (%)",
        0,
        50,
        0,
        5,
        key="double",
        bind="query-params",
        help="Shows how far people agree.",
    )
    return Plan(cast("Strategy", strategy), audit / 100, double / 100, stored.seed)


def choose_suggestions(stored: StoredDataset) -> str | None:
    """Whose suggestions are shown: the newest there are, unless another is chosen."""
    made = suggestions.made_by(state.workspace(), stored.name)
    if not made:
        return None
    options = {by: _called(by) for by in made} | {NO_SUGGESTIONS: "No suggestions"}
    chosen = st.selectbox(
        "Suggestions of", list(options), format_func=options.__getitem__, key="suggestions_of"
    )
    return None if chosen == NO_SUGGESTIONS else chosen


def _called(by: str) -> str:
    return "the LLM, without a model" if by == suggestions.LLM else f"run {by}"


def make_suggestions(place: Place, runs: list[Run]) -> None:
    """Ways to get suggestions: a finished run, recorded LLM scores, an LLM that is asked."""
    under_way(place.stored.name, [run.id for run in runs])
    made = suggestions.made_by(state.workspace(), place.stored.name)
    with st.container(horizontal=True):
        for run in runs[:3]:
            again = "again " if run.id in made else ""
            if st.button(f"Let {run.status.name} suggest {again}({run.id})", key=f"by_{run.id}"):
                suggestions.start(state.workspace(), place.stored.name, run.id)
                st.rerun()
        if place.stored.scores and st.button("Use the attached LLM scores"):
            _read_scores(place)
    st.caption(
        "A run suggests with its encoder and with LLM scores that are recorded; it asks no LLM."
    )
    with st.expander("Ask an LLM, without any model"):
        _ask(place)


def _read_scores(place: Place) -> None:
    entry = place.stored.scores_config()
    assert entry is not None
    config = _llm_config(place, [entry.model_dump()], {})
    dataset = place.desk.dataset
    suggestions.suggest_by_llm(
        config,
        state.workspace(),
        place.stored.name,
        dataset,
        place.space,
        suggestions.unlabelled(dataset),
    )
    widgets.tell("The LLM scores are shown as suggestions.")
    st.rerun()


def _llm_config(place: Place, entries: list[dict], spending: dict) -> RunConfig:
    return RunConfig.from_dict(
        {
            "name": place.stored.name,
            "seed": place.stored.seed,
            "data": place.config.model_dump(),
            "ml": {"encoder": "none"},
            "llm": entries,
            "costs": spending,
        }
    )


def _ask(place: Place) -> None:
    """The form for an LLM, what it will cost, and the button that starts it."""
    entries = llm_form.llm_sources([])[:1]
    if not entries:
        return
    config = _llm_config(place, entries, llm_form.prices_and_budget(entries))
    count = int(st.number_input("Texts to ask about, drawn at random", 1, 100_000, ASK_TEXTS))
    dataset = place.desk.dataset
    chosen = suggestions.to_ask(dataset, place.stored.seed, count)
    estimated, verdict = suggestions.estimate_llm(
        config, state.workspace(), dataset, place.space, chosen
    )
    st.markdown(
        f"Expected: **{costs.money(estimated.expected.usd)}** for {len(chosen):,} texts in "
        f"{estimated.expected.requests:,} requests; at most {costs.money(estimated.at_most.usd)}. "
        f"{widgets.escape(verdict.sentence)}"
    )
    refused = verdict.verdict == "price unknown"
    if st.button(f"Ask about {len(chosen):,} texts", type="primary", disabled=refused):
        folder = suggestions.folder_of(state.workspace(), place.stored.name)
        file = folder / "llm.yaml"
        write_text(file, config.to_yaml())
        more = ["--config", str(file), "--texts", str(count)]
        suggestions.start(state.workspace(), place.stored.name, suggestions.LLM, more)
        st.rerun()


def under_way(name: str, runs: list[str]) -> None:
    """Suggestions that are being made, until they are there."""
    going = {by: _how_far(name, by) for by in [suggestions.LLM, *runs]}
    for by, making in going.items():
        if making and making.state == "failed":
            st.error(f"No suggestions of {_called(by)}: {widgets.escape(making.message)}")
    if any(making and making.state == "working" for making in going.values()):
        _watch(name, list(going))


def _how_far(name: str, by: str) -> Making | None:
    return suggestions.how_far(state.workspace(), name, by)


def _watch(name: str, runs: list[str]) -> None:
    @st.fragment(run_every=SECONDS_BETWEEN_LOOKS)
    @widgets.guarded
    def watch() -> None:
        found = {by: making for by in runs if (making := _how_far(name, by))}
        working = {by: m for by, m in found.items() if m.state == "working"}
        for by, making in working.items():
            said = making.message or "starting"
            st.info(f"Suggestions of {_called(by)} are being made: {widgets.escape(said)}")
        if not working:
            st.rerun()

    watch()


def confirm_many(place: Place) -> None:
    """Texts with one and the same sure suggestion, confirmed together once they have been seen."""
    found = place.desk.suggestions
    if found is None:
        st.info("There are no suggestions yet: make some on the tab Suggestions.")
        return
    left, right = st.columns(2)
    label = left.selectbox("Suggested label", list(found.space.names), key="bulk_label")
    least = right.slider("At least so sure (%)", 50, 99, 90, key="bulk_least") / 100
    cards = place.desk.alike(label, least, place.who)
    st.caption(
        f"{len(cards):,} texts without a label are suggested to be {widgets.escape(label)} with at "
        f"least {100 * least:.0f} %. Texts of the audit are not among them."
    )
    if cards:
        _confirm_seen(place, cards[:BULK_TEXTS], label)


def _confirm_seen(place: Place, cards: list[Card], label: str) -> None:
    found = place.desk.suggestions
    assert found is not None
    dataset = place.desk.dataset
    rows = [card.row for card in cards]
    listed = pd.DataFrame(
        {
            "right": [True] * len(rows),
            "text": [dataset.texts[i] for i in rows],
            "sure (%)": [100 * found.confidence[i] for i in rows],
            "row": [dataset.row_numbers[i] for i in rows],
        }
    )
    key = f"bulk_{label}_{rows[0]}_{len(rows)}"
    edited = st.data_editor(
        listed,
        hide_index=True,
        width="stretch",
        key=key,
        disabled=["text", "sure (%)", "row"],
        column_config={
            "right": st.column_config.CheckboxColumn("right", width="small"),
            "text": st.column_config.TextColumn("text", width="large"),
            "sure (%)": st.column_config.NumberColumn(format="%.0f"),
        },
    )

    def confirm() -> None:
        # The ticks and the labels as they are now, which may be newer than the page.
        edits, now = st.session_state[key]["edited_rows"], place.book.refresh()
        right = [card for i, card in enumerate(cards) if edits.get(i, {}).get("right", True)]
        group = uuid.uuid4().hex
        entries = [
            place.desk.act("label", card, place.who, visible=True, labels=(label,), group=group)
            for card in right
            if not place.desk.is_done(now, card.row, place.who)
        ]
        place.book.write(entries)
        widgets.tell(f"{len(entries)} texts are {label}. Undo takes all of them back.")

    st.caption("Read them, take the tick off where it is wrong, then confirm the rest.")
    ticked = edited["right"].tolist().count(True)
    st.button(
        f"Confirm {label} for {ticked} texts",
        key=f"confirm_{key}",
        type="primary",
        disabled=not ticked,
        on_click=widgets.at_once(confirm),
    )


def labels_so_far(place: Place) -> None:
    """Counts, agreement, and the labels to take away."""
    found = place.book.refresh()
    st.markdown("**Labels given**")
    widgets.table(labelling.counts_table(found, place.space.names), "given")
    _agreement(place)
    table = with_texts(labels_table(found), place.desk.dataset)
    st.markdown("**The labels as a file**")
    if table.empty:
        st.caption("Nothing is labelled yet.")
        return
    widgets.table(table, "labels", name=f"{place.stored.name}-labels")
    st.download_button(
        f"Download as JSONL ({len(table):,} rows)",
        lambda: str(table.to_json(orient="records", lines=True, force_ascii=False)),
        file_name=f"{place.stored.name}-labels.jsonl",
        on_click="ignore",
    )
    for damaged in place.book.journal.damaged:
        st.warning(
            f"Line {damaged.line} of the journal was left half-written by a process that died. It "
            "was never acknowledged and counts for nothing; it stays in the file."
        )


def _agreement(place: Place) -> None:
    found = place.book.state
    st.markdown("**Agreement**")
    table = labelling.agreement_table(all_agreements(found))
    if table.empty:
        st.caption("There is nothing to compare with yet: earlier labels, suggestions, people.")
        return
    widgets.table(table, "agreement")
    st.caption(
        "Only suggestions that were not seen say how right they are: one that is seen sways."
    )
    together = alpha(found)
    if together is not None:
        st.caption(f"Krippendorff's alpha of all people: {together:.3f}")
    if conflicts := found.conflicts():
        st.caption(f"On {len(conflicts):,} texts people disagree; the latest label counts.")
