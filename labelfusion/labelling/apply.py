"""The journal's labels as a new version of the data set, and as a table to take away.

Knows data sets and the replayed journal. Never changes a version; trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labelfusion.config import DataConfig
from labelfusion.data import Table, make_split
from labelfusion.datasets import DatasetStore, StoredDataset
from labelfusion.errors import InputError
from labelfusion.labelling.acquisition import AUDIT
from labelfusion.labelling.journal import Entry, text_hash
from labelfusion.labelling.state import Key, LabelState, match_rows
from labelfusion.types import Dataset, LabelSpace

DELIMITERS = ("|", ";", ",", "/", "\t", "\x1f")
LABEL_COLUMN, SPLIT_COLUMN, ID_COLUMN = "label", "split", "row_id"


@dataclass(frozen=True)
class Applied:
    """What became of the journal.

    Attributes:
        stored: the data set at its new version.
        new: rows whose labels differ from those the version before had.
        missing: journalled texts that are no longer in the data.
    """

    stored: StoredDataset
    new: int
    missing: int


def keys_of(dataset: Dataset) -> list[Key]:
    """(id, text hash) of each row."""
    return [(str(i), text_hash(t)) for i, t in zip(dataset.ids, dataset.texts, strict=True)]


def readable(config: DataConfig, state: LabelState) -> DataConfig:
    """`config`, with the declared labels where the data have no label column to tell them from."""
    if config.label_column or config.label_columns or not state.declared:
        return config
    update = {"labels": dict(state.declared), "multi_label": bool(state.multi_label)}
    return config.model_copy(update=update)


def label_space(dataset: Dataset, state: LabelState) -> LabelSpace:
    """The labels a person may give: those of the data and those declared, with what they mean."""
    declared = {name: meaning for name, meaning in state.declared.items() if name}
    names = tuple(dict.fromkeys([*dataset.space.names, *declared]))
    several = dataset.space.multi_label or bool(state.multi_label)
    return LabelSpace(names, several, {**dataset.space.descriptions, **declared})


def labels_by_row(dataset: Dataset, state: LabelState) -> tuple[dict[int, Entry], int]:
    """The label that counts for each labelled position, and how many texts are gone."""
    current = state.current()
    rows = {key: i for i, key in enumerate(keys_of(dataset))}
    places = match_rows(current, rows)
    found = {i: current[key] for key, positions in places.items() for i in positions}
    return found, len(current) - len(places)


def pending(dataset: Dataset, labels: Mapping[int, Entry]) -> list[int]:
    """Positions whose journalled labels the data does not have yet."""
    names = np.asarray(dataset.space.names, dtype=object)
    return [
        i
        for i, entry in labels.items()
        if not dataset.labelled[i] or set(names[dataset.targets[i] > 0]) != set(entry.labels)
    ]


def apply(
    store: DatasetStore, stored: StoredDataset, table: Table, dataset: Dataset, state: LabelState
) -> Applied:
    """Make the journal's labels a new version; audited texts are in its test split.

    The test texts there were stay test texts, so that figures before and after can be compared.

    Args:
        table, dataset: the current version as it is read.

    Raises InputError: there is nothing new, or the data cannot be read with the labels.
    """
    labels, missing = labels_by_row(dataset, state)
    changed = pending(dataset, labels)
    if not changed:
        raise InputError(
            "There are no new labels",
            where=stored.name,
            remedy="Label some texts first",
        )
    space = label_space(dataset, state)
    sets = _label_sets(dataset, labels)
    frame, config = table.frame.copy(), stored.config
    frame, config = _with_ids(frame, config, dataset)
    frame, config = _with_labels(frame, config, sets, space)
    frame, config = _with_split(frame, config, dataset, labels, stored.seed)
    note = f"with {len(changed):,} labels of {', '.join(_people(labels, changed))}"
    made = store.with_journal(stored, frame, config, note)
    return Applied(made, len(changed), missing)


def _people(labels: Mapping[int, Entry], rows: list[int]) -> list[str]:
    return sorted({labels[i].who for i in rows})


def _label_sets(dataset: Dataset, labels: Mapping[int, Entry]) -> list[tuple[str, ...] | None]:
    """Each row's labels, None where it has none: the journal's where there are, else the data's."""
    names = np.asarray(dataset.space.names, dtype=object)
    sets: list[tuple[str, ...] | None] = [
        tuple(names[row > 0]) if labelled else None
        for row, labelled in zip(dataset.targets, dataset.labelled, strict=True)
    ]
    for i, entry in labels.items():
        sets[i] = entry.labels
    return sets


def _with_ids(
    frame: pd.DataFrame, config: DataConfig, dataset: Dataset
) -> tuple[pd.DataFrame, DataConfig]:
    """Rows keep their ids: where writing the file anew would renumber them, as a column."""
    if config.id_column or np.array_equal(dataset.row_numbers, np.arange(len(dataset)) + 2):
        return frame, config
    name = _free(frame, ID_COLUMN)
    frame.insert(0, name, [str(i) for i in dataset.ids])
    return frame, config.model_copy(update={"id_column": name})


def _with_labels(
    frame: pd.DataFrame,
    config: DataConfig,
    sets: list[tuple[str, ...] | None],
    space: LabelSpace,
) -> tuple[pd.DataFrame, DataConfig]:
    used = {label for labels in sets for label in labels or ()}
    # A label that no text has yet is left out of the data; the journal keeps it declared.
    there = used | set(config.label_columns or ())
    meanings = {name: text for name, text in space.descriptions.items() if name in there}
    update: dict[str, object] = {"labels": meanings, "multi_label": space.multi_label}
    if config.label_columns:
        columns = [name for name in space.names if name in there]
        _check_new_columns(frame, [name for name in columns if name not in config.label_columns])
        for name in columns:
            frame[name] = ["" if s is None else str(int(name in s)) for s in sets]
        return frame, config.model_copy(update=update | {"label_columns": columns})
    column = config.label_column or _free(frame, LABEL_COLUMN)
    delimiter = _delimiter(config, space, used)
    frame[column] = ["" if s is None else _cell(s, delimiter) for s in sets]
    update |= {"label_column": column, "label_delimiter": delimiter}
    return frame, DataConfig.model_validate(config.model_dump() | update)


def _check_new_columns(frame: pd.DataFrame, names: list[str]) -> None:
    both = [name for name in names if name in frame.columns]
    if both:
        raise InputError(
            "A new label is called as a column that holds something else",
            found=", ".join(both),
            remedy="Rename the label, or the column in the file",
        )


def _delimiter(config: DataConfig, space: LabelSpace, used: set[str]) -> str | None:
    if not space.multi_label:
        return None
    tried = [config.label_delimiter] if config.label_delimiter else []
    fits = (d for d in (*tried, *DELIMITERS) if not any(d in name for name in used))
    return next(fits)


def _cell(labels: tuple[str, ...], delimiter: str | None) -> str:
    if delimiter is None:
        return labels[0]
    # A delimiter alone says that the text was looked at and has none of the labels.
    return delimiter.join(labels) or delimiter


def _with_split(
    frame: pd.DataFrame,
    config: DataConfig,
    dataset: Dataset,
    labels: Mapping[int, Entry],
    seed: int,
) -> tuple[pd.DataFrame, DataConfig]:
    split = _split_now(dataset, config, seed)
    new = [i for i in labels if not dataset.labelled[i]]
    for i in new:
        if not split[i]:
            split[i] = "test" if labels[i].strategy == AUDIT else "train"
    column = config.split_column or _free(frame, SPLIT_COLUMN)
    frame[column] = split
    return frame, config.model_copy(update={"split_column": column})


def _split_now(dataset: Dataset, config: DataConfig, seed: int) -> list[str]:
    """ "train", "test" or "" of each row, as a run on the data as they are would divide them."""
    if dataset.split is not None:
        return [str(part) for part in dataset.split]
    parts = [""] * len(dataset)
    try:
        split = make_split(dataset, config, seed)
    except InputError:
        # Too few labels to have been divided before, so no figure rests on a test split yet.
        return ["train" if labelled else "" for labelled in dataset.labelled]
    for name, rows in (("train", split.train), ("test", split.test)):
        for i in rows:
            parts[i] = name
    return parts


def _free(frame: pd.DataFrame, name: str) -> str:
    """`name`, or the like, as no column is called."""
    taken = {column.casefold() for column in frame.columns}
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, 99))) if n not in taken)


def labels_table(state: LabelState) -> pd.DataFrame:
    """One row a labelled, skipped, flagged or noted text: what people said of it.

    Columns: id, text_hash, labels (joined by "|"), labelled, who, at, strategy, flagged, skipped,
    notes, suggested, suggested_by, suggestion_seen, seconds, people (how many labelled), agreed.
    """
    return pd.DataFrame([_row(state, key) for key in state.touched() if state.acts(key)])


def _row(state: LabelState, key: Key) -> dict[str, object]:
    given = state.given(key)
    last = list(given.values())[-1] if given else None
    shown = last.shown if last else None
    return {
        "id": key[0],
        "text_hash": key[1],
        "labels": "|".join(last.labels) if last else "",
        "labelled": last is not None,
        "who": last.who if last else "",
        "at": last.at if last else "",
        "strategy": last.strategy if last else "",
        "flagged": state.flagged(key),
        "skipped": any(state.skipped(key, who) for who in state.people()),
        "notes": " / ".join(entry.note for entry in state.notes(key)),
        "suggested": "|".join(shown.labels) if shown else "",
        "suggested_by": shown.by if shown else "",
        "suggestion_seen": bool(shown and not shown.hidden),
        "seconds": last.seconds if last else None,
        "people": len(given),
        "agreed": len({frozenset(entry.labels) for entry in given.values()}) <= 1,
    }


def with_texts(labels: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """`labels_table` with the texts of the data beside it ("" for texts that are gone)."""
    if labels.empty:
        return labels
    texts = dict(zip(keys_of(dataset), dataset.texts, strict=True))
    by_hash = {key[1]: text for key, text in texts.items()}
    pairs = zip(labels["id"], labels["text_hash"], strict=True)
    shown = [texts.get(key, by_hash.get(key[1], "")) for key in pairs]
    labels = labels.copy()
    labels.insert(1, "text", shown)
    return labels
