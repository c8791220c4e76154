"""Size, depth and dropout of the FusionMLP, beside the sources and the guarded choice.

One setting is changed at a time from the configured ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from labelfusion.config import FusionConfig, RunConfig
from labelfusion.errors import ConfigError
from labelfusion.fusion.heads import METHODS
from labelfusion.studies.cells import Cell, Row, largest
from labelfusion.studies.grid import GridStudy
from labelfusion.studies.material import need_sources
from labelfusion.studies.options import Options, Place
from labelfusion.studies.plots import Plot, dots_plot
from labelfusion.studies.statistics import over_seeds
from labelfusion.studies.systems import FUSION, alone, changed, fused, measured, primary
from labelfusion.studies.words import METRIC_NAMES, listed, share
from labelfusion.studies.writing import Findings

MLP = "mlp"
HIDDEN = ((8,), (64,), (256,), (64, 32), (128, 64), (64, 64, 32))
DROPOUT = (0.0, 0.1, 0.3, 0.5)
METRICS = ("accuracy", "macro_f1", "nll", "brier", "ece_mass")


class Architecture(GridStudy):
    """See `labelfusion.studies.study.Study`."""

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        if MLP not in METHODS:
            raise ConfigError(
                "There is no FusionMLP among the methods", expected=MLP, found=", ".join(METHODS)
            )
        super().__init__(config, place, options)
        need_sources(self.material, 2, "There is nothing to fuse")
        self.forms = forms(config.fusion)

    def cells(self) -> list[Cell]:
        return self.grid([*self.material.sources, FUSION, *self.forms])

    def run(self, cell: Cell) -> Sequence[Row]:
        block, system = self.block(cell), str(cell.values["system"])
        if system in self.material.sources:
            prediction = alone(block, system, self.config.fusion)
        else:
            settings = self.forms.get(system, {"method": FUSION})
            prediction = fused(block, changed(self.config.fusion, **settings))
        return [measured(block.test_targets, prediction)]

    def report(self, cells: pd.DataFrame) -> Findings:
        metric = primary(self.material.space)
        table = over_seeds(cells, ["size", "system"], METRICS)
        last = largest(table).set_index("system")
        of_mlp = last.loc[list(self.forms)]
        best, worst = of_mlp[metric].idxmax(), of_mlp[metric].idxmin()
        name = METRIC_NAMES[metric].lower()
        reading = [
            f"Of {len(of_mlp)} forms of the FusionMLP, {best} has the highest mean {name} "
            f"({share(of_mlp.loc[best, metric])} ± {share(of_mlp.loc[best, f'{metric}_sd'])}) and "
            f"{worst} the lowest ({share(of_mlp.loc[worst, metric])}), on {len(self.seeds)} seeds.",
            f"The guarded choice ({FUSION}) has {share(last.loc[FUSION, metric])}.",
        ]
        shown = last.reset_index()
        return Findings(
            f"Architecture of the FusionMLP on {self.material.dataset.name}",
            [
                f"The FusionMLP with other hidden sizes, depths and dropouts, trained on "
                f"{listed(self.sizes)} labelled rows with {len(self.seeds)} seeds, measured on the "
                "test rows of each seed.",
            ],
            reading,
            table,
            ["size", "system", "seeds", "accuracy", "macro_f1", "nll"],
            [_plot(shown, name) for name in (metric, "nll")],
        )


def forms(config: FusionConfig) -> Mapping[str, dict[str, Any]]:
    """Settings by name: hidden sizes at the configured dropout, then dropouts at those sizes."""
    own = config.model_dump()
    base, dropout = tuple(own["mlp_hidden"]), own["mlp_dropout"]
    hidden = dict.fromkeys([base, *HIDDEN])
    found = {
        f"hidden {' × '.join(map(str, sizes))}": {"method": MLP, "mlp_hidden": sizes}
        for sizes in sorted(hidden, key=lambda sizes: (len(sizes), sizes))
    }
    for rate in DROPOUT:
        if rate != dropout:
            found[f"dropout {rate:g}"] = {"method": MLP, "mlp_dropout": rate}
    return found


def _plot(table: pd.DataFrame, metric: str) -> Plot:
    title = f"{METRIC_NAMES[metric]} by form of the FusionMLP, {table['size'].max()} labels"
    return dots_plot("architecture", title, table, metric, "; one setting is changed at a time")
