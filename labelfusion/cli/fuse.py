"""`labelfusion fuse`: fuse scores that tables already hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from labelfusion.cli.output import print_json
from labelfusion.cli.train import JsonOption


def fuse(
    train: Annotated[Path, typer.Option(help="Table to fit on, CSV or Parquet.")],
    test: Annotated[Path, typer.Option(help="Table to measure on.")],
    sources: Annotated[str, typer.Option(help="Names of the sources, e.g. ml,llm.")],
    label_prefix: Annotated[str, typer.Option(help="How gold 0/1 columns begin.")] = "y_",
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Several a row.")] = False,
    method: Annotated[str, typer.Option(help="auto, a combiner, or a source.")] = "auto",
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE=KIND", help="probabilities, logits or hard; else detected."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: JsonOption = False,
) -> None:
    """Fuse the columns <source>_<label> of two tables and measure the result."""
    from labelfusion.config import FusionConfig
    from labelfusion.fuse import fuse_tables

    names = list(dict.fromkeys(name.strip() for name in sources.split(",") if name.strip()))
    result = fuse_tables(
        train,
        test,
        names,
        label_prefix=label_prefix,
        multi_label=multi_label,
        config=FusionConfig(method=method),
        kinds=_kinds(kind or []),
        seed=seed,
    )
    for name, part in result["sources"].items():
        typer.echo(f"{name} is taken as {part['kind']} ({part['kind_reason']})", err=True)
    if json:
        print_json(result)
    else:
        _print_summary(result)


def _kinds(assignments: list[str]) -> dict[str, str]:
    pairs = [assignment.partition("=") for assignment in assignments]
    for name, separator, kind in pairs:
        if not (name and separator and kind):
            raise typer.BadParameter("expected SOURCE=KIND, e.g. ml=logits", param_hint="--kind")
    return {name.strip(): kind.strip() for name, _, kind in pairs}


def _print_summary(result: dict[str, Any]) -> None:
    typer.echo(f"{'system':<12} {'accuracy':>9} {'macro_f1':>9} {'nll':>9}")
    for name, part in {**result["sources"], "fusion": result["fusion"]}.items():
        cells = (f"{part[metric]:>9.4f}" for metric in ("accuracy", "macro_f1", "nll"))
        typer.echo(f"{name:<12} " + " ".join(cells))
    typer.echo(f"Chosen: {result['chosen']}. {result['reason']}")
    typer.echo(f"Fitted on {result['n_train']} rows, measured on {result['n_test']}")
