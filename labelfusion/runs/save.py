"""What a finished fit leaves in its run folder.

Turns a FittedRun into files. Does not compute anything that the fit did not.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from labelfusion.evaluation import model_card
from labelfusion.files import TEMPORARY, write_json, write_parquet, write_text
from labelfusion.runs.folder import RunFolder, SignalStore
from labelfusion.types import Dataset, Prediction, Split

if TYPE_CHECKING:
    from labelfusion.pipeline import FittedRun


def save_finished(
    folder: RunFolder, fitted: FittedRun, data_info: Mapping[str, Any] | None = None
) -> None:
    """Write every artefact of a fit, each atomically. The status is the caller's to set, last.

    `data_info` is {path, sha256} of the data file, for the model card.
    """
    dataset = fitted.dataset
    split = split_names(dataset, fitted.split)
    write_parquet(folder.splits, splits_frame(dataset, fitted.split, fitted.folds))
    store = SignalStore(folder.signals, dataset.ids, dataset.space.names, split)
    for source, signal in fitted.signals.items():
        store[source] = signal
    parts = [
        _dataset_columns(dataset, rows, split).join(prediction_frame(prediction))
        for rows, prediction in (
            (fitted.split.test, fitted.test_prediction),
            (fitted.split.train, fitted.train_prediction),
            (fitted.split.predict, fitted.new_prediction),
        )
    ]
    write_parquet(folder.predictions, pd.concat(parts, ignore_index=True))
    write_json(folder.findings, [finding.to_dict() for finding in fitted.findings])
    write_json(folder.metrics, fitted.report)
    _save_model(folder, fitted)
    about = {"name": dataset.name, "rows": len(dataset), **(data_info or {})}
    write_text(folder.model_card, model_card(fitted.report, fitted.config.to_dict(), about))


def split_names(dataset: Dataset, split: Split) -> np.ndarray:
    """(n,) str: train, test, unlabelled, or dropped (labelled, and used by neither)."""
    names = np.where(dataset.labelled, "dropped", "unlabelled").astype("<U10")
    names[split.train] = "train"
    names[split.test] = "test"
    return names


def splits_frame(dataset: Dataset, split: Split, folds: np.ndarray) -> pd.DataFrame:
    """id, row, split, fold of every row; the fold is missing outside the training rows."""
    fold = pd.array([pd.NA] * len(dataset), dtype="Int64")
    fold[split.train] = folds
    return pd.DataFrame(
        {
            "id": dataset.ids.astype(str),
            "row": dataset.row_numbers,
            "split": split_names(dataset, split),
            "fold": fold,
        }
    )


def _dataset_columns(dataset: Dataset, rows: np.ndarray, split: np.ndarray) -> pd.DataFrame:
    part = dataset.take(rows)
    return pd.DataFrame(
        {
            "id": part.ids.astype(str),
            "row": part.row_numbers,
            "split": split[rows],
            "gold": part.space.joined(part.targets),
        }
    )


def prediction_frame(prediction: Prediction) -> pd.DataFrame:
    """prediction, p_<label>, <source>_present and, if held, contribution_<source>_<label>."""
    space = prediction.space
    columns: dict[str, object] = {"prediction": space.joined(prediction.decisions)}
    for j, label in enumerate(space.names):
        columns[f"p_{label}"] = prediction.probabilities[:, j]
    for s, source in enumerate(prediction.sources):
        columns[f"{source}_present"] = prediction.present[:, s]
    if prediction.contributions is not None:
        for s, source in enumerate(prediction.sources):
            for j, label in enumerate(space.names):
                columns[f"contribution_{source}_{label}"] = prediction.contributions[:, s, j]
    return pd.DataFrame(columns)


def _save_model(folder: RunFolder, fitted: FittedRun) -> None:
    prepared = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.path))
    try:
        prepared.chmod(0o755)
        fitted.classifier.save(prepared)
        # Only a run that is not finished is ever saved, so an older model is a torn one.
        shutil.rmtree(folder.model, ignore_errors=True)
        prepared.rename(folder.model)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
