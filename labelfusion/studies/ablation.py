"""What each input is worth: sources alone, left out, uncalibrated, hardened, and other ML inputs.

All fusions are of the configured method; what is told of a source is what its absence costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.classifier import ML_SOURCE
from labelfusion.config import RunConfig
from labelfusion.studies.cells import Cell, Row, largest, only
from labelfusion.studies.embedding import EMBEDDING, embedding_signal, has_embedding
from labelfusion.studies.grid import GridStudy
from labelfusion.studies.material import Block, need_sources
from labelfusion.studies.options import Options, Place
from labelfusion.studies.plots import Plot, dots_plot
from labelfusion.studies.statistics import interval, over_seeds
from labelfusion.studies.systems import alone, changed, fused, fusion_method, measured, primary
from labelfusion.studies.words import METRIC_NAMES, interval_words, listed, points
from labelfusion.studies.writing import Findings
from labelfusion.tasks import signal_evidence, task_for
from labelfusion.types import LabelSpace, Prediction, Signal

ALL = "all sources"
EMBEDDED_ALONE, EMBEDDED_FUSED = "embedding + MLP alone", "all, embedding + MLP for ML logits"
METRICS = ("accuracy", "macro_f1", "nll", "brier", "ece_mass")
System = Callable[[Block], Prediction]


class Ablation(GridStudy):
    """See `labelfusion.studies.study.Study`."""

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        super().__init__(config, place, options)
        need_sources(self.material, 2, "There is nothing to leave out")
        self.fusion = changed(config.fusion, method=fusion_method(config.fusion))
        self.systems = self._systems()

    def _systems(self) -> dict[str, System]:
        """Every input that is tried, by its name."""
        sources = self.material.sources
        found: dict[str, System] = {ALL: partial(fused, config=self.fusion)}
        for name in sources:
            found[f"without {name}"] = partial(fused, config=self.fusion, without=[name])
        for name in sources:
            found[f"{name} alone"] = partial(alone, source=name, config=self.fusion)
        uncalibrated = changed(self.fusion, calibration="identity")
        found["all, not calibrated"] = partial(fused, config=uncalibrated)
        found["all, hard LLM labels"] = self._hardened
        if has_embedding(self.material):
            found[EMBEDDED_ALONE] = self._embedding_alone
            found[EMBEDDED_FUSED] = self._embedding_fused
        return found

    def cells(self) -> list[Cell]:
        return self.grid(list(self.systems))

    def run(self, cell: Cell) -> Sequence[Row]:
        block = self.block(cell)
        prediction = self.systems[str(cell.values["system"])](block)
        return [measured(block.test_targets, prediction)]

    @property
    def further(self) -> Mapping[str, Callable[[Block], Signal]]:
        return {EMBEDDING: partial(embedding_signal, self.material)}

    def needs(self, cell: Cell) -> str | None:
        embedded = cell.values["system"] in (EMBEDDED_ALONE, EMBEDDED_FUSED)
        return EMBEDDING if embedded else None

    def _hardened(self, block: Block) -> Prediction:
        def harden(signals: Mapping[str, Signal]) -> dict[str, Signal]:
            return {n: s if n == ML_SOURCE else hard(s, block.space) for n, s in signals.items()}

        hardened = replace(block, train=harden(block.train), test=harden(block.test))
        return fused(hardened, self.fusion)

    def _embedding_alone(self, block: Block) -> Prediction:
        return alone(self._with_embedding(block), EMBEDDING, self.fusion)

    def _embedding_fused(self, block: Block) -> Prediction:
        return fused(self._with_embedding(block), self.fusion)

    def _with_embedding(self, block: Block) -> Block:
        """The block with the embedding's signal in the place of the encoder's."""
        signal = embedding_signal(self.material, block)

        def swapped(signals: Mapping[str, Signal], rows: np.ndarray) -> dict[str, Signal]:
            kept = {name: s for name, s in signals.items() if name != ML_SOURCE}
            return {EMBEDDING: signal.take(rows)} | kept

        return replace(
            block,
            train=swapped(block.train, block.split.train),
            test=swapped(block.test, block.split.test),
        )

    def report(self, cells: pd.DataFrame) -> Findings:
        metric = primary(self.material.space)
        table = over_seeds(cells, ["size", "system"], METRICS)
        worth = self._worth(cells, metric)
        last = largest(table)
        return Findings(
            f"Ablation of the inputs on {self.material.dataset.name}",
            [
                f"Fusion ({self.fusion.method}) with inputs left out or changed, trained on "
                f"{listed(self.sizes)} labelled rows with {len(self.seeds)} seeds, measured on the "
                "test rows of each seed.",
            ],
            [_sentence(record, metric) for record in worth if record["size"] == self.sizes[-1]],
            table,
            ["size", "system", "seeds", "accuracy", "macro_f1", "nll", "brier"],
            [_plot(last, name) for name in (metric, "nll")],
            {"worth": worth},
        )

    def _worth(self, cells: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
        """All sources minus every other input, paired by seed, at each size."""
        records = []
        for size in self.sizes:
            group = only(cells, size=size)
            values = group.pivot(index="seed", columns="system", values=metric)
            losses = group.pivot(index="seed", columns="system", values="nll")
            for system in list(self.systems)[1:]:
                gain = (values[ALL] - values[system]).to_numpy()
                low, high = interval(gain)
                saved = (losses[system] - losses[ALL]).to_numpy().mean()
                record = {"size": size, "system": system, "gain": float(gain.mean())}
                records.append(record | {"gain_low": low, "gain_high": high, "nll_saved": saved})
        return records


def hard(signal: Signal, space: LabelSpace) -> Signal:
    """The labels a source would give, without how sure it is: its most probable one, or p ≥ .5."""
    task = task_for(space)
    z = signal_evidence(task, signal)
    given = np.full(z.shape, np.nan)
    rows = signal.present
    given[rows] = task.decide(z[rows], np.zeros(z.shape[1]), False)
    return replace(signal, scores=given, kind="hard")


def _sentence(record: Mapping[str, Any], metric: str) -> str:
    return (
        f"All sources against {record['system']}: {points(record['gain'])} points of "
        f"{METRIC_NAMES[metric].lower()} ({interval_words(record, 'gain')}) and "
        f"{record['nll_saved']:+.3f} nats of log-loss saved."
    )


def _plot(table: pd.DataFrame, metric: str) -> Plot:
    title = f"{METRIC_NAMES[metric]} by input, {table['size'].max()} labels"
    return dots_plot("inputs", title, table, metric)
