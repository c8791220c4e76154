"""The files of a fusion model: fusion.json and fusion.safetensors, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelfusion.errors import RunError
from labelfusion.fusion.candidates import (
    Combiner,
    arrays_under,
    combiner_from_state,
    combiner_state,
)
from labelfusion.fusion.choice import CandidateScore, Choice
from labelfusion.fusion.decisions import DecisionRule
from labelfusion.tasks import Task

# 2: the combiners have weights, where the mean of all was taken before.
FORMAT = 2
SPEC, ARRAYS = "fusion.json", "fusion.safetensors"


@dataclass(frozen=True)
class SubsetModel:
    """What is used on rows where exactly one subset of the sources is present."""

    combiners: tuple[Combiner, ...]
    rule: DecisionRule
    choice: Choice

    @property
    def members(self) -> tuple[int, ...]:
        """Positions of the sources that any of the combiners uses."""
        return tuple(sorted({s for combiner in self.combiners for s in combiner.candidate.members}))

    def apply(self, evidence: np.ndarray, task: Task) -> np.ndarray:
        """(S, n, k) evidence of all sources -> (n, k): the combiners' evidence, mixed."""
        fused = [combiner.apply(evidence, task) for combiner in self.combiners]
        return mixed(fused, self.choice.weights, task)


def mixed(evidence: Sequence[np.ndarray], weights: Sequence[float], task: Task) -> np.ndarray:
    """The weighted mean of several (n, k) evidences: a log-linear pool; the weights sum to 1."""
    return task.normalise(np.tensordot(weights, np.stack(evidence), axes=1))


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
    if values["format"] != FORMAT:
        newer = values["format"] > FORMAT
        raise RunError(
            f"The fusion model is of {'a newer' if newer else 'an older'} format",
            where=str(folder),
            expected=str(FORMAT),
            found=str(values["format"]),
            remedy="Upgrade labelfusion" if newer else "Train again: the run's config is kept",
        )
    models = {name: _from_state(name, spec, arrays) for name, spec in values["models"].items()}
    rule = DecisionRule(arrays["rule"], values["at_least_one"])
    return tuple(values["sources"]), arrays["prior"], rule, models


def _state(model: SubsetModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    specs, arrays = [], {"thresholds": model.rule.thresholds}
    for i, combiner in enumerate(model.combiners):
        spec, own = combiner_state(combiner)
        specs.append(spec)
        arrays |= {f"{i}/{key}": value for key, value in own.items()}
    described = {
        "combiners": specs,
        "at_least_one": model.rule.at_least_one,
        "choice": model.choice.to_dict(),
    }
    return described, arrays


def _from_state(name: str, spec: dict[str, Any], arrays: dict[str, np.ndarray]) -> SubsetModel:
    own = arrays_under(arrays, f"{name}/")
    rule = DecisionRule(own["thresholds"], spec["at_least_one"])
    combiners = tuple(
        combiner_from_state(part, arrays_under(own, f"{i}/"))
        for i, part in enumerate(spec["combiners"])
    )
    values = spec["choice"]
    scores = tuple(CandidateScore(**score) for score in values["candidates"])
    names = ("sources", "used", "weights")
    tuples = {name: tuple(values[name]) for name in names} | {"candidates": scores}
    return SubsetModel(combiners, rule, Choice(**{**values, **tuples}))
