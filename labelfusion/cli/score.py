"""`labelfusion score`: LLM scores for the rows of a file, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from labelfusion.cli.engines import AddressOption, EngineOption, WorkersOption, chosen_engine
from labelfusion.cli.output import Progress, print_json
from labelfusion.cli.predict import (
    CHUNK_ROWS,
    ChunkOption,
    ExcelOption,
    FileArgument,
    FreshOption,
    OutOption,
)
from labelfusion.cli.train import (
    ConfigOption,
    ForceOption,
    JsonOption,
    SetOption,
    WorkspaceOption,
    load_config,
)

if TYPE_CHECKING:
    from labelfusion.scale import Scored


def score(
    config: ConfigOption,
    file: FileArgument,
    out: OutOption,
    set_: SetOption = None,
    fresh: FreshOption = False,
    excel_safe: ExcelOption = False,
    chunk_rows: ChunkOption = CHUNK_ROWS,
    force: ForceOption = False,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 2,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Ask the config's LLMs about the rows of FILE; OUT can be used as recorded scores.

    What was paid before an interruption is kept: the same command goes on from there.
    """
    from labelfusion.scale import Manner
    from labelfusion.scale import score as score_rows
    from labelfusion.workspace import Workspace

    progress = Progress()
    manner = Manner(
        workspace=Workspace.at(workspace),
        engine=chosen_engine(engine, address, workers),
        chunk_rows=chunk_rows,
        fresh=fresh,
        force=force,
        excel_safe=excel_safe,
        on_event=progress,
    )
    try:
        found = score_rows(load_config(config, set_), file, out, manner)
    finally:
        progress.close()
    if json:
        _print_json(found, out)
    else:
        _print(found, out)


def _print_json(found: Scored, out: str) -> None:
    from labelfusion.costs import to_json

    outcome = found.outcome
    sources = {
        name: {"present": present} | outcome.about[name]
        for name, present in outcome.present.items()
    }
    values = {"out": out, "rows": outcome.rows, "sources": sources, "run": outcome.ledger}
    print_json(values | {"cost": to_json(found.cost)})


def _print(found: Scored, out: str) -> None:
    from labelfusion.costs import format_usd

    outcome = found.outcome
    for name, present in outcome.present.items():
        kind = outcome.about[name]["kind"]
        typer.echo(f"{name}: {present} of {outcome.rows} rows have {kind}")
    cost = found.cost
    spent = format_usd(None if cost.unpriced else cost.usd)
    typer.echo(f"{cost.requests} requests, {cost.cached_texts} texts from the cache, {spent}")
    typer.echo(f"{outcome.rows} rows written to {out}")
