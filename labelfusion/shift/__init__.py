"""Shift: whether new texts are unlike those a run was trained on, text by text and as a whole.

    features.py   texts -> unit vectors: the frozen encoder's embeddings, else hashed characters
    reference.py  what is kept of the training texts, and its two files in a model folder
    unlike.py     a warning per text, as a conformal p-value; the nearest training texts
    drift.py      a file against the training texts, in figures and in a sentence

Knows encoders, signals and the fusion model. Does not know run folders, files of texts or pages.
"""

from labelfusion.shift.drift import Drift, LabelShare, Tally, drift_of, measure_drift, tally
from labelfusion.shift.features import written
from labelfusion.shift.reference import Reference, make_reference
from labelfusion.shift.unlike import ALPHA, Unlike, find_unlike, nearest_training

__all__ = [
    "ALPHA",
    "Drift",
    "LabelShare",
    "Reference",
    "Tally",
    "Unlike",
    "drift_of",
    "find_unlike",
    "make_reference",
    "measure_drift",
    "nearest_training",
    "tally",
    "written",
]
