"""Routing: which texts the dear sources are asked about, as learned from labelled rows.

Knows a fusion model and which of its sources are dear. Does not know texts, encoders or LLMs: the
margin of the cheap sources' fused prediction decides.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from labelfusion.config import RoutingConfig, RoutingName, RunConfig
from labelfusion.errors import RunError
from labelfusion.evaluation.certificate import Certificate, certify
from labelfusion.evaluation.frontier import (
    SEND_ALL,
    SEND_NONE,
    AskingCost,
    Frontier,
    FrontierPoint,
    Routable,
    make_frontier,
    margins,
)
from labelfusion.files import write_json
from labelfusion.fusion.model import FusionModel
from labelfusion.types import Prediction, Signal

FORMAT = 1
FILE = "routing.json"
Override = Literal["saved", "always", "never"]


@dataclass(frozen=True)
class RoutingPolicy:
    """Rows whose cheap margin is below `threshold` are sent to the dear sources.

    Attributes:
        policy: what it was made by; a margin policy that had too little to go by is "always".
        threshold: SEND_ALL, SEND_NONE or a margin (`labelfusion.evaluation.frontier.margins`).
        share: of texts like the labelled ones that are sent, 0..1.
        reason: in words, for people.
    """

    policy: RoutingName
    threshold: float
    share: float
    reason: str
    certificate: Certificate | None = None

    def sent(self, margin: np.ndarray) -> np.ndarray:
        """(n,) margins -> (n,) bool."""
        return margin < self.threshold

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` of it gives an equal policy."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RoutingPolicy:
        fields = {key: value for key, value in values.items() if key != "format"}
        if fields["certificate"] is not None:
            fields["certificate"] = Certificate.from_dict(fields["certificate"])
        return cls(**fields)

    def save(self, folder: Path) -> None:
        """Write routing.json into an existing model folder, atomically."""
        write_json(folder / FILE, self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> RoutingPolicy:
        """Inverse of `save`; "always" for a model saved without one. Raises RunError."""
        path = folder / FILE
        if not path.exists():
            return always("The model was saved without a routing policy")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found = values["format"]
            if found == FORMAT:
                return cls.from_dict(values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = str(error)
        raise RunError(
            "The routing policy cannot be read",
            where=str(path),
            expected=f"format {FORMAT}",
            found=str(found),
            remedy="Restore the file from a copy, or delete it to ask about every text",
        )


def always(reason: str) -> RoutingPolicy:
    """Every text is sent."""
    return RoutingPolicy("always", SEND_ALL, 1.0, reason)


def never(reason: str) -> RoutingPolicy:
    """No text is sent."""
    return RoutingPolicy("never", SEND_NONE, 0.0, reason)


def overridden(policy: RoutingPolicy, override: Override) -> RoutingPolicy:
    """The saved policy, or what a caller asks for in its place."""
    if override == "saved":
        return policy
    return (always if override == "always" else never)(f"Asked for: {override}")


@dataclass(frozen=True)
class Routing:
    """A policy and, where there is something to route, the out-of-fold frontier it is a point of.

    `test` is the policy's point on rows that neither the models nor the threshold have seen.
    """

    policy: RoutingPolicy
    frontier: Frontier | None = None
    test: FrontierPoint | None = None

    def to_dict(self) -> dict[str, Any]:
        """`routing` of metrics.json."""
        frontier = self.frontier
        return asdict(self.policy) | {
            "flip_rate": frontier.flip_rate if frontier else None,
            "rows": frontier.rows if frontier else 0,
            "frontier": [point.to_dict() for point in frontier.points] if frontier else [],
            "test": self.test.to_dict() if self.test else None,
        }


def fit_routing(fusion: FusionModel, targets: np.ndarray, config: RunConfig) -> Routing:
    """Choose the operating point from the fusion's out-of-fold predictions alone.

    Rows that no cheap source was held out for say nothing of a margin, and are left out.

    Args:
        fusion: freshly fitted, so that it has out-of-fold predictions.
        targets: (n, k) of the rows it was fitted on.
        config: names the dear sources.
    """
    dear = config.dear_source_names
    whole, cheap = fusion.out_of_fold, fusion.out_of_fold_without(dear)
    if whole is None or cheap is None:
        return Routing(_unrouted(config.routing, "The model was not trained here"))
    known = cheap.present.any(axis=1)
    missing = _nothing_to_route(fusion, dear, int(known.sum()))
    if missing:
        return Routing(_unrouted(config.routing, missing))
    parts = (targets, margins(cheap), cheap.decisions, whole.decisions)
    rows = Routable(*(part[known] for part in parts))
    frontier = _frontier(rows, config)
    return Routing(choose_policy(rows, frontier, config.routing), frontier)


def tested(
    routing: Routing,
    fusion: FusionModel,
    targets: np.ndarray,
    signals: Mapping[str, Signal],
    whole: Prediction,
    config: RunConfig,
) -> Routing:
    """`routing` with its policy's point on test rows, of which `whole` is the full fusion."""
    if routing.frontier is None or not len(targets):
        return routing
    dear = config.dear_source_names
    cheap = fusion.predict({name: s for name, s in signals.items() if name not in dear})
    rows = Routable(targets, margins(cheap), cheap.decisions, whole.decisions)
    measured = _frontier(rows, config, np.array([routing.policy.threshold]))
    return replace(routing, test=measured.points[0])


def _frontier(rows: Routable, config: RunConfig, thresholds: np.ndarray | None = None) -> Frontier:
    return make_frontier(
        rows,
        thresholds=thresholds,
        cost=AskingCost(config.routing.usd_per_text, config.routing.seconds_per_text),
        draws=config.evaluation.bootstrap_draws,
        confidence=config.evaluation.confidence,
        seed=config.seed,
    )


def choose_policy(rows: Routable, frontier: Frontier, config: RoutingConfig) -> RoutingPolicy:
    """The operating point that `config` asks for, on labelled rows and their frontier."""
    if config.policy == "always":
        return always("The LLM sources are asked about every text")
    if config.policy == "never":
        return never("The LLM sources are asked about no text")
    if config.policy == "budget":
        return _within_budget(rows, config)
    return _certified(rows, config) if config.certified else _within_loss(frontier, config)


def _nothing_to_route(fusion: FusionModel, dear: Collection[str], n: int) -> str:
    if not set(fusion.sources) & set(dear):
        return "There is no LLM source to ask"
    if not set(fusion.sources) - set(dear):
        return "There is no encoder whose margin could decide"
    return "" if n else "There are no labelled texts to learn a threshold from"


def _unrouted(config: RoutingConfig, reason: str) -> RoutingPolicy:
    """A budget is kept by asking about nothing; anything else is safest in asking about all."""
    if config.policy in ("budget", "never"):
        return never(reason)
    return always(reason)


def _within_loss(frontier: Frontier, config: RoutingConfig) -> RoutingPolicy:
    """The least sending whose *expected* loss on new texts is tolerated.

    The loss on n rows counts as (n · loss + 1) / (n + 1) (Angelopoulos, Bates, Fisch, Lei &
    Schuster 2022, "Conformal Risk Control", equation 4, for a loss of at most 1): the best of many
    thresholds on the rows they are compared on looks better than it is. Every larger share has to
    be tolerated too, which keeps a lucky dip of the curve from being chosen.
    """
    n, tolerance = frontier.rows, config.max_accuracy_loss
    refused = [
        i
        for i, point in enumerate(frontier.points[:-1])
        if (n * point.loss + 1) / (n + 1) > tolerance
    ]
    at = refused[-1] + 1 if refused else 0
    point = frontier.points[at]
    allowed = f"{100 * tolerance:g} points of accuracy"
    if at == len(frontier.points) - 1:
        return always(
            f"Sending fewer texts would be expected to lose more than {allowed} against full "
            f"fusion, judged on {n:,} labelled texts"
        )
    reason = (
        f"On {n:,} labelled texts out of fold, sending {100 * point.share:.0f} % "
        f"{'loses' if point.loss >= 0 else 'gains'} {100 * abs(point.loss):.1f} points of accuracy "
        f"against full fusion; on new texts at most {allowed} are expected to be lost"
    )
    return RoutingPolicy("margin", point.threshold, point.share, reason)


def _within_budget(rows: Routable, config: RoutingConfig) -> RoutingPolicy:
    """The largest share that every limit allows."""
    limits = {} if config.share is None else {f"a share of {100 * config.share:g} %": config.share}
    if config.usd_per_1000 is not None and config.usd_per_text is not None:
        words = f"{config.usd_per_1000:g} USD per 1,000 texts at {config.usd_per_text:g} USD a text"
        price = 1000 * config.usd_per_text
        limits[words] = min(1.0, config.usd_per_1000 / price) if price else 1.0
    share = min(limits.values())
    threshold = float(rows.thresholds_for(np.array([share]))[0])
    sent = float((rows.margin < threshold).mean())
    reason = f"{100 * sent:.0f} % of the texts, the least sure ones, fit {' and '.join(limits)}"
    return RoutingPolicy("budget", threshold, sent, reason)


def _certified(rows: Routable, config: RoutingConfig) -> RoutingPolicy:
    found = certify(
        rows.margin, rows.losses(), tolerance=config.max_accuracy_loss, alpha=config.alpha
    )
    policy: RoutingName = "margin" if found.certified else "always"
    return RoutingPolicy(policy, found.threshold, found.share, found.reason, found)
