"""What calibration does to every source and to the fusion, by the rows it is learned from.

`identity` is how the scores came; `auto` is what FusionModel chooses by cross-validated log-loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.calibration import CALIBRATOR_NAMES
from labelfusion.classifier import scattered
from labelfusion.config import RunConfig
from labelfusion.studies.cells import Cell, Row, only
from labelfusion.studies.grid import GridStudy
from labelfusion.studies.material import Block
from labelfusion.studies.options import Options, Place
from labelfusion.studies.plots import Plot, lines
from labelfusion.studies.statistics import over_seeds
from labelfusion.studies.systems import changed, fit, fused, fusion_method, measured
from labelfusion.studies.words import METRIC_NAMES, listed
from labelfusion.studies.writing import Findings
from labelfusion.types import Prediction, Signal

SIZES = (50, 200, 1000, 5000)
BEFORE, CHOSEN, FUSED = "identity", "auto", "fusion"
CALIBRATORS = (*CALIBRATOR_NAMES, CHOSEN)
METRICS = ("nll", "brier", "ece_mass", "ece_classwise", "accuracy")


class CalibrationStudy(GridStudy):
    """See `labelfusion.studies.study.Study`."""

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        super().__init__(config, place, options)
        self.fusion = changed(config.fusion, method=fusion_method(config.fusion))

    @cached_property
    def sizes(self) -> list[int]:
        """Those of SIZES that there are rows for; all rows where there are fewer than that."""
        asked = self.options.sizes or [size for size in SIZES if size <= self.rows_to_train]
        return self.fitting(asked or [1.0])

    @property
    def sources(self) -> list[str]:
        names = self.material.sources
        return [*names, *([FUSED] if len(names) > 1 else [])]

    def cells(self) -> list[Cell]:
        return [
            Cell(dict(cell.values) | {"calibrator": calibrator})
            for cell in self.grid(self.sources)
            for calibrator in CALIBRATORS
        ]

    def run(self, cell: Cell) -> Sequence[Row]:
        block, source = self.block(cell), str(cell.values["system"])
        calibration = str(cell.values["calibrator"])
        if (source, calibration) == (FUSED, BEFORE):
            # As it is: read as if it were a source, its probabilities would be clipped once more.
            prediction = fused(block, self.fusion)
        else:
            train, test = self._signals(block, source)
            config = changed(self.fusion, method="auto", calibration=calibration)
            prediction = fit(block, config, signals={source: train}).predict({source: test})
        return [measured(block.test_targets, prediction)]

    def _signals(self, block: Block, source: str) -> tuple[Signal, Signal]:
        """What is calibrated: a source's scores, or the fusion's as if it were a source."""
        if source != FUSED:
            return block.train[source], block.test[source]
        signal = self._fused_signal(block)
        return signal.take(block.split.train), signal.take(block.split.test)

    @property
    def further(self) -> Mapping[str, Callable[[Block], Signal]]:
        return {FUSED: self._fused_signal}

    def needs(self, cell: Cell) -> str | None:
        read_as_source = cell.values["system"] == FUSED and cell.values["calibrator"] != BEFORE
        return FUSED if read_as_source else None

    def _fused_signal(self, block: Block) -> Signal:
        return self.material.made(FUSED, block, lambda: self._fused(block))

    def _fused(self, block: Block) -> Signal:
        """The fusion's probabilities: out of fold on the subset, by the final model on the test."""
        model = fit(block, self.fusion)
        assert model.out_of_fold is not None
        parts = [
            (block.split.train, _signal(model.out_of_fold)),
            (block.split.test, _signal(model.predict(block.test))),
        ]
        return scattered(parts, len(self.material.dataset))

    def report(self, cells: pd.DataFrame) -> Findings:
        table = over_seeds(cells, ["system", "size", "calibrator"], METRICS)
        missing = [size for size in SIZES if size > self.rows_to_train]
        about = [
            f"Calibrators learned from {listed(self.sizes)} labelled rows (of the encoder and the "
            f"fusion, out of fold), {len(self.seeds)} seeds, measured on the test rows of each "
            "seed."
        ]
        if missing and not self.options.sizes:
            about.append(
                f"There are {self.rows_to_train} training rows, too few for {listed(missing)} rows."
            )
        return Findings(
            f"Calibration of every source on {self.material.dataset.name}",
            about,
            [_sentence(table, source, size) for source in self.sources for size in self.sizes],
            table,
            ["system", "size", "calibrator", "seeds", "nll", "brier", "ece_mass"],
            [
                _plot(only(table, system=source), source, metric)
                for source in self.sources
                for metric in ("nll", "ece_mass")
            ],
        )


def _signal(prediction: Prediction) -> Signal:
    present = np.asarray(prediction.present.any(axis=1))
    return Signal(FUSED, prediction.probabilities, "probabilities", present, "the fusion")


def _sentence(table: pd.DataFrame, source: str, size: int) -> str:
    rows = only(table, system=source, size=size).set_index("calibrator")
    before, after = rows.loc[BEFORE], rows.loc[CHOSEN]
    fixed = rows.drop(index=[CHOSEN])
    best = fixed["nll"].idxmin()
    return (
        f"{source}, {size} rows: auto takes log-loss from {_of(before, 'nll')} to "
        f"{_of(after, 'nll')}, Brier from {_of(before, 'brier')} to {_of(after, 'brier')} and ECE "
        f"from {_of(before, 'ece_mass')} to {_of(after, 'ece_mass')}; with hindsight {best} has "
        f"the lowest log-loss ({_of(fixed.loc[best], 'nll')})."
    )


def _of(row: Any, metric: str) -> str:
    return f"{row[metric]:.3f}"


def _plot(table: pd.DataFrame, source: str, metric: str) -> Plot:
    name = METRIC_NAMES[metric]
    return Plot(
        f"calibration-{source}-{metric}",
        f"{name} of {source} by calibrator",
        "labelled rows the calibrator was learned from",
        f"{name} on the test rows",
        lines(table, "size", metric, "calibrator"),
        "Mean over seeds, lower is better; identity is how the scores came.",
        log_x=True,
    )
