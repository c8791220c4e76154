"""The model card of a run: what was trained on what, how good it is, how to use it.

Text from a fit's own figures. Does not compute any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelfusion.pipeline import FittedRun

CARD_METRICS = ("accuracy", "macro_f1", "nll")


def model_card(run_id: str, fitted: FittedRun) -> str:
    """Markdown for the run folder's README.md."""
    report, space = fitted.report, fitted.dataset.space
    kind = "multi-label" if space.multi_label else "multi-class"
    counts = ", ".join(f"{value} {key}" for key, value in report.get("n", {}).items())
    sections = [
        f"# {fitted.config.name or fitted.dataset.name}",
        f"A LabelFusion model from run `{run_id}`. Task: {kind}, {len(space)} labels.",
        "## Labels\n" + "\n".join(_label_line(n, space.descriptions.get(n)) for n in space.names),
        f"## Data\n{fitted.dataset.name}; rows: {counts}.",
        "## Sources\n" + "\n".join(f"- {_source_line(fitted, name)}" for name in fitted.signals),
        "## Measured on the test rows\n" + _metrics_table(report),
        "## Choice\n" + str(report.get("choice", {}).get("reason", "")),
        "## Use\n```\n"
        f"labelfusion predict {run_id} FILE --out FILE\n```\n"
        "Figures hold for texts like the test rows; on other texts measure again.",
    ]
    return "\n\n".join(sections) + "\n"


def _label_line(name: str, description: str | None) -> str:
    return f"- {name}: {description}" if description else f"- {name}"


def _source_line(fitted: FittedRun, name: str) -> str:
    signal = fitted.signals[name]
    return f"{name}: {signal.origin or 'origin not told'} ({signal.kind})"


def _metrics_table(report: dict[str, Any]) -> str:
    lines = [f"| system | {' | '.join(CARD_METRICS)} |", "|---" * (len(CARD_METRICS) + 1) + "|"]
    for name, system in report.get("systems", {}).items():
        cells = [_with_interval(system, metric) for metric in CARD_METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_interval(system: dict[str, Any], metric: str) -> str:
    value = system.get("metrics", {}).get(metric)
    if value is None:
        return "n/a"
    interval = system.get("intervals", {}).get(metric)
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
