"""Data: bring a table in, say which column holds what, and see what is wrong with it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from labelfusion.config import DataConfig
from labelfusion.data import SUFFIXES, Finding, guess_layout
from labelfusion.datasets import StoredDataset, without_rows
from labelfusion.types import SignalKind
from labelfusion.ui import balance_chart, state, widgets
from labelfusion.ui.tables import balance, split_balance

INTRO = "Bring a table of texts, say which column holds what, and see what to mend before training."
TABS = ("Preview", "Columns", "Labels", "Findings", "Test split", "LLM scores")
LAYOUTS = {
    "one": "One column, one label a text",
    "delimited": "One column, several labels with a delimiter",
    "indicators": "A column of 0 and 1 for each label",
    "none": "No labels yet",
}
KINDS: dict[SignalKind, str] = {
    "probabilities": "Probabilities, 0 to 1",
    "hard": "Hard labels, 0 or 1",
    "logits": "Logits, any number",
}
# Findings that leaving rows out mends, and how the button says it.
REMEDIES = {
    "empty_text": "Remove the rows without text",
    "duplicate_text": "Keep only the first of each text",
    "conflicting_labels": "Remove the rows that disagree",
    "leakage": "Remove these test rows",
    "not_text": "Remove these rows",
}
SHOWN_ROWS = 12
NONE = "(none)"


def upload() -> None:
    """Take a file in. The key changes with every upload, so that one file is not taken twice."""
    count = st.session_state.setdefault("uploads", 0)
    file = st.file_uploader(
        "CSV, TSV, XLSX, JSONL or Parquet, up to 200 MB, one text a row",
        type=[suffix.removeprefix(".") for suffix in SUFFIXES],
        key=f"upload_{count}",
    )
    with st.expander("How to read the file, if it is not read rightly by itself"):
        boxes = st.columns(3)
        encoding = boxes[0].text_input("Encoding", placeholder="detected, e.g. cp1252")
        delimiter = boxes[1].text_input("Delimiter", placeholder="detected, e.g. ;")
        sheet = boxes[2].text_input("Sheet of a workbook", placeholder="the first one")
    if file is not None:
        given = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet}
        reading = {key: value for key, value in given.items() if value}
        stored = state.store().add(file.name, file.getvalue(), reading)
        st.session_state["uploads"] = count + 1
        state.set_param("dataset", stored.name)
        st.rerun()


def heading(stored: StoredDataset) -> None:
    """What the data set is, which version is used, and the way to delete it."""
    versions, delete = st.columns([4, 1.4], vertical_alignment="bottom")
    notes = {v.number: f"v{v.number}: {v.rows:,} rows, {v.note}" for v in stored.versions}
    current = list(notes).index(stored.current)
    number = versions.selectbox("Version", list(notes), current, format_func=notes.__getitem__)
    if number != stored.current:
        state.store().use_version(stored, number)
        st.rerun()
    with delete.popover("Delete", width="stretch"):
        st.write(f"Delete {stored.name} with all its versions? Runs made from it stay.")
        # The key names what is deleted, so that a second press cannot reach the next data set.
        if st.button("Delete it", type="primary", key=f"delete_{stored.name}"):
            state.store().delete(stored.name)
            state.set_param("dataset", None)
            st.rerun()


def preview(stored: StoredDataset) -> None:
    table = state.open_table(stored.config)
    notes = " · ".join(f"{name}: {note}" for name, note in table.notes.items())
    if notes:
        st.caption(widgets.escape(notes))
    frame = table.frame.copy(deep=False)
    frame.insert(0, "row", table.row_numbers, allow_duplicates=True)
    widgets.table(frame, "preview", name=stored.name)


def columns(stored: StoredDataset) -> None:
    """The layout: guessed with reasons, then changed or confirmed."""
    table = state.open_table(stored.config)
    with st.expander("Why it was guessed so", expanded=not stored.confirmed):
        st.markdown("\n".join(f"- {widgets.escape(r)}" for r in guess_layout(table).reasons))
    config, names = stored.config, table.columns
    left, right = st.columns(2)
    texts = left.multiselect(
        "Text columns, read in this order", names, [c for c in config.text_columns if c in names]
    )
    identifier = right.selectbox("Id column", [NONE, *names], _at(names, config.id_column))
    layout = st.radio("How labels are written", list(LAYOUTS), _layout_index(config), LAYOUTS.get)
    labels = label_fields(layout, config, names)
    if st.button("Save the layout", type="primary", disabled=not texts):
        id_column = None if identifier == NONE else identifier
        changed = {"text_columns": texts, "id_column": id_column, **labels}
        save(stored, DataConfig.model_validate(config.model_dump() | changed), "Layout saved")
    if not stored.confirmed:
        st.warning("This layout is a guess. Look at it and save it.")


def label_fields(layout: str, config: DataConfig, names: list[str]) -> dict[str, object]:
    """The settings that belong to a way of writing labels."""
    fields: dict[str, object] = {"label_column": None, "label_delimiter": None}
    fields |= {"label_columns": None, "multi_label": layout != "one"}
    several_now = bool(config.multi_label)
    left, right = st.columns(2)
    if layout in ("one", "delimited"):
        index = max(_at(names, config.label_column) - 1, 0)
        fields["label_column"] = left.selectbox("Label column", names, index)
    if layout == "delimited":
        fields["label_delimiter"] = right.text_input("Delimiter", config.label_delimiter or "|")
    if layout == "indicators":
        chosen = [c for c in config.label_columns or [] if c in names]
        fields["label_columns"] = left.multiselect("Label columns", names, chosen)
        several = right.checkbox("A text may have several labels, or none", several_now)
        fields["multi_label"] = several
    if layout == "none":
        written = left.text_input(
            "Labels there will be, separated by commas", ", ".join(config.labels)
        )
        known = [name.strip() for name in written.split(",") if name.strip()]
        fields["labels"] = {name: config.labels.get(name, "") for name in known}
        fields["multi_label"] = right.checkbox("A text may have several labels", several_now)
    return fields


def _at(names: list[str], name: str | None) -> int:
    return names.index(name) + 1 if name in names else 0


def _layout_index(config: DataConfig) -> int:
    if config.label_columns:
        return 2
    if config.label_column:
        return 1 if config.label_delimiter else 0
    return 3


def save(stored: StoredDataset, config: DataConfig, done: str, seed: int | None = None) -> None:
    changed = state.store().configure(stored, config, seed)
    if stored.scores and not changed.scores:
        done += ". The LLM scores no longer fit the labels and were detached"
    widgets.tell(done + ".")
    st.rerun()


def labels(stored: StoredDataset) -> None:
    """Class balance, and one line of description a label."""
    dataset = state.open_dataset(stored.config)
    counts = balance(dataset)
    widgets.show_chart(balance_chart.class_balance(counts), "balance")
    st.markdown("**What each label means.** One line each goes into the prompt of an LLM.")
    rows = counts.rename("texts").rename_axis("label").reset_index()
    rows["description"] = [stored.config.labels.get(name, "") for name in rows["label"]]
    edited = st.data_editor(
        rows,
        hide_index=True,
        width="stretch",
        disabled=["label", "texts"],
        column_config={"description": st.column_config.TextColumn("description", width="large")},
    )
    if st.button("Save the descriptions", type="primary"):
        described = dict(zip(edited["label"], edited["description"].fillna(""), strict=True))
        config = stored.config.model_copy(update={"labels": described})
        save(stored, config, "Descriptions saved")


def findings(stored: StoredDataset) -> None:
    found = state.findings(stored.config)
    if not found:
        st.success("Nothing was found to mend. Go on to the test split, or train.")
    for number, finding in enumerate(found):
        with st.container(border=True):
            show_finding(stored, finding, number)


def show_finding(stored: StoredDataset, finding: Finding, number: int) -> None:
    mark = {"error": "✗ Error", "warning": "! Warning", "info": "i Note"}[finding.severity]
    st.markdown(f"**{mark}.** {widgets.escape(finding.message)} {widgets.escape(finding.remedy)}")
    if not finding.rows:
        return
    listed = ", ".join(map(str, finding.rows[:SHOWN_ROWS]))
    more = len(finding.rows) - SHOWN_ROWS
    st.caption(f"Rows {listed}" + (f" and {more:,} more" if more > 0 else ""))
    table = state.open_table(stored.config)
    if unfolded := widgets.fold("Show the rows", f"finding_{number}_fold"):
        chosen = pd.Series(table.row_numbers).isin(finding.rows).to_numpy()
        with unfolded:
            widgets.table(table.frame.loc[chosen, :], f"finding_{number}", name=finding.kind)
    button = REMEDIES.get(finding.kind)
    # The key names the finding, so that a second press cannot reach the next one.
    key = f"mend_{stored.name}_{stored.current}_{number}"
    if button and st.button(f"{button} ({len(finding.rows):,})", key=key):
        kept = without_rows(table, finding.rows)
        mended = state.store().add_version(stored, kept, f"without {finding.kind}")
        widgets.tell(f"Version {mended.current} has {len(kept):,} rows; the old one is kept.")
        st.rerun()


def test_split(stored: StoredDataset) -> None:
    """How the texts that the model is never shown are set aside."""
    config, names = stored.config, state.open_table(stored.config).columns
    own = st.radio(
        "Texts for the final test",
        [False, True],
        int(config.split_column is not None),
        lambda own: "Use a column of the file" if own else "Draw them, each label in proportion",
    )
    left, right = st.columns(2)
    changed: dict[str, object] = {"split_column": None}
    seed = stored.seed
    if own:
        index = max(_at(names, config.split_column) - 1, 0)
        changed["split_column"] = left.selectbox("Column with train and test", names, index)
    else:
        share = left.slider("Share for the test (%)", 5, 60, round(100 * config.test_size))
        changed["test_size"] = share / 100
        seed = int(right.number_input("Seed", 0, 2**31 - 1, stored.seed))
    asked = DataConfig.model_validate(config.model_dump() | changed)
    if st.button("Save the test split", type="primary"):
        save(stored, asked, "Test split saved", seed)
    dataset = state.open_dataset(asked)
    split = state.split(asked, seed)
    unused = len(dataset) - len(split.train) - len(split.test)
    st.caption(
        f"{len(split.train):,} texts for training, {len(split.test):,} for the test, {unused:,} in "
        "neither (unlabelled, empty or repeated). The same seed always draws the same texts."
    )
    widgets.table(split_balance(dataset, split), "split")


def scores(stored: StoredDataset) -> None:
    """LLM scores made elsewhere: what is attached, and a file to attach."""
    if stored.scores:
        file = stored.scores
        text = (
            f"{file.original_name} covers {file.covered:,} of {file.total:,} texts ({file.kind})."
        )
        (st.success if file.covered == file.total else st.warning)(widgets.escape(text))
    else:
        st.info("No scores are attached. Attach a file, or train the encoder alone.")
    kind = st.selectbox("What the numbers are", list(KINDS), format_func=KINDS.__getitem__)
    count = st.session_state.setdefault("score_uploads", 0)
    file = st.file_uploader(
        "A table with the id (or the text) and a column for each label", key=f"scores_{count}"
    )
    if file is not None and st.button("Check and attach", type="primary"):
        attached = state.store().attach_scores(stored, file.name, file.getvalue(), kind)
        st.session_state["score_uploads"] = count + 1
        covered = attached.scores.covered if attached.scores else 0
        widgets.tell(f"{file.name} is attached and covers {covered:,} texts.")
        st.rerun()


SECTIONS = (preview, columns, labels, findings, test_split, scores)

with widgets.page("Data", INTRO):
    known = state.store().list()
    with st.expander("Upload a file", expanded=not known), widgets.errors_as_sentences():
        upload()
    if not known:
        widgets.empty(
            "There is no data set yet. Upload a file, or try the sample tickets.",
            "app.py",
            "Overview",
        )
        st.stop()
    name = state.choose("Data set", "dataset", {one.name: one.name for one in known})
    chosen = state.store().open(name)
    heading(chosen)
    widgets.tabs(TABS, SECTIONS, chosen)
    st.page_link("pages/train.py", label="Train on this data →", query_params={"dataset": name})
