"""What would stop a run, found before it starts. Reads the data; trains and pays for nothing."""

from __future__ import annotations

from pathlib import Path

from labelfusion.config import RunConfig
from labelfusion.datasets import check_scores
from labelfusion.errors import InputError, LabelFusionError


def preflight(config: RunConfig) -> list[LabelFusionError]:
    """Everything that stands in the way of `config`; [] means that it can start.

    Reports rather than raises, so that all is seen at once.
    """
    try:
        _check_data(config)
    except InputError as error:
        # Without readable data the other checks would repeat the same complaint.
        return [error]
    found: list[LabelFusionError] = []
    for check in (_check_encoder, _check_recorded):
        try:
            check(config)
        except LabelFusionError as error:
            found.append(error)
    return found


def _check_data(config: RunConfig) -> None:
    from labelfusion.data import load_dataset, make_split

    make_split(load_dataset(config.data), config.data, config.seed)


def _check_encoder(config: RunConfig) -> None:
    from labelfusion.encoders.pretrained import DEFAULT_ENCODER, default_folder

    if config.ml.encoder == DEFAULT_ENCODER:
        default_folder()


def _check_recorded(config: RunConfig) -> None:
    for entry in config.llm:
        if entry.provider == "recorded" and entry.path:
            check_scores(Path(entry.path), config.data, entry.kind)
