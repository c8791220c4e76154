"""The files of a fusion model: fusion.json and fusion.safetensors, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.errors import RunError
from labelfusion.fusion.candidates import Combiner, combiner_from_state, combiner_state
from labelfusion.fusion.choice import CandidateScore, Choice
from labelfusion.fusion.decisions import DecisionRule

FORMAT = 1
SPEC, ARRAYS = "fusion.json", "fusion.safetensors"


@dataclass(frozen=True)
class SubsetModel:
    """What is used on rows where exactly one subset of the sources is present."""

    combiner: Combiner
    rule: DecisionRule
    choice: Choice


def write_models(
    folder: Path,
    sources: Sequence[str],
    prior: np.ndarray,
    prior_rule: DecisionRule,
    models: Mapping[str, SubsetModel],
) -> None:
    """Write a model's parts into an existing folder."""
    from safetensors.numpy import save_file

    arrays = {"prior": prior, "rule": prior_rule.thresholds}
    specs = {}
    for name, model in models.items():
        specs[name], own = _state(model)
        arrays |= {f"{name}/{key}": value for key, value in own.items()}
    values = {
        "format": FORMAT,
        "sources": list(sources),
        "at_least_one": prior_rule.at_least_one,
        "models": specs,
    }
    save_file({key: np.ascontiguousarray(a) for key, a in arrays.items()}, folder / ARRAYS)
    (folder / SPEC).write_text(json.dumps(values, indent=1), encoding="utf-8")


def read_models(
    folder: Path,
) -> tuple[tuple[str, ...], np.ndarray, DecisionRule, dict[str, SubsetModel]]:
    """Sources, prior, prior rule and models by name. Raises RunError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        values = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(
            "The fusion model cannot be read",
            where=str(folder),
            found=str(error),
            remedy="Train again, or restore the folder from a copy",
        ) from error
    if values["format"] > FORMAT:
        raise RunError(
            "The fusion model is of a newer format",
            where=str(folder),
            expected=f"at most {FORMAT}",
            found=str(values["format"]),
            remedy="Upgrade labelfusion",
        )
    models = {name: _from_state(name, spec, arrays) for name, spec in values["models"].items()}
    rule = DecisionRule(arrays["rule"], values["at_least_one"])
    return tuple(values["sources"]), arrays["prior"], rule, models


def _state(model: SubsetModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    combiner, arrays = combiner_state(model.combiner)
    spec = {
        "combiner": combiner,
        "at_least_one": model.rule.at_least_one,
        "choice": model.choice.to_dict(),
    }
    return spec, arrays | {"thresholds": model.rule.thresholds}


def _from_state(name: str, spec: dict[str, Any], arrays: dict[str, np.ndarray]) -> SubsetModel:
    own = {key.split("/", 1)[1]: a for key, a in arrays.items() if key.startswith(f"{name}/")}
    rule = DecisionRule(own.pop("thresholds"), spec["at_least_one"])
    values = spec["choice"]
    scores = tuple(CandidateScore(**score) for score in values["candidates"])
    choice = Choice(**{**values, "sources": tuple(values["sources"]), "candidates": scores})
    return SubsetModel(combiner_from_state(spec["combiner"], own), rule, choice)
