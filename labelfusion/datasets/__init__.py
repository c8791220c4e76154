"""The data sets of a workspace: their versions, settings and attached scores."""

from labelfusion.datasets.cells import with_labels, without_rows
from labelfusion.datasets.records import Scores, StoredDataset, Version
from labelfusion.datasets.store import DatasetStore, check_scores

__all__ = [
    "DatasetStore",
    "Scores",
    "StoredDataset",
    "Version",
    "check_scores",
    "with_labels",
    "without_rows",
]
