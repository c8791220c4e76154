"""How every encoder lies on disk: `encoder.json` and `encoder.safetensors`, no pickle.

Knows the files, the format version, the labels and the head. The rest is each backbone's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.config import MLConfig
from labelfusion.encoders.head import LogisticHead
from labelfusion.errors import ModelError
from labelfusion.types import LabelSpace

FORMAT = 1
SETTINGS_FILE = "encoder.json"
ARRAYS_FILE = "encoder.safetensors"
_HEAD = ("weights", "bias", "fitted")


@dataclass(frozen=True)
class Stored:
    """An encoder as it lies in its folder; `details` and `arrays` are the backbone's own."""

    backbone: str
    config: MLConfig
    seed: int
    head: LogisticHead
    details: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def write(folder: Path, space: LabelSpace, stored: Stored) -> None:
    """Write an encoder into `folder`, which is made if need be."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "format": FORMAT,
        "backbone": stored.backbone,
        "labels": list(space.names),
        "multi_label": space.multi_label,
        "config": stored.config.model_dump(),
        "seed": stored.seed,
        "c": stored.head.c,
        "details": dict(stored.details),
    }
    arrays = {f"head.{name}": getattr(stored.head, name) for name in _HEAD} | dict(stored.arrays)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, folder / ARRAYS_FILE)
    text = json.dumps(settings, ensure_ascii=False, indent=1)
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")


def read(folder: Path, space: LabelSpace) -> Stored:
    """Read what `write` wrote.

    Raises:
        ModelError: files are absent or damaged, of a newer format, or of other labels.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        _check(settings, folder, space)
        arrays = load_file(folder / ARRAYS_FILE)
        head = LogisticHead(*(arrays.pop(f"head.{name}") for name in _HEAD), c=settings["c"])
        config = MLConfig.model_validate(settings["config"])
        seed, details = int(settings["seed"]), settings["details"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            "The stored encoder cannot be read",
            where=str(folder),
            expected=f"{SETTINGS_FILE} and {ARRAYS_FILE}",
            found=f"{type(error).__name__}: {error}",
            remedy="Train the run again",
        ) from error
    return Stored(settings["backbone"], config, seed, head, details, arrays)


def _check(settings: Any, folder: Path, space: LabelSpace) -> None:
    if settings["format"] > FORMAT:
        raise ModelError(
            "The stored encoder is of a newer format",
            where=str(folder),
            expected=f"format {FORMAT} or older",
            found=f"format {settings['format']}",
            remedy="Update labelfusion",
        )
    found = (tuple(settings["labels"]), settings["multi_label"])
    if found != (space.names, space.multi_label):
        raise ModelError(
            "The stored encoder was trained on other labels",
            where=str(folder),
            expected=", ".join(space.names),
            found=", ".join(settings["labels"]),
        )


def fitted(head: LogisticHead | None) -> LogisticHead:
    """The head, or ModelError if there is none yet."""
    if head is None:
        raise ModelError("The encoder has not been trained", remedy="Call fit first")
    return head
