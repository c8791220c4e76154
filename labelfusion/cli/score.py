"""`labelfusion score`: LLM scores for the rows of a file, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelfusion.cli.output import Progress, print_json
from labelfusion.cli.train import (
    ConfigOption,
    ForceOption,
    JsonOption,
    SetOption,
    WorkspaceOption,
    load_config,
)

if TYPE_CHECKING:
    from labelfusion.score_file import ScoredFile


def score(
    config: ConfigOption,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Texts to score.")],
    out: Annotated[Path, typer.Option(help="Where to write: .csv, .tsv, .jsonl or .parquet.")],
    set_: SetOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Ask the config's LLMs about the rows of FILE; OUT can be used as recorded scores.

    What was paid before an interruption is in the cache: the same command goes on from there.
    """
    from labelfusion.predict_file import check_output, write_table
    from labelfusion.score_file import score_file
    from labelfusion.workspace import Workspace

    check_output(out, force=force)
    progress = Progress()
    try:
        found = score_file(
            load_config(config, set_), file, Workspace.at(workspace), on_event=progress
        )
    finally:
        progress.close()
    write_table(out, found.frame)
    if json:
        _print_json(found, out)
    else:
        _print(found, out)


def _print_json(found: ScoredFile, out: Path) -> None:
    from labelfusion.costs import to_json

    sources = {
        name: {"present": int(s.present.sum()), "kind": s.kind, "origin": s.origin}
        for name, s in found.signals.items()
    }
    values = {"out": out, "rows": len(found.frame), "sources": sources, "run": found.run}
    print_json(values | {"cost": to_json(found.cost)})


def _print(found: ScoredFile, out: Path) -> None:
    from labelfusion.costs import format_usd

    for name, signal in found.signals.items():
        typer.echo(f"{name}: {signal.present.sum()} of {len(signal)} rows have {signal.kind}")
    cost = found.cost
    spent = format_usd(None if cost.unpriced else cost.usd)
    typer.echo(f"{cost.requests} requests, {cost.cached_texts} texts from the cache, {spent}")
    typer.echo(f"{len(found.frame)} rows written to {out}")
