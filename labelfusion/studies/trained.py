"""What a transfer study applies: models trained from a config, once a seed, or a trained run.

Both say which systems they have, what each says of given signals, and their own test rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from labelfusion.config import RunConfig
from labelfusion.data import load_dataset
from labelfusion.encoders import Encoder
from labelfusion.errors import RunError
from labelfusion.fusion.heads import METHODS
from labelfusion.llm import TrainingTexts
from labelfusion.llm.keys import digest
from labelfusion.pipeline import training_texts
from labelfusion.runs import Run, RunFolder, check_unchanged
from labelfusion.studies.asking import data_digest, sha256_of
from labelfusion.studies.cells import Cell
from labelfusion.studies.grid import GridStudy
from labelfusion.studies.options import Options, Place
from labelfusion.studies.systems import changed, fit, fusion_method
from labelfusion.types import Dataset, Prediction, Signal, Split

Signals = Mapping[str, Signal]
System = Callable[[Signals], Prediction]
RUN_FUSION = "fusion"


class Trained(Protocol):
    """What a transfer study needs to know of its models."""

    dataset: Dataset
    sources: list[str]
    fusion: str

    @property
    def examples(self) -> TrainingTexts | None: ...

    def fingerprint(self) -> str: ...

    def cells(self) -> list[Cell]: ...

    def system(self, cell: Cell) -> System: ...

    def own(self, cell: Cell) -> tuple[Signals, np.ndarray]:
        """Signals and targets (n, k) of test rows that the model's own data has."""
        ...

    def encoder(self, cell: Cell) -> Encoder | None: ...

    def tell_cost(self) -> None: ...


class FromConfig(GridStudy):
    """Every source and every method, trained on the config's own data once a seed."""

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        super().__init__(config, place, options)
        self.dataset, self.sources = self.material.dataset, self.material.sources
        self.fusion = fusion_method(config.fusion)

    @property
    def examples(self) -> TrainingTexts | None:
        return self.material.example_texts

    def cells(self) -> list[Cell]:
        return self.grid([*self.sources, *(METHODS if len(self.sources) > 1 else ())])

    def system(self, cell: Cell) -> System:
        block, name = self.block(cell), str(cell.values["system"])
        if name in self.sources:
            model = fit(
                block, changed(self.config.fusion, method="auto"), signals={name: block.train[name]}
            )
            return lambda signals: model.predict_alone(signals[name])
        return fit(block, changed(self.config.fusion, method=name)).predict

    def own(self, cell: Cell) -> tuple[Signals, np.ndarray]:
        block = self.block(cell)
        return block.test, block.test_targets

    def encoder(self, cell: Cell) -> Encoder | None:
        if self.config.ml.encoder == "none":
            return None
        return self.material.final_encoder(self.block(cell))


class FromRun:
    """The sources and the fusion of a finished run, as they are."""

    fusion = RUN_FUSION

    def __init__(self, path: Path, place: Place) -> None:
        """Raises RunError: the run is not finished, or its data are not what they were."""
        folder = RunFolder(path)
        if not folder.status.is_file():
            raise RunError("There is no run here", where=str(path), remedy="Give a run's folder")
        self.run = Run(folder)
        self.config = self.run.config
        check_unchanged(folder, self.run.status, self.config)
        self.model = self.run.model(place.workspace.cache)
        self.sources = list(self.model.source_names)
        self.dataset = load_dataset(self.config.data)
        parts = self.run.splits["split"].to_numpy(dtype=str)
        self.split = Split(np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test"))

    @property
    def examples(self) -> TrainingTexts:
        return training_texts(self.dataset, self.split)

    def fingerprint(self) -> str:
        files = sorted(p for p in self.run.folder.model.rglob("*") if p.is_file())
        return digest([data_digest(self.dataset), *(sha256_of(p.read_bytes()) for p in files)])

    def cells(self) -> list[Cell]:
        size, seed = len(self.split.train), self.config.seed
        return [
            Cell({"system": system, "size": size, "seed": seed})
            for system in [*self.sources, *([RUN_FUSION] if len(self.sources) > 1 else [])]
        ]

    def system(self, cell: Cell) -> System:
        name, fusion = str(cell.values["system"]), self.model.fusion
        if name in self.sources:
            return lambda signals: fusion.predict_alone(signals[name])
        return fusion.predict

    def own(self, cell: Cell) -> tuple[Signals, np.ndarray]:  # noqa: ARG002
        test = self.split.test
        signals = {name: self.run.signals[name].take(test) for name in self.sources}
        return signals, self.dataset.targets[test]

    def encoder(self, cell: Cell) -> Encoder | None:  # noqa: ARG002
        return self.model.encoder

    def tell_cost(self) -> None:
        """A trained run has all of its own scores."""
