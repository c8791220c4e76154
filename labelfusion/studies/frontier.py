"""What asking the LLM buys: accuracy against the share of texts sent, and against money.

Thresholds come from out-of-fold rows alone; what they do is read on the test rows. The baseline
sends the same share of texts at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.classifier import ML_SOURCE
from labelfusion.config import RunConfig
from labelfusion.costs.prices import FREE_PROVIDERS
from labelfusion.errors import InputError
from labelfusion.evaluation.frontier import (
    AskingCost,
    Frontier,
    FrontierPoint,
    Routable,
    make_frontier,
    margins,
)
from labelfusion.fusion.routing import choose_policy
from labelfusion.studies.asking import estimated
from labelfusion.studies.cells import Cell, Row, largest, only
from labelfusion.studies.grid import GridStudy
from labelfusion.studies.material import Block, Material, need_sources
from labelfusion.studies.options import Options, Place
from labelfusion.studies.plots import Plot, Series
from labelfusion.studies.statistics import interval, over_seeds
from labelfusion.studies.systems import changed, fit, fusion_method
from labelfusion.studies.words import METRIC_NAMES, listed, points
from labelfusion.studies.writing import Findings

# Losses of accuracy that are tolerated by the operating points that are tried.
TOLERATED = (0.003, 0.01, 0.02)
GRID = np.linspace(0, 1, 21)
POINT = "point"
METRICS = ("share", "accuracy", "random_accuracy", "lead", "macro_f1", "random_macro_f1", "loss")


class FrontierStudy(GridStudy):
    """See `labelfusion.studies.study.Study`."""

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        super().__init__(config, place, options)
        need_sources(self.material, 2, "There is nothing to route between")
        if config.ml.encoder == "none":
            raise InputError(
                "Routing goes by the encoder's margin",
                where="config ml.encoder",
                found="none",
                remedy="Set ml.encoder",
            )
        self.fusion = changed(config.fusion, method=fusion_method(config.fusion))
        self.policies = _policies(config)

    @cached_property
    def usd_per_text(self) -> float | None:
        """What asking every LLM about a text costs, cached or not; None if it is not known."""
        told = self.config.routing.usd_per_text
        return usd_per_text(self.material) if told is None else told

    def cells(self) -> list[Cell]:
        inputs = {
            "policies": {name: policy.model_dump() for name, policy in self.policies.items()},
            "draws": self.config.evaluation.bootstrap_draws,
            "usd": self.usd_per_text,
        }
        return [
            Cell({"size": size, "seed": seed}, inputs) for size in self.sizes for seed in self.seeds
        ]

    def run(self, cell: Cell) -> Sequence[Row]:
        block = self.block(cell)
        model = fit(block, self.fusion)
        dear = [name for name in block.train if name != ML_SOURCE]
        whole, cheap = model.out_of_fold, model.out_of_fold_without(dear)
        assert whole is not None
        assert cheap is not None
        parts = (block.train_targets, margins(cheap), cheap.decisions, whole.decisions)
        known = cheap.present.any(axis=1)
        unseen = Routable(*(part[known] for part in parts))
        told, full = model.predict({ML_SOURCE: block.test[ML_SOURCE]}), model.predict(block.test)
        test = Routable(block.test_targets, margins(told), told.decisions, full.decisions)
        return [*self._curve(unseen, test, block), *self._operating(unseen, test, block)]

    def _curve(self, unseen: Routable, test: Routable, block: Block) -> list[dict[str, Any]]:
        learned = self._frontier(unseen, block)
        thresholds = np.array([point.threshold for point in learned.points])
        measured = self._frontier(test, block, thresholds)
        return [
            _row(POINT, found) | {"share_unseen": seen.share, "accuracy_unseen": seen.accuracy}
            for seen, found in zip(learned.points, measured.points, strict=True)
        ]

    def _operating(self, unseen: Routable, test: Routable, block: Block) -> list[dict[str, Any]]:
        """Each policy's threshold, learned out of fold, on the test rows."""
        learned, rows = self._frontier(unseen, block), []
        for name, config in self.policies.items():
            policy = choose_policy(unseen, learned, config)
            (point,) = self._frontier(test, block, np.array([policy.threshold])).points
            rows.append(_row(name, point) | {"share_unseen": policy.share})
        return rows

    def _frontier(
        self, rows: Routable, block: Block, thresholds: np.ndarray | None = None
    ) -> Frontier:
        return make_frontier(
            rows,
            thresholds=thresholds,
            cost=AskingCost(self.usd_per_text, self.config.routing.seconds_per_text),
            draws=self.config.evaluation.bootstrap_draws,
            confidence=self.config.evaluation.confidence,
            seed=block.seed,
        )

    def report(self, cells: pd.DataFrame) -> Findings:
        last = largest(cells)
        curve = _on_grid(only(last, policy=POINT))
        chosen = last.loc[last["policy"] != POINT, :]
        table = over_seeds(chosen, ["policy"], [*METRICS, "usd_per_1000"])
        plots = [_plot(curve, metric) for metric in ("accuracy", "macro_f1")]
        if self.usd_per_text:
            plots.append(_money(curve, self.usd_per_text))
        return Findings(
            f"Cost and accuracy of routing on {self.material.dataset.name}",
            [
                f"Fusion ({self.fusion.method}) trained on {listed(self.sizes)} labelled rows with "
                f"{len(self.seeds)} seeds. A text is sent to the LLM if the encoder's margin is "
                "below a threshold; thresholds were learned out of fold, figures are of the test "
                "rows.",
            ],
            _reading(curve, table, self.usd_per_text),
            table,
            ["policy", "seeds", "share", "accuracy", "random_accuracy", "lead", "usd_per_1000"],
            plots,
            {"curve": curve.to_dict("records"), "usd_per_text": self.usd_per_text},
        )


def _policies(config: RunConfig) -> dict[str, Any]:
    """Operating points by name: none, all, some tolerances, and the configured one."""
    own = config.routing
    margin = own.model_copy(update={"policy": "margin", "certified": False})
    found = {
        "send none": own.model_copy(update={"policy": "never"}),
        "send all": own.model_copy(update={"policy": "always"}),
    }
    for tolerated in sorted({*TOLERATED, own.max_accuracy_loss}):
        name = f"lose at most {100 * tolerated:g} points"
        found[name] = margin.model_copy(update={"max_accuracy_loss": tolerated})
    if own.policy == "budget" or own.certified:
        found["as configured"] = own
    return found


def usd_per_text(material: Material) -> float | None:
    """The expected price of a text at all LLM sources that are billed; None if one is unknown."""
    billed = [job for job in material.jobs if job.entry.provider not in FREE_PROVIDERS]
    if not billed:
        return None
    usd = estimated(billed, material.config).expected.usd
    return None if usd is None else float(usd) / len(billed[0].positions)


def _row(policy: str, point: FrontierPoint) -> dict[str, Any]:
    low, high = point.accuracy_interval
    kept = ("threshold", *METRICS, "usd_per_1000")
    values = {name: getattr(point, name) for name in kept}
    return {"policy": policy, **values, "accuracy_low": low, "accuracy_high": high}


def _on_grid(points_: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds at even shares, each seed's curve interpolated."""
    names = ("accuracy", "random_accuracy", "macro_f1", "random_macro_f1")
    records = []
    by_seed = [group.sort_values("share") for _, group in points_.groupby("seed")]
    for share in GRID:
        record: dict[str, Any] = {"share": float(share)}
        for name in names:
            values = np.array([np.interp(share, g["share"], g[name]) for g in by_seed])
            low, high = interval(values)
            record |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        records.append(record)
    return pd.DataFrame(records)


def _plot(curve: pd.DataFrame, metric: str) -> Plot:
    name = METRIC_NAMES[metric]
    share = curve["share"].tolist()
    by_margin = Series("least sure texts first", x=share, y=curve[metric].tolist())
    at_random = Series("as many at random", x=share, y=curve[f"random_{metric}"].tolist())
    return Plot(
        f"frontier-{metric}",
        f"{name} by share of texts sent to the LLM",
        "share of texts sent",
        f"{name} on the test rows",
        [by_margin, at_random],
        "Mean over seeds. What lies above the random line is what the encoder's margin knows.",
    )


def _money(curve: pd.DataFrame, usd: float) -> Plot:
    plot = _plot(curve, "accuracy")
    series = [
        replace(s, x=[1000 * usd * share for share in s.x], low=(), high=()) for s in plot.series
    ]
    return replace(
        plot,
        stem="frontier-usd",
        title="Accuracy by money spent on the LLM",
        x_title="US dollars per 1,000 texts",
        series=series,
    )


def _reading(curve: pd.DataFrame, table: pd.DataFrame, usd: float | None) -> list[str]:
    none, every = curve.iloc[0], curve.iloc[-1]
    reading = [
        f"Sending no text gives {none['accuracy']:.3f}, sending all {every['accuracy']:.3f} "
        "accuracy on the test rows."
    ]
    for record in table.to_dict("records"):
        if record["policy"].startswith("send"):
            continue
        money = ""
        if usd is not None:
            money = f", {record['usd_per_1000']:.2f} US dollars per 1,000 texts"
        reading.append(
            f"Policy “{record['policy']}” sends {100 * record['share']:.0f} % of the texts{money}: "
            f"accuracy {record['accuracy']:.3f}, {points(record['lead'])} points from sending as "
            f"many at random, {points(-record['loss'])} from sending all."
        )
    return reading
