"""Label: texts one after the other, a key a label, every press kept; then train again."""

from __future__ import annotations

import streamlit as st

from labelfusion import jobs
from labelfusion.config import RunConfig
from labelfusion.labelling.apply import apply, labels_by_row, pending
from labelfusion.labelling.training import change_between, expected_gain, next_config, runs_of
from labelfusion.llm import asks
from labelfusion.runs import Run
from labelfusion.ui import label_desk, label_panels, labelling, llm_panels, state, widgets
from labelfusion.ui.label_desk import Place
from labelfusion.ui.tables import metric_called

INTRO = "Label texts with the keyboard: every press is on the disk before the next text is shown."
TABS = ("Label", "Suggestions", "Confirm many", "Labels so far", "Train again")
LOOK_SECONDS = 2.0
MORE_LABELS = 100
ENCODERS = {"minilm": "MiniLM sentence encoder", "tfidf": "TF-IDF words"}


def person() -> str:
    """The name that goes into the journal with every press; kept in the address."""
    known = state.param("who") or ""
    st.session_state["who_field"] = known
    st.text_input(
        "Your name",
        key="who_field",
        max_chars=60,
        placeholder="goes into the journal with every label",
        on_change=lambda: state.set_param("who", st.session_state["who_field"].strip() or None),
    )
    return known


def label(place: Place) -> None:
    label_desk.label_area(place)
    with st.expander("Another label is needed"):
        label_panels.more_labels(place)


def suggest(place: Place) -> None:
    label_panels.make_suggestions(place, runs_of(state.workspace(), place.stored))


def train(place: Place) -> None:
    """How much more labels would bring, training with those there are, and what it changed."""
    runs = runs_of(state.workspace(), place.stored)
    usefulness(place, runs)
    found, missing = labels_by_row(place.desk.dataset, place.book.refresh())
    if missing:
        st.caption(f"{missing:,} labelled texts are no longer in the data and are left out.")
    new = pending(place.desk.dataset, found)
    start(place, runs, len(new))
    if after := state.param("after"):
        outcome(place, state.param("before"), after)


def usefulness(place: Place, runs: list[Run]) -> None:
    gain = expected_gain(state.workspace(), place.stored.name, runs, MORE_LABELS)
    if gain is None:
        st.info("How much more labels would bring is known once a run has been tested.")
    elif gain.enough:
        st.success(gain.sentence)
    else:
        st.info(gain.sentence)


def start(place: Place, runs: list[Run], new: int) -> None:
    """The button that trains: with new labels, or on a version that no run has seen."""
    before = runs[0] if runs else None
    encoder = "minilm"
    if before is None:
        encoder = st.radio("Text encoder (ML)", list(ENCODERS), format_func=ENCODERS.get)
    untrained = all(run.config.data.path != place.stored.config.path for run in runs)
    if not new and not (untrained and place.desk.dataset.labelled.any()):
        st.caption("There are no labels that the last run has not seen.")
        return
    config = next_config(place.stored, before, encoder)
    paid = any(asks(entry) for entry in config.llm)
    if paid and not new:
        llm_panels.estimate(config)
    again = "Train again" if before else "Train"
    words = f"{again} with {new:,} new labels" if new else f"{again} on version "
    if paid and new:
        words = f"Make a version with {new:,} new labels"
    if not new:
        words += str(place.stored.current)
    if st.button(words, type="primary"):
        begin(place, before, encoder, new=new, wait=bool(paid and new))


def begin(place: Place, before: Run | None, encoder: str, *, new: int, wait: bool) -> None:
    """Make the version; start the job, unless `wait`: the cost of LLMs is to be shown first."""
    stored = place.stored
    if new:
        table = state.open_table(place.config)
        stored = apply(
            state.store(), stored, table, place.desk.dataset, place.book.refresh()
        ).stored
        widgets.tell(f"Version {stored.current} of {stored.name} has the new labels.")
    if not wait:
        config: RunConfig = next_config(stored, before, encoder)
        state.check(config)
        run_id = jobs.start(state.workspace(), config, name=stored.name)
        state.set_param("before", before.id if before else None)
        state.set_param("after", run_id)
    st.rerun()


def outcome(place: Place, before: str | None, after: str) -> None:
    """The run under way, or what it changed on the same test texts."""
    watched = jobs.status(state.workspace(), after).active

    @st.fragment(run_every=LOOK_SECONDS if watched else None)
    @widgets.guarded
    def panel() -> None:
        status = jobs.status(state.workspace(), after)
        if watched and not status.active:
            st.rerun()
        st.subheader(f"{status.name}: {status.state}", anchor=False)
        if status.active:
            st.caption(f"{status.stage}: {widgets.escape(status.message)}")
        elif status.error:
            st.error(widgets.escape(status.error))
        if status.state == "finished":
            changed(place, before, state.open_run(after))
        page = "pages/results.py" if status.state == "finished" else "pages/jobs.py"
        st.page_link(page, label="See the run →", query_params={"run": after})

    panel()


def changed(place: Place, before: str | None, after: Run) -> None:
    if before is None:
        task, fused = after.metrics["task"], after.metrics["systems"]["fusion"]["metrics"]
        metric = metric_called(task["primary"])
        st.metric(f"First model: {metric.name}", metric.show(fused[metric.key]))
        st.caption(f"On {after.metrics['n']['test']:,} test texts, drawn at random.")
        return
    change = change_between(state.workspace(), place.stored.name, state.open_run(before), after)
    st.markdown(
        f"**{change.labels[0]:,} → {change.labels[1]:,} training labels**, compared on the same "
        f"{change.texts:,} test texts. {widgets.escape(change.sentence)}"
    )
    widgets.table(labelling.change_table(change), "change")
    changed_texts = f"The {len(change.changed):,} test texts whose label changed"
    if unfolded := widgets.fold(changed_texts, "changed_fold"):
        with unfolded:
            widgets.table(change.changed, "changed_rows")


SECTIONS = (label, suggest, label_panels.confirm_many, label_panels.labels_so_far, train)

with widgets.page("Label", INTRO):
    known = state.store().list()
    if not known:
        widgets.empty("There is no data to label yet.", "pages/data.py", "Upload a file")
        st.stop()
    chosen, named = st.columns([3, 2])
    with chosen:
        name = state.choose("Data set", "dataset", {one.name: one.name for one in known})
    with named:
        who = person()
    dataset = state.store().open(name)
    book = label_desk.book_of(name)
    if not who:
        st.info("Type your name first: it is kept with every label you give.")
        st.stop()
    config = dataset.config
    if not (config.label_column or config.label_columns or config.labels or book.state.declared):
        label_panels.declare(dataset, book, who)
        st.stop()
    with st.expander("What to ask, and in which order"):
        asked = label_panels.plan(dataset)
        by = label_panels.choose_suggestions(dataset)
    place = label_desk.place_of(dataset, who, asked, by)
    widgets.tabs(TABS, SECTIONS, place)
