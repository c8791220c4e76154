"""The labelling area: a text, its suggestion, the labels' keys. A press redraws it alone.

Draws, and hands each press to the journal before the next text is shown. Which text that is, and
what a press means, `labelfusion.labelling` knows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from labelfusion.config import DataConfig
from labelfusion.datasets import StoredDataset
from labelfusion.errors import LabelFusionError
from labelfusion.labelling.apply import label_space, readable
from labelfusion.labelling.desk import Book, Card, Desk, Plan
from labelfusion.labelling.journal import Act, Entry, Journal, Shown
from labelfusion.labelling.suggestions import Suggestions, folder_of, read_suggestions
from labelfusion.types import LabelSpace
from labelfusion.ui import labelling as words
from labelfusion.ui import state, widgets


@dataclass(frozen=True)
class Place:
    """Who labels what: a data set with its journal, the labels there are, the order of asking."""

    stored: StoredDataset
    config: DataConfig
    book: Book
    space: LabelSpace
    who: str
    desk: Desk


@st.cache_resource(max_entries=32, show_spinner=False)
def _book(path: str) -> Book:
    return Book(Journal(Path(path)))


def book_of(name: str) -> Book:
    """The journal of a data set, read by all sessions of this process together."""
    book = _book(str(Journal.of(state.workspace(), name).path))
    book.refresh()
    return book


def place_of(stored: StoredDataset, who: str, plan: Plan, by: str | None) -> Place:
    """All that labelling needs, read once until data, plan or suggestions change.

    Raises LabelFusionError: the data or the suggestions cannot be read.
    """
    book = book_of(stored.name)
    config = readable(stored.config, book.state)
    space = label_space(state.open_dataset(config), book.state)
    file = folder_of(state.workspace(), stored.name) / f"{by}.parquet"
    stamp = file.stat().st_mtime if by and file.is_file() else 0.0
    described = config.model_dump_json()
    desk = _desk(stored.name, described, space.names, plan, by if stamp else None, stamp)
    return Place(stored, config, book, space, who, desk)


@st.cache_resource(max_entries=8, show_spinner="Putting the texts in order")
def _desk(
    name: str,
    config: str,
    labels: tuple[str, ...],
    plan: Plan,
    by: str | None,
    stamp: float,  # noqa: ARG001 - part of the cache's key
) -> Desk:
    book = book_of(name)
    dataset = state.open_dataset(DataConfig.model_validate_json(config))
    space = label_space(dataset, book.state)
    assert space.names == labels
    found: Suggestions | None = None
    if by:
        found = read_suggestions(state.workspace(), name, by, dataset, space)
    return Desk(dataset, book, plan, found)


def label_area(place: Place) -> None:
    """The text at hand and everything that can be done with it."""

    @st.fragment
    @widgets.guarded
    def area() -> None:
        _say_error()
        card = _card(place)
        if card is None:
            _all_done(place)
            return
        left, right = widgets.figures("desk", 2)
        with left:
            _text(place, card)
            _acts(place, card)
        with right:
            _labels(place, card)
        _note(place, card)

    area()


def _say_error() -> None:
    if error := st.session_state.pop("label_error", None):
        if isinstance(error, LabelFusionError):
            widgets.show_error(error)
        else:
            st.error(f"Nothing was written: {error}. Press again once there is room on the disk.")


def _card(place: Place) -> Card | None:
    """The card on the screen, or the next one."""
    at = st.session_state.get("label_at")
    same = at is not None and at[0] == place.who and at[2] is place.desk
    if at is not None and same and not _answered(place, at[1]):
        return at[1]
    card = place.desk.next_card(place.who)
    _put(place, card)
    return card


def _answered(place: Place, card: Card) -> bool:
    """Whether another browser of the same person has answered the card meanwhile."""
    fresh = place.book.refresh()
    return st.session_state.get("label_again") != card.row and place.desk.is_done(
        fresh, card.row, place.who
    )


def _put(place: Place, card: Card | None) -> None:
    """Have `card` on the screen from now on."""
    session = st.session_state
    session["label_at"] = None if card is None else (place.who, card, place.desk)
    session["label_since"] = time.monotonic()
    session["label_picked"] = frozenset()


def _all_done(place: Place) -> None:
    if place.desk.dataset.labelled.all() and place.desk.plan.strategy != "errors":
        st.success("Every text of this data set has a label already.")
        target = {"dataset": place.stored.name, "strategy": "errors", "tab": "Label"}
        st.page_link(
            "pages/label.py", label="Look at suspected errors among them →", query_params=target
        )
        return
    st.success("There is no text left to label in this order.")
    st.caption(_progress(place))
    if place.book.state.last_act(place.who):
        st.button("Undo", key="undo_done", shortcut=words.UNDO, on_click=undo, args=(place,))


def _progress(place: Place) -> str:
    left = place.desk.left(place.who)
    return words.progress_words(place.book.state, place.who, left)


def _visible() -> bool:
    return st.session_state.get("suggestions_visible", True)


def _text(place: Place, card: Card) -> None:
    dataset = place.desk.dataset
    flagged = "  ·  flagged" if place.book.state.flagged(place.desk.name(card.row)) else ""
    st.caption(
        f"Row {dataset.row_numbers[card.row]}  ·  "
        f"{words.REASONS.get(card.reason, card.reason)}{flagged}"
    )
    with st.container(border=True):
        st.text(dataset.texts[card.row])
    if not dataset.metadata.empty:
        shown = dataset.metadata.iloc[card.row]
        st.caption(widgets.escape("  ·  ".join(f"{k}: {v}" for k, v in shown.items() if v)))
    for note in place.book.state.notes(place.desk.name(card.row)):
        st.caption(widgets.escape(f"Note of {note.who}: {note.note}"))
    st.caption(_progress(place))


def _labels(place: Place, card: Card) -> None:
    shown = place.desk.shown(card, visible=_visible())
    _suggestion(place, card, shown)
    names = place.space.names
    many = len(names) >= words.MANY_LABELS
    if many:
        _type_ahead(place, card)
    picked: frozenset[str] = st.session_state["label_picked"]
    suggested = shown.labels if shown and not shown.hidden else ()
    typed = words.beginnings(names) if many else {}
    with st.container(horizontal=True, gap="small", height=words.height(len(names))):
        for number, name in enumerate(names):
            # The key names text and state, so that no press can reach a button drawn for another.
            st.button(
                _button_text(name, typed.get(name), name in suggested),
                key=f"give_{card.row}_{number}_{len(picked)}_{name in picked}",
                type="primary" if name in picked else "secondary",
                shortcut=words.key_of(number),
                help=place.space.descriptions.get(name) or None,
                on_click=_pick if place.space.multi_label else _give,
                args=(place, card, name),
            )
    if place.space.multi_label:
        st.button(
            f"Save: {', '.join(sorted(picked)) or 'none of them'}",
            key=f"save_{card.row}_{len(picked)}",
            type="primary",
            shortcut=words.CONFIRM,
            on_click=_give_all,
            args=(place, card, tuple(n for n in names if n in picked)),
        )


def _button_text(name: str, typed: str | None, suggested: bool) -> str:
    mark = "✦ " if suggested else ""
    hint = f"  ({widgets.escape(typed)})" if typed else ""
    return f"{mark}{widgets.escape(name)}{hint}"


def _suggestion(place: Place, card: Card, shown: Shown | None) -> None:
    if shown is None:
        return
    if shown.hidden:
        st.caption(
            "No suggestion for a text of the audit: it would sway."
            if card.is_audit
            else "Suggestions are hidden."
        )
        return
    said = ", ".join(shown.labels) or "none of the labels"
    st.markdown(f"**Suggested:** {widgets.escape(said)} ({100 * shown.confidence:.0f} %)")
    st.caption(widgets.escape(_by_source(place, card)))
    if place.space.multi_label:
        st.button(
            "Take it over",
            key=f"take_{card.row}",
            shortcut=words.TAKE,
            on_click=_take,
            args=(card, frozenset(shown.labels)),
        )
    elif len(shown.labels) == 1:
        st.button(
            "Accept it",
            key=f"accept_{card.row}",
            shortcut=words.CONFIRM,
            on_click=_give,
            args=(place, card, shown.labels[0]),
        )


def _by_source(place: Place, card: Card) -> str:
    """What each source says by itself, in a line."""
    found = place.desk.suggestions
    parts = []
    for source, scores in (found.sources if found else {}).items():
        row = scores[card.row]
        if found and row.size and row[0] == row[0]:
            best = int(row.argmax())
            parts.append(f"{source}: {found.space.names[best]} {100 * row[best]:.0f} %")
    return "  ·  ".join(parts)


def _type_ahead(place: Place, card: Card) -> None:
    with st.form("type_ahead", clear_on_submit=True, border=False):
        st.text_input(
            "First letters of the label, then Enter",
            key="typed_label",
            placeholder="the letters in brackets are enough",
            autocomplete="off",
        )
        # Enter in the field presses the form's button, which need not be seen for that.
        st.form_submit_button("Give", on_click=_typed, args=(place, card))


def _typed(place: Place, card: Card) -> None:
    typed = st.session_state["typed_label"].strip()
    if not typed:
        if place.space.multi_label:
            picked = st.session_state["label_picked"]
            _give_all(place, card, tuple(n for n in place.space.names if n in picked))
        return
    try:
        name = words.find_label(typed, place.space.names)
    except LabelFusionError as error:
        st.session_state["label_error"] = error
        return
    (_pick if place.space.multi_label else _give)(place, card, name)


def _acts(place: Place, card: Card) -> None:
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Skip",
            key=f"skip_{card.row}",
            shortcut=words.SKIP,
            on_click=_press,
            args=(place, card, "skip"),
        )
        st.button(
            "Flag",
            key=f"flag_{card.row}",
            shortcut=words.FLAG,
            on_click=_press,
            args=(place, card, "flag"),
            help="Mark it for a talk with others; a second time takes the mark off.",
        )
        st.button(
            "Undo",
            key=f"undo_{card.row}",
            shortcut=words.UNDO,
            on_click=undo,
            args=(place,),
            disabled=place.book.state.last_act(place.who) is None,
        )
        if place.desk.suggestions:
            st.button(
                "Hide suggestions" if _visible() else "Show suggestions",
                key=f"hide_{card.row}_{_visible()}",
                shortcut=words.HIDE,
                on_click=_toggle_visible,
            )


def _toggle_visible() -> None:
    st.session_state["suggestions_visible"] = not _visible()


def _note(place: Place, card: Card) -> None:
    key = f"note_{card.row}"
    st.text_input(
        "Note on this text",
        key=key,
        placeholder="why it is hard, what to ask; Enter keeps it",
        on_change=_keep_note,
        args=(place, card, key),
    )


def _keep_note(place: Place, card: Card, key: str) -> None:
    if text := st.session_state[key].strip():
        _press(place, card, "note", note=text)
        st.session_state[key] = ""


def _pick(_: Place, card: Card, name: str) -> None:
    if _is_current(card):
        st.session_state["label_picked"] ^= {name}


def _take(card: Card, names: frozenset[str]) -> None:
    if _is_current(card):
        st.session_state["label_picked"] = names


def _give(place: Place, card: Card, name: str) -> None:
    _press(place, card, "label", labels=(name,))


def _give_all(place: Place, card: Card, names: tuple[str, ...]) -> None:
    _press(place, card, "label", labels=names)


def _is_current(card: Card) -> bool:
    at = st.session_state.get("label_at")
    return at is not None and at[1] == card


def _press(place: Place, card: Card, act: Act, **more: object) -> None:
    """Write an act to the journal. A press meant for a text that has gone is not one."""
    if not _is_current(card):
        return
    seconds = round(time.monotonic() - st.session_state["label_since"], 2)
    entry = place.desk.act(act, card, place.who, visible=_visible(), seconds=seconds, **more)
    if write(place, [entry]) and act in ("label", "skip"):
        st.session_state["label_at"] = None
        st.session_state.pop("label_again", None)


def write(place: Place, entries: list[Entry]) -> bool:
    """Append to the journal; what keeps it from being written is said on the next drawing."""
    try:
        place.book.write(entries)
    except (LabelFusionError, OSError) as error:
        st.session_state["label_error"] = error
        return False
    return True


def undo(place: Place) -> None:
    """Take the person's last act back and show its text again."""
    last = place.book.refresh().last_act(place.who)
    if last is None:
        return
    if write(place, [Entry("undo", place.who, undoes=last.group or last.id)]):
        card = place.desk.card_of((last.row, last.text))
        _put(place, card)
        st.session_state["label_again"] = card.row if card else None
