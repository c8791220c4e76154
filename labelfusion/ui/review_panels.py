"""One text under review: what was said of it and by whom, texts like it, and the verdict on it.

Draws. Verdicts are kept by `labelfusion.review.verdicts`, figures are made in `review_charts`.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import streamlit as st

from labelfusion.review import ReviewRows
from labelfusion.review.verdicts import Verdict, Verdicts, text_digest
from labelfusion.runs import Run
from labelfusion.ui import review_charts, state, widgets
from labelfusion.ui.charts import system_name

if TYPE_CHECKING:
    from labelfusion.datasets import StoredDataset
    from labelfusion.review.corrections import Corrected

PAGE = "pages/errors.py"
NO_LABEL = "no label"


@dataclass(frozen=True)
class Desk:
    """What a verdict needs: the run, its rows and, if it is one, the data set of the workspace."""

    run: Run
    rows: ReviewRows
    stored: StoredDataset | None

    @cached_property
    def pending(self) -> dict[str, Verdict]:
        """Fixes that no version has yet, by id."""
        return Verdicts(self.stored.folder).pending() if self.stored else {}

    @cached_property
    def kept(self) -> set[tuple[str, str, tuple[str, ...], str]]:
        return Verdicts(self.stored.folder).kept() if self.stored else set()

    def labels_of(self, position: int) -> tuple[str, ...]:
        """The labels of the data."""
        gold = self.rows.gold[position]
        return tuple(name for name, given in zip(self.rows.space.names, gold, strict=True) if given)

    def give(
        self,
        position: int,
        action: Literal["fix", "keep"],
        new: tuple[str, ...] = (),
        label: str = "",
    ) -> None:
        """Journal a verdict on a row, at once, and say so."""
        if self.stored is None or self.rows.texts is None:
            return
        row_id, old = str(self.rows.ids[position]), self.labels_of(position)
        if action == "fix" and set(new) == set(old):
            return
        text = text_digest(self.rows.texts[position])
        verdict = Verdict(row_id, text, action, old, new, who(), self.run.id, label)
        Verdicts(self.stored.folder).add(verdict)
        widgets.tell(_said(action, self.rows.row_numbers[position], new))

    def take_back(self, verdict: Verdict) -> None:
        """Withdraw a pending correction."""
        if self.stored is not None:
            Verdicts(self.stored.folder).add(replace(verdict, action="withdraw", who=who()))
            widgets.tell(f"The correction of {verdict.id} is taken back.")

    def is_kept(self, position: int, label: str) -> bool:
        """Whether somebody said that this label, or all of the row's, is right."""
        if self.rows.texts is None or not self.kept:
            return False
        digest = text_digest(self.rows.texts[position])
        key = (str(self.rows.ids[position]), digest, self.labels_of(position))
        return bool({(*key, label), (*key, "")} & self.kept)


def _said(action: str, row: int, new: tuple[str, ...]) -> str:
    if action == "fix":
        return f"Row {row} will be {named(new)} once the corrections are saved as a version."
    return f"Row {row} keeps its label and is no longer suspected."


def named(labels: tuple[str, ...]) -> str:
    """Labels in a sentence."""
    return " and ".join(labels) or NO_LABEL


def who() -> str:
    """Whose verdicts these are."""
    return st.session_state.get("reviewer") or default_reviewer()


def default_reviewer() -> str:
    """The name that the computer knows its user by."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unnamed"


def detail(desk: Desk, position: int) -> None:
    """Everything about one row."""
    rows = desk.rows
    if rows.texts is not None:
        with st.container(border=True):
            st.text(rows.texts[position])
    gold, decided = rows.gold_names[position], rows.decided_names[position]
    st.caption(
        f"Row {rows.row_numbers[position]:,} · id {widgets.escape(str(rows.ids[position]))} · "
        f"{'test text' if rows.split[position] == 'test' else 'training text, out of fold'} · "
        f"data: {widgets.escape(gold or NO_LABEL)} · fusion: {widgets.escape(decided or NO_LABEL)} "
        f"at {rows.confidence[position]:.0%}"
    )
    verdict_form(desk, position)
    left, right = widgets.figures("row", 2)
    with left:
        said = review_charts.probability_table(rows, position)
        widgets.show_chart(review_charts.probabilities(said), "said")
    with right:
        contributions(rows, position)
    nearest(desk, position)


def contributions(rows: ReviewRows, position: int) -> None:
    """Bars for one label, the fusion's first choice unless another is picked."""
    if rows.contributions is None:
        st.caption("This run holds no contributions.")
        return
    if np.isnan(rows.contributions[position]).any():
        st.caption(
            "No contributions: the final model was trained on this text, so they are kept for "
            "test texts. What each source says of it is out of fold."
        )
        return
    names = list(rows.space.names)
    top = int(rows.probabilities[position].argmax())
    label = st.selectbox("Contributions to", names, top, key=f"share_of_{rows.ids[position]}")
    table = review_charts.contribution_table(rows, position, label)
    widgets.show_chart(review_charts.contributions(table, label), "shares")


def nearest(desk: Desk, position: int) -> None:
    st.markdown("**Training texts most like it**")
    if desk.rows.texts is None:
        st.caption("The data file has been moved or changed since, so there are no texts.")
        return
    near = state.neighbours(desk.run)
    st.caption(f"By {near.way}; similarity is the cosine.")
    widgets.table(near.of(position), "nearest")


def verdict_form(desk: Desk, position: int) -> None:
    """Fix this label, or keep it."""
    if desk.stored is None or desk.rows.texts is None:
        st.caption("Labels can be fixed once the run's data is a data set here.")
        return
    row_id, names = str(desk.rows.ids[position]), list(desk.rows.space.names)
    pending = desk.pending.get(row_id)
    if pending:
        st.info(f"To be corrected to {widgets.escape(named(pending.new))} (by {pending.who}).")
    key = f"labels_of_{row_id}"
    line = st.container(horizontal=True, vertical_alignment="bottom")
    if desk.rows.space.multi_label:
        start = list(pending.new) if pending else list(desk.labels_of(position))
        new = tuple(line.multiselect("Right labels", names, start, key=key))
    else:
        top = pending.new[0] if pending else names[int(desk.rows.probabilities[position].argmax())]
        new = (line.selectbox("Right label", names, names.index(top), key=key),)
    same = set(new) == set(desk.labels_of(position))
    hint = "It is the label that the data has." if same else None

    def fix() -> None:
        # What the box shows now, which may be newer than the page.
        chosen = st.session_state[key]
        wanted = chosen if desk.rows.space.multi_label else (chosen,)
        desk.give(position, "fix", tuple(sorted(wanted, key=names.index)))

    fixing = widgets.at_once(fix)
    line.button("Fix this label", type="primary", disabled=same, help=hint, on_click=fixing)
    kept = "It is right: do not suspect it again."
    line.button("Keep it", help=kept, on_click=widgets.at_once(desk.give), args=(position, "keep"))
    if pending:
        taking = widgets.at_once(desk.take_back)
        st.button("Take the correction back", on_click=taking, args=(pending,))


def issue_card(desk: Desk, issue: Mapping[Any, Any]) -> None:
    """A suspected label with what each source says, and the verdict in one click."""
    position, several = int(issue["position"]), desk.rows.space.multi_label
    escape = widgets.escape
    st.markdown(f"**Row {issue['row']}** · in the data: **{escape(issue['gold'] or NO_LABEL)}**")
    st.text(_beginning(str(issue["text"])))
    st.caption(
        f"Fusion's margin for {escape(issue['label'])}: {issue['margin']:+.2f}. "
        + " · ".join(_opinion(issue, source) for source in desk.rows.answers)
    )
    row_id, label = str(issue["id"]), str(issue["label"])
    suggested = str(issue["suggested"])
    given = label in desk.labels_of(position)
    words = f"Take “{label}” off" if given else f"Add “{label}”"
    key = f"{row_id}_{label}"

    def fix() -> None:
        # Of the row's other labels, some may have been corrected since the page was drawn.
        new = _suggested(replace(desk), position, label) if several else (suggested,)
        desk.give(position, "fix", new)

    with st.container(horizontal=True, vertical_alignment="center"):
        asked = words if several else f"Fix: it is “{suggested}”"
        st.button(asked, key=f"fix_{key}", type="primary", on_click=widgets.at_once(fix))
        keep, kept = widgets.at_once(desk.give), (position, "keep", (), label)
        st.button("Keep it", key=f"keep_{key}", on_click=keep, args=kept)
        query = {"run": desk.run.id, "row": row_id, "tab": "Texts"}
        st.page_link(PAGE, label="Look closer →", query_params=query)


def _opinion(issue: Mapping[Any, Any], source: str) -> str:
    p = issue[f"p_{source}"]
    if p != p:
        return f"{widgets.escape(system_name(source))}: no answer"
    said = widgets.escape(str(issue[source]) or NO_LABEL)
    return f"{widgets.escape(system_name(source))}: {said}, gives the data's label {p:.0%}"


def _suggested(desk: Desk, position: int, label: str) -> tuple[str, ...]:
    """The row's labels, pending corrections counted, with one of them not as in the data."""
    pending, given = desk.pending.get(str(desk.rows.ids[position])), desk.labels_of(position)
    now = set(pending.new if pending else given)
    now = now - {label} if label in given else now | {label}
    return tuple(name for name in desk.rows.space.names if name in now)


def _beginning(text: str, width: int = 400) -> str:
    return text if len(text) <= width else text[:width] + " …"


def verdict_table(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """Verdicts for people: who said what of which text, and when."""
    rows = [
        {
            "time": verdict.time,
            "who": verdict.who,
            "verdict": verdict.action,
            "id": verdict.id,
            "before": named(verdict.old),
            "after": named(verdict.old if verdict.action == "keep" else verdict.new),
            "version": "" if verdict.version is None else f"v{verdict.version}",
            "run": verdict.run,
        }
        for verdict in verdicts
    ]
    return pd.DataFrame(rows)


def what_happens(again: Corrected, run: Run, stored: StoredDataset) -> str:
    """The new run beside the old one, in words."""
    text = (
        f"A new run with the settings of {run.id} on version {stored.current} of {stored.name}. "
        f"{again.kept_test:,} of the {again.old_test:,} test texts are the same. "
        f"{again.changed_train:,} training texts and {again.changed_test:,} test texts have "
        "another label. "
    )
    if again.changed_test:
        text += "Both runs' figures are measured against their own labels of the test texts. "
    if any(entry.provider != "recorded" for entry in run.config.llm):
        text += "LLM answers that are in the cache are not paid again."
    return text
