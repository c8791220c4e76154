"""LabelFusion: fuse an ML encoder and LLMs into better labels.

The public names are imported on first use, so `import labelfusion` loads neither torch,
transformers nor streamlit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelfusion.config import RunConfig
    from labelfusion.errors import LabelFusionError
    from labelfusion.estimator import AutoFusionClassifier
    from labelfusion.fusion.model import FusionModel
    from labelfusion.runs import ResultsManager
    from labelfusion.types import Dataset, LabelSpace, Prediction, Signal

__version__ = "0.1.0"

_HOMES = {
    "AutoFusionClassifier": "labelfusion.estimator",
    "Dataset": "labelfusion.types",
    "FusionModel": "labelfusion.fusion.model",
    "LabelFusionError": "labelfusion.errors",
    "LabelSpace": "labelfusion.types",
    "Prediction": "labelfusion.types",
    "ResultsManager": "labelfusion.runs",
    "RunConfig": "labelfusion.config",
    "Signal": "labelfusion.types",
}
__all__ = [
    "AutoFusionClassifier",
    "Dataset",
    "FusionModel",
    "LabelFusionError",
    "LabelSpace",
    "Prediction",
    "ResultsManager",
    "RunConfig",
    "Signal",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'labelfusion' has no attribute {name!r}")
