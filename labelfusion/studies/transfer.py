"""Another data set with the same labels, without retraining: fusion against its components there.

Texts of the other data set that the models' own data has too are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfusion import __version__
from labelfusion.classifier import ML_SOURCE, ml_signal, score_llm
from labelfusion.config import RunConfig
from labelfusion.data import load_dataset, normalised
from labelfusion.errors import ConfigError, InputError
from labelfusion.llm import asks, check_entry
from labelfusion.llm.keys import digest
from labelfusion.pipeline import rows_at
from labelfusion.runs import SignalStore
from labelfusion.studies.asking import Asker, Job, data_digest, sha256_of
from labelfusion.studies.cells import Cell, Row, only
from labelfusion.studies.division import Division
from labelfusion.studies.grid import block_of, pieces
from labelfusion.studies.material import embed_once
from labelfusion.studies.options import Options, Place
from labelfusion.studies.plots import Plot, dots
from labelfusion.studies.statistics import against_best_source, over_seeds
from labelfusion.studies.systems import measured, primary
from labelfusion.studies.trained import FromConfig, FromRun, Trained
from labelfusion.studies.words import METRIC_NAMES, gain_sentence, points, share
from labelfusion.studies.writing import Findings
from labelfusion.types import Dataset, LabelSpace, Prediction, Signal

HOME, AWAY = "own test rows", "other data"
METRICS = ("accuracy", "macro_f1", "nll", "brier", "ece_mass", "confidence")
CONFIG_SUFFIXES = (".yaml", ".yml", ".json")


class Transfer:
    """See `labelfusion.studies.study.Study`."""

    def __init__(self, config: RunConfig, place: Place, options: Options) -> None:
        if options.target is None:
            raise ConfigError(
                "There is no other data set",
                where="--target",
                expected="a data file laid out like the config's, or a config of data and scores",
            )
        self.trained: Trained = (
            FromConfig(config, place, options)
            if options.run is None
            else FromRun(options.run, place)
        )
        self.place, home = place, self.trained.dataset
        there = target_config(self.trained_config(config), options.target)
        self.away, self.left_out = other_data(there, home)
        self.positions = np.arange(len(self.away))
        self.asker = Asker(there, place)
        self.jobs = self._jobs(there)
        names = home.space.names
        self.store = SignalStore(place.folder / "other-signals", self.away.ids, names)
        self.there = lru_cache(maxsize=1)(self._signals_of)
        self._check_scores()

    def trained_config(self, config: RunConfig) -> RunConfig:
        """The config that the models were trained with."""
        return self.trained.config if isinstance(self.trained, FromRun) else config

    def _jobs(self, there: RunConfig) -> dict[str, Job]:
        """What each LLM source of the models is asked about the other data."""
        entries = {entry.name: entry for entry in there.llm}
        wanted = [name for name in self.trained.sources if name != ML_SOURCE]
        absent = [name for name in wanted if name not in entries]
        if absent:
            raise ConfigError(
                "The other data set's config lacks a source of the models",
                where="config llm",
                expected=", ".join(wanted),
                found=", ".join(entries) or "none",
            )
        training = self.trained.examples
        return {name: Job(entries[name], self.away, self.positions, training) for name in wanted}

    def _check_scores(self) -> None:
        """Raise before anything is spent if a source cannot be had for the other data."""
        space, config = self.away.space, self.asker.config
        for job in self.jobs.values():
            check_entry(job.entry, space, config.costs, job.training)
            if not asks(job.entry):
                score_llm(job.entry, job.rows, space, config)

    def tell_cost(self) -> None:
        self.trained.tell_cost()
        self.asker.tell_cost(list(self.jobs.values()))

    @cached_property
    def llm_signals(self) -> dict[str, Signal]:
        """Every LLM source's scores of the other data, each text asked about once."""
        scored = self.asker.scores(list(self.jobs.values()), self.store)
        return dict(zip(self.jobs, scored, strict=True))

    def fingerprint(self) -> str:
        scores = [sha256_of(signal.scores.tobytes()) for signal in self.llm_signals.values()]
        return digest([__version__, self.trained.fingerprint(), data_digest(self.away), scores])

    def cells(self) -> list[Cell]:
        return self.trained.cells()

    def division(self) -> Division | None:
        """A trained run is only applied, which is little work beside sending it."""
        return _Division(self, self.trained) if isinstance(self.trained, FromConfig) else None

    def run(self, cell: Cell) -> Sequence[Row]:
        system = self.trained.system(cell)
        signals, targets = self.trained.own(cell)
        there = self.there(*block_of(cell))
        return [
            _row(HOME, targets, system(signals)),
            _row(AWAY, self.away.targets, system(there)),
        ]

    def _signals_of(self, size: int, seed: int) -> Mapping[str, Signal]:
        """Every source's signal for the other data, by the encoder of that size and seed."""
        if ML_SOURCE not in self.trained.sources:
            return self.llm_signals
        key = (
            f"ml-{size}-{seed}-{digest([self.trained.fingerprint(), data_digest(self.away)])[:16]}"
        )
        if key not in self.store:
            encoder = self.trained.encoder(Cell({"size": size, "seed": seed}))
            assert encoder is not None
            self.store[key] = ml_signal(encoder, rows_at(self.away, self.positions))
        return {ML_SOURCE: self.store[key]} | self.llm_signals

    def report(self, cells: pd.DataFrame) -> Findings:
        metric, sources = primary(self.away.space), list(self.trained.sources)
        table = over_seeds(cells, ["data", "system"], METRICS)
        reading = _reading(table, self.trained.fusion if len(sources) > 1 else sources[0], metric)
        details: dict[str, Any] = {"left_out": self.left_out, "rows": len(self.away)}
        if len(sources) > 1:
            away = only(cells, data=AWAY)
            records = against_best_source(away, self.trained.fusion, sources, metric)
            details["fusion_against_best"] = records
            reading += [f"On the other data: {gain_sentence(r, metric)}" for r in records]
        return Findings(
            f"Transfer from {self.trained.dataset.name} to {self.away.name}",
            [
                f"Trained on {self.trained.dataset.name} and applied as it is to "
                f"{len(self.away)} labelled rows of {self.away.name}; {self.left_out} rows were "
                "left out because both have their text.",
            ],
            reading,
            table,
            ["data", "system", "seeds", "accuracy", "macro_f1", "nll", "ece_mass", "confidence"],
            [_plot(table, metric), _plot(table, "confidence")],
            details,
        )


@dataclass(frozen=True)
class _Division:
    """See `labelfusion.studies.division.Division`: that of the training, then the other data."""

    study: Transfer
    home: FromConfig

    def prepare(self) -> None:
        self.home.prepare()
        if not self.home.config.ml.fine_tune:
            embed_once(self.home.config, self.study.away, self.study.positions, self.study.place)

    def shared(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        encoded = {(AWAY, *block_of(cell)) for cell in cells if ML_SOURCE in self.home.sources}
        return [*self.home.shared(cells), *([pieces(encoded)] if encoded else [])]

    def share(self, piece: Cell) -> None:
        if piece.values["signal"] == AWAY:
            self.study.there(*block_of(piece))
        else:
            self.home.share(piece)


def target_config(config: RunConfig, target: Path) -> RunConfig:
    """The other data set's config: as it is, or the models' own with another data file."""
    if target.suffix.lower() in CONFIG_SUFFIXES:
        return RunConfig.load(target)
    data = config.data.model_copy(update={"path": str(target.resolve()), "split_column": None})
    return config.model_copy(update={"data": data})


def other_data(config: RunConfig, home: Dataset) -> tuple[Dataset, int]:
    """The labelled rows of the other data set in the label space of `home`, and how many rows were
    left out because `home` has their text. Raises InputError for other labels."""
    data = config.data.model_copy(update={"multi_label": home.space.multi_label})
    found = load_dataset(data)
    known = {normalised(text) for text in home.texts}
    new = np.array([normalised(text) not in known for text in found.texts], dtype=bool)
    kept = np.flatnonzero(found.labelled & new)
    if not len(kept):
        raise InputError(
            "The other data set has no labelled row of its own",
            where=found.name,
            found=f"{int(found.labelled.sum())} labelled rows, all with texts of {home.name}",
            remedy="Give data that the models have not seen",
        )
    targets = aligned(found.targets, found.space, home.space, found.name)
    there = replace(found, targets=targets, space=home.space, split=None)
    return there.take(kept), int((found.labelled & ~new).sum())


def aligned(targets: np.ndarray, space: LabelSpace, wanted: LabelSpace, name: str) -> np.ndarray:
    """Targets (n, k) in the label order of `wanted`. Raises InputError for other labels."""
    unknown = sorted(set(space.names) - set(wanted.names))
    if unknown:
        raise InputError(
            "The other data set has other labels",
            where=name,
            expected=", ".join(wanted.names),
            found=", ".join(unknown),
            remedy="Rename its labels, or leave those rows out",
        )
    columns = np.zeros((len(targets), len(wanted)), dtype=targets.dtype)
    columns[:, [wanted.index(label) for label in space.names]] = targets
    return columns


def confidence(prediction: Prediction) -> float:
    """Mean probability of what is decided: of the top label, or of each label's likelier side."""
    p = prediction.probabilities
    stated = np.maximum(p, 1 - p) if prediction.space.multi_label else p.max(axis=1)
    return float(stated.mean())


def _row(data: str, targets: np.ndarray, prediction: Prediction) -> dict[str, Any]:
    return {"data": data, "confidence": confidence(prediction)} | measured(targets, prediction)


def _reading(table: pd.DataFrame, fusion: str, metric: str) -> list[str]:
    by = table.set_index(["data", "system"])
    name = METRIC_NAMES[metric].lower()
    found = []
    for system in table["system"].unique():
        home, away = by.loc[(HOME, system)], by.loc[(AWAY, system)]
        mark = " (the fusion)" if system == fusion else ""
        found.append(
            f"{system}{mark}: {name} {share(home[metric])} on its own test rows and "
            f"{share(away[metric])} on the other data ({points(away[metric] - home[metric])}); "
            f"mean confidence {share(home['confidence'])} and {share(away['confidence'])}."
        )
    return found


def _plot(table: pd.DataFrame, metric: str) -> Plot:
    name = METRIC_NAMES.get(metric, metric.capitalize())
    parts = [(data, only(table, data=data)) for data in (HOME, AWAY)]
    return Plot(
        f"transfer-{metric}",
        f"{name} at home and on the other data",
        name,
        "",
        [dots(part, metric, data) for data, part in parts],
        "Mean over seeds with 95 % t intervals over seeds; nothing was trained on the other data.",
        kind="dots",
        names=list(parts[0][1]["system"]),
    )
