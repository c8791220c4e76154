"""`labelfusion estimate`: what the LLM scores of a run will cost, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from labelfusion.cli.output import print_json
from labelfusion.cli.train import (
    ConfigOption,
    JsonOption,
    SetOption,
    WorkspaceOption,
    load_config,
)

if TYPE_CHECKING:
    from labelfusion.costing import RunEstimate
    from labelfusion.costs.estimate import Amount

_WIDTH = 18


def estimate(
    config: ConfigOption,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Requests, tokens, money and time of a run's LLM scores. Sends nothing, needs no key."""
    from labelfusion.costing import estimate_run
    from labelfusion.costs import to_json
    from labelfusion.workspace import Workspace

    found = estimate_run(load_config(config, set_), Workspace.at(workspace))
    if json:
        print_json(to_json(found))
    else:
        _print(found)


def _print(found: RunEstimate) -> None:
    estimated = found.estimate
    for name in found.free_sources:
        typer.echo(f"{name}: costs nothing")
    for source in estimated.sources:
        typer.echo(
            f"{source.source}: {source.provider} {source.model}, {source.texts} of "
            f"{source.texts + source.cached_texts} texts to ask about, "
            f"{source.cached_texts} in the cache"
        )
        _print_amounts(source.expected, source.at_most)
    if len(estimated.sources) > 1:
        typer.echo("In all")
        _print_amounts(estimated.expected, estimated.at_most)
    if any(source.tokens_estimated for source in estimated.sources):
        typer.echo("Tokens are estimated from characters; the provider counts its own.")
    if any(source.price_origin is None for source in estimated.sources):
        typer.echo("An unknown price can be set in the config: costs.prices.")
    typer.echo(f"Prices: {found.prices}")
    typer.echo(f"Budget: {found.budget.sentence}")


def _print_amounts(expected: Amount, at_most: Amount) -> None:
    from labelfusion.costs import format_usd
    from labelfusion.ui.progress import duration

    typer.echo(f"  {'':<14}{'expected':>{_WIDTH}}{'at most':>{_WIDTH}}")
    lines = {
        "requests": [f"{a.requests:,}" for a in (expected, at_most)],
        "input tokens": [f"{a.input_tokens:,}" for a in (expected, at_most)],
        "  of it cached": [f"{a.cached_input_tokens:,}" for a in (expected, at_most)],
        "output tokens": [f"{a.output_tokens:,}" for a in (expected, at_most)],
        "money": [format_usd(a.usd) for a in (expected, at_most)],
        "time": [duration(a.seconds) for a in (expected, at_most)],
    }
    for name, (likely, most) in lines.items():
        typer.echo(f"  {name:<14}{likely:>{_WIDTH}}{most:>{_WIDTH}}")
