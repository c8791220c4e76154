"""From verdicts to a new version of the data set, and the run that trains on it.

A version is added, none is changed. The new one says in a column which part each text had in the
run, so that a run on it keeps its test texts. Knows data sets, runs and verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from labelfusion.config import DataConfig, RunConfig
from labelfusion.data import Table, dataset_from_table, read_table
from labelfusion.data.table import table_from_frame
from labelfusion.datasets import DatasetStore, StoredDataset, with_labels
from labelfusion.errors import InputError
from labelfusion.review.verdicts import Verdict, Verdicts, text_digest

if TYPE_CHECKING:
    from labelfusion.runs import Run
    from labelfusion.types import Dataset

SPLIT_COLUMN = "labelfusion_split"


@dataclass(frozen=True)
class Corrected:
    """What training again would be: the config, and what is the same as in the old run.

    `kept_test` of `old_test` test texts are in the version; `changed_train` and `changed_test`
    texts have other labels than in the run.
    """

    config: RunConfig
    kept_test: int
    old_test: int
    changed_train: int
    changed_test: int


def save_corrections(
    store: DatasetStore, stored: StoredDataset, run: Run, reviewed: Dataset, who: str
) -> StoredDataset:
    """Put the pending fixes into a new version of `stored` and make it the current one.

    Args:
        store: where the data set is.
        stored: the data set; its current version is what is corrected.
        run: the reviewed run, whose split the new version notes.
        reviewed: the data that run was made from.
        who: for the journal.

    Raises:
        InputError: there is nothing to save, a corrected text is not in the current version, or a
            label would be left without any text.
    """
    journal = Verdicts(stored.folder)
    fixes = journal.pending()
    if not fixes:
        raise InputError("There is no correction to save", remedy="Fix a label first")
    layout = _layout(run, stored)
    table = _read(layout)
    current = dataset_from_table(table, layout)
    frame = with_labels(table, layout, _by_row(current, fixes))
    _check_labels(frame, layout, current)
    if layout.split_column in (None, SPLIT_COLUMN):
        frame[SPLIT_COLUMN] = _split_cells(current, reviewed, run)
    count = f"{len(fixes)} label{'s' if len(fixes) > 1 else ''} corrected"
    added = store.add_version(stored, frame, f"{count} after reviewing {run.id}")
    journal.saved(fixes.values(), added.current, who)
    return added


def _layout(run: Run, stored: StoredDataset) -> DataConfig:
    """The run's layout, read from the current version's file."""
    where = ("path", "encoding", "delimiter", "sheet")
    update = {key: getattr(stored.config, key) for key in where}
    return run.config.data.model_copy(update=update)


def _read(config: DataConfig) -> Table:
    return read_table(
        config.path or "",
        encoding=config.encoding,
        delimiter=config.delimiter,
        sheet=config.sheet,
    )


def _by_row(current: Dataset, fixes: Mapping[str, Verdict]) -> dict[int, tuple[str, ...]]:
    """The new labels by row number of the current version."""
    positions = {str(row_id): i for i, row_id in enumerate(current.ids)}
    by_text = {text_digest(text): i for i, text in enumerate(current.texts)}
    labels = {}
    for fix in fixes.values():
        at = positions.get(fix.id)
        if at is None or text_digest(current.texts[at]) != fix.text:
            at = by_text.get(fix.text)
        if at is None:
            raise InputError(
                "A text that was corrected is not in the current version",
                where=current.name,
                found=f"id {fix.id}",
                remedy="Withdraw this correction, or choose the reviewed version on the Data page",
            )
        labels[int(current.row_numbers[at])] = fix.new
    return labels


def _check_labels(frame: pd.DataFrame, config: DataConfig, before: Dataset) -> None:
    """Labels come from the data where they are no columns: the last text of one must stay."""
    used = frame[config.label_column] if config.label_column else None
    if used is None:
        return
    # Descriptions of a label that is gone would be refused before it could be named.
    plain = config.model_copy(update={"labels": {}, "multi_label": before.space.multi_label})
    after = dataset_from_table(table_from_frame(frame), plain)
    gone = sorted(set(before.space.names) - set(after.space.names))
    if gone:
        raise InputError(
            "No text would be left with a label",
            where=before.name,
            found=", ".join(gone),
            remedy="Leave one text with it, or remove the label from the data first",
        )


def _split_cells(current: Dataset, reviewed: Dataset, run: Run) -> np.ndarray:
    """(n,) train, test or "": the run's part of each text; labelled texts it had not are train."""
    part = dict(zip(run.splits["id"].astype(str), run.splits["split"], strict=True))
    old = matched(current, reviewed)
    parts = np.array([part.get(str(row_id), "") for row_id in reviewed.ids], dtype=object)
    known = np.where(np.isin(parts, ("train", "test")), parts, "")
    cells = np.where(current.labelled, "train", "").astype(object)
    cells[old >= 0] = known[old[old >= 0]]
    return cells


def matched(current: Dataset, reviewed: Dataset) -> np.ndarray:
    """(n,) position in `reviewed` of each row of `current`, by id where texts agree, else by text.

    -1 where there is none. A text that occurs several times is found by id only.
    """
    at = pd.Index(reviewed.ids.astype(object)).get_indexer(pd.Index(current.ids.astype(object)))
    old_texts = np.array(reviewed.texts, dtype=object)
    texts = np.array(current.texts, dtype=object)
    same = (at >= 0) & (old_texts[at] == texts)
    once = np.flatnonzero(~pd.Series(old_texts).duplicated(keep=False).to_numpy())
    by_text = pd.Index(old_texts[once]).get_indexer(pd.Index(texts))
    # Position -1, where there is none, finds the -1 at the end.
    return np.where(same, at, np.append(once, -1)[by_text])


def train_again(stored: StoredDataset, run: Run, reviewed: Dataset) -> Corrected:
    """The run's configuration on the current version of its data set, with the same test texts.

    Raises InputError: the version has no column that says which texts those are.
    """
    data = _layout(run, stored)
    table = _read(data)
    if data.split_column is None:
        if SPLIT_COLUMN not in table.columns:
            raise InputError(
                "This version does not say which texts the run was tested on",
                where=f"{stored.name}, version {stored.current}",
                expected="a version made on the Errors page",
                remedy="Correct a label and save, or train on the Train page",
            )
        data = data.model_copy(update={"split_column": SPLIT_COLUMN})
    current = dataset_from_table(table, data)
    return _compared(run, data, current, reviewed)


def _compared(run: Run, data: DataConfig, current: Dataset, reviewed: Dataset) -> Corrected:
    part = run.splits["split"].to_numpy(dtype=object)
    assert current.split is not None
    old = matched(current, reviewed)
    rows = np.flatnonzero((old >= 0) & current.labelled)
    changed = (current.targets[rows] != reviewed.targets[old[rows]]).any(axis=1)
    in_test = current.split[rows] == "test"
    return Corrected(
        config=run.config.model_copy(update={"data": data}),
        kept_test=int((in_test & (part[old[rows]] == "test")).sum()),
        old_test=int((part == "test").sum()),
        changed_train=int((changed & ~in_test).sum()),
        changed_test=int((changed & in_test).sum()),
    )
