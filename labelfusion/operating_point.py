"""The operating point of a finished run: which texts LLMs are asked about, and label thresholds.

Says what asking costs and what a share of texts buys, and writes what is chosen into the run's
model. Trains and asks nothing, and knows no page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.special import logit

from labelfusion.config import LLMConfig, RunConfig
from labelfusion.costs import CostLine
from labelfusion.errors import RunError
from labelfusion.evaluation.frontier import SEND_ALL, SEND_NONE, AskingCost
from labelfusion.files import write_atomically
from labelfusion.fusion.decisions import DecisionRule
from labelfusion.fusion.model import FusionModel
from labelfusion.fusion.persistence import ARRAYS
from labelfusion.fusion.routing import RoutingPolicy, always, never
from labelfusion.runs import Run
from labelfusion.types import LabelSpace

Point = Mapping[str, Any]
UNKNOWN = "unknown"


@dataclass(frozen=True)
class KnownCost:
    """What asking every LLM source of a run about one text costs, and how that is known.

    Attributes:
        cost: US dollars and seconds; None is unknown, never 0.
        usd_origin, seconds_origin: where each figure came from, in words.
        parallel: texts that are asked about at the same time.
    """

    cost: AskingCost
    usd_origin: str
    seconds_origin: str
    parallel: int


@dataclass(frozen=True)
class Forecast:
    """What n texts at an operating point will come to; None is unknown."""

    texts: int
    sent: int
    usd: float | None
    seconds: float | None


def known_cost(
    config: RunConfig, usage: Sequence[Mapping[str, Any]], by_model: Mapping[str, CostLine]
) -> KnownCost:
    """The config's figures where it sets them, else those measured.

    Args:
        usage: records of the run's usage.jsonl, one a source.
        by_model: the ledger's sums by model, for a run that was answered from the cache.
    """
    records = {record["source"]: record for record in usage}
    sources = [(entry, records.get(entry.name, {})) for entry in config.llm]
    usd, usd_origin = _in_all(
        config.routing.usd_per_text,
        "routing.usd_per_text",
        [_usd_per_text(entry, record) for entry, record in sources],
    )
    seconds, seconds_origin = _in_all(
        config.routing.seconds_per_text,
        "routing.seconds_per_text",
        [_seconds_per_text(entry, record, by_model) for entry, record in sources],
    )
    parallel = min((e.texts_per_request * e.concurrency for e in config.llm), default=1)
    return KnownCost(AskingCost(usd, seconds), usd_origin, seconds_origin, parallel)


def _in_all(
    told: float | None, setting: str, measured: Sequence[tuple[float | None, str]]
) -> tuple[float | None, str]:
    """What is told, or the sum over the sources, which are asked one after the other."""
    if told is not None:
        return told, f"set as {setting} in the run's config"
    values = [value for value, _ in measured]
    origins = "; ".join(origin for _, origin in measured)
    known = [value for value in values if value is not None]
    if not values or len(known) < len(values):
        return None, f"{UNKNOWN}: {origins or 'there is no LLM source'}"
    return sum(known), origins


def _usd_per_text(entry: LLMConfig, record: Mapping[str, Any]) -> tuple[float | None, str]:
    name, texts, cached = entry.name, record.get("texts", 0), record.get("cached_texts", 0)
    if entry.provider == "recorded":
        return None, f"{name} has recorded scores, which cost this run nothing"
    if texts and not record["unpriced"]:
        return record["usd"] / texts, f"{name}: mean of the {texts:,} texts this run asked about"
    if texts:
        return None, f"{name} was asked at an unknown price"
    if cached and record.get("saved_usd") is not None:
        origin = f"{name}: mean price of a text of the same model in the ledger"
        return record["saved_usd"] / cached, f"{origin} (this run was answered from the cache)"
    return None, f"{name} has no priced request in this run's usage"


def _seconds_per_text(
    entry: LLMConfig, record: Mapping[str, Any], by_model: Mapping[str, CostLine]
) -> tuple[float | None, str]:
    """A text waits for the whole of its request."""
    name, line = entry.name, by_model.get(entry.model or "")
    if record.get("requests"):
        origin = f"{name}: mean of the {record['requests']:,} requests of this run"
        return record["mean_latency_s"], origin
    if entry.provider != "recorded" and line is not None and line.requests:
        return line.mean_latency_s, f"{name}: mean of the model's {line.requests:,} requests so far"
    return None, f"{name} made no request whose time was taken"


def priced(point: Point, cost: AskingCost) -> dict[str, Any]:
    """A frontier point with usd_per_1000 and seconds at this cost of asking about a text."""
    share = point["share"]
    return dict(point) | {
        "usd_per_1000": None if cost.usd is None else 1000 * share * cost.usd,
        "seconds": None if cost.seconds is None else share * cost.seconds,
    }


def forecast(point: Point, texts: int, known: KnownCost) -> Forecast:
    """Texts sent, money and time for `texts` texts like the labelled ones."""
    sent = round(texts * point["share"])
    usd, seconds = known.cost.usd, known.cost.seconds
    return Forecast(
        texts,
        sent,
        None if usd is None else sent * usd,
        None if seconds is None else sent * seconds / known.parallel,
    )


def nearest_point(points: Sequence[Point], key: str, value: float) -> int:
    """Position of the point whose `key` is nearest to `value`; the first of equals."""
    return min(range(len(points)), key=lambda i: abs(points[i][key] - value))


def policy_at(point: Point, rows: int) -> RoutingPolicy:
    """The routing policy of a frontier point, chosen by hand on `rows` labelled texts."""
    gap = f"{100 * abs(point['loss']):.1f} points {'below' if point['loss'] >= 0 else 'above'}"
    reason = (
        f"Chosen by hand: on {rows:,} labelled texts out of fold, sending "
        f"{100 * point['share']:.0f} % is right on {100 * point['accuracy']:.1f} %, {gap} full "
        "fusion"
    )
    if point["threshold"] <= SEND_NONE:
        return never(reason)
    if point["threshold"] >= SEND_ALL:
        return always(reason)
    return RoutingPolicy("margin", point["threshold"], point["share"], reason)


def saved_policy(run: Run) -> RoutingPolicy:
    """The policy that predictions of the run obey now. Raises RunError."""
    return RoutingPolicy.load(_model_folder(run))


def save_policy(run: Run, policy: RoutingPolicy) -> None:
    """Make `policy` what every later prediction of the run obeys. Raises RunError."""
    policy.save(_model_folder(run))


def saved_rule(run: Run) -> DecisionRule:
    """The decision rule of a multi-label run, for texts that all sources answered. Raises RunError.

    It is the trained one until `save_thresholds` changes it; the trained thresholds stay in
    metrics.json.
    """
    return _fusion(run).rule


def save_thresholds(run: Run, thresholds: np.ndarray) -> None:
    """Make (k,) probabilities the thresholds that every later prediction of the run decides by.

    Rows that lack a source go on being decided by their own. Raises RunError.
    """
    fusion = _fusion(run)
    changed = fusion.with_rule(replace(fusion.rule, thresholds=logit(thresholds)))
    with TemporaryDirectory() as folder:
        changed.save(Path(folder))
        # The arrays hold the thresholds; what fusion.json says is the same as before.
        arrays = (Path(folder) / ARRAYS).read_bytes()
    write_atomically(run.folder.model / ARRAYS, lambda path: path.write_bytes(arrays))


def _fusion(run: Run) -> FusionModel:
    task = run.metrics["task"]
    space = LabelSpace(tuple(task["labels"]), task["multi_label"])
    return FusionModel.load(_model_folder(run), space)


def _model_folder(run: Run) -> Path:
    if not run.folder.model.is_dir():
        raise RunError(
            "The run has no model, so there is no operating point to keep",
            where=run.id,
            expected="the folder model/ of a finished run",
            found=f"a run that is {run.status.state}",
            remedy=f"Repeat it with: labelfusion train --config {run.folder.config}",
        )
    return run.folder.model
