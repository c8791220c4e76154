"""Data efficiency: every source and every fusion method on nested subsets of the labels.

Every label counts: calibrators, combiners and thresholds are fitted on the subset alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from labelfusion.fusion.heads import METHODS
from labelfusion.studies.cells import Cell, Row
from labelfusion.studies.grid import GridStudy
from labelfusion.studies.plots import Plot, lines
from labelfusion.studies.samples import SHARES
from labelfusion.studies.statistics import against_best_source, mean_ranks, over_seeds
from labelfusion.studies.systems import alone, changed, fused, fusion_method, measured, primary
from labelfusion.studies.words import METRIC_NAMES, best_system, gain_sentence, listed
from labelfusion.studies.writing import Findings

METRICS = ("accuracy", "macro_f1", "micro_f1", "nll", "brier", "ece_mass")


class LearningCurve(GridStudy):
    """See `labelfusion.studies.study.Study`."""

    default_sizes = SHARES

    @property
    def systems(self) -> list[str]:
        """Each source by itself, then the methods where there is something to fuse."""
        sources = self.material.sources
        return [*sources, *(METHODS if len(sources) > 1 else ())]

    def cells(self) -> list[Cell]:
        return self.grid(self.systems)

    def run(self, cell: Cell) -> Sequence[Row]:
        block, system = self.block(cell), str(cell.values["system"])
        if system in self.material.sources:
            prediction = alone(block, system, self.config.fusion)
        else:
            prediction = fused(block, changed(self.config.fusion, method=system))
        return [measured(block.test_targets, prediction)]

    def report(self, cells: pd.DataFrame) -> Findings:
        metric, sources = primary(self.material.space), self.material.sources
        table = over_seeds(cells, ["size", "system"], METRICS)
        reading, details = [best_system(table, metric)], {}
        if len(sources) > 1:
            details = self._compared(cells, metric)
            reading += [gain_sentence(record, metric) for record in details["fusion_against_best"]]
            table["mean_rank"] = table["system"].map(details["mean_rank"])
            first = next(iter(details["mean_rank"]))
            reading.append(
                f"Over all sizes and seeds {first} has the best mean rank "
                f"({details['mean_rank'][first]:.2f} of {len(self.systems)} systems)."
            )
        return Findings(
            f"Learning curve of {self.material.dataset.name}",
            [
                f"Each system was trained on nested, stratified subsets of {listed(self.sizes)} "
                f"labelled rows with {len(self.seeds)} seeds and measured on the same "
                f"{int(cells['test_rows'].iloc[0])} test rows for all sizes of a seed.",
                "Sizes count every label that is used; each text was scored once by each LLM.",
            ],
            reading,
            table,
            ["size", "system", "seeds", "accuracy", "macro_f1", "nll", "mean_rank"],
            [_plot(table, metric), *self._close_up(table, details, metric), _plot(table, "nll")],
            details,
        )

    def _close_up(self, table: pd.DataFrame, details: Mapping[str, Any], metric: str) -> list[Plot]:
        """The methods and the source to beat, which a weak source would press into a line."""
        if not details:
            return []
        best = {record["best_source"] for record in details["fusion_against_best"]}
        plot = _plot(table, metric)
        series = [
            replace(each, look=i)
            for i, each in enumerate(plot.series)
            if each.name in METHODS or each.name in best
        ]
        title = f"{plot.title}: methods and the best single source"
        return [replace(plot, stem=f"{plot.stem}-close", title=title, series=series)]

    def _compared(self, cells: pd.DataFrame, metric: str) -> dict[str, Any]:
        fusion = fusion_method(self.config.fusion)
        ranks = mean_ranks(cells, "system", ["size", "seed"], metric)
        return {
            "fusion": fusion,
            "mean_rank": ranks,
            "fusion_against_best": against_best_source(
                cells, fusion, self.material.sources, metric
            ),
        }


def _plot(table: pd.DataFrame, metric: str) -> Plot:
    name = METRIC_NAMES[metric]
    return Plot(
        f"curve-{metric}",
        f"{name} by labels used",
        "labels used (all counted)",
        f"{name} on the test rows",
        lines(table, "size", metric, "system"),
        "Mean over seeds; bars are 95 % t intervals over seeds.",
        log_x=True,
    )
