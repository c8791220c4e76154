"""`labelfusion runs`: list, show, compare and delete runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from labelfusion.cli.output import print_json, print_table
from labelfusion.cli.train import JsonOption, WorkspaceOption

app = typer.Typer(
    help="List, show, compare and delete runs.", no_args_is_help=True, rich_markup_mode=None
)
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Id, unique beginning of one, folder, or 'last'.")
]


@app.command("list")
def list_runs(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """All runs of the workspace, newest first."""
    from labelfusion.runs import ResultsManager

    manager = ResultsManager(workspace)
    table = manager.list()
    if json:
        print_json({"runs": table.astype(object).to_dict("records")})
    elif table.empty:
        typer.echo(f"There are no runs in {manager.workspace.root}.")
    else:
        shown = ["id", "state", "metric", "fusion", "best_source_value", "chosen"]
        print_table(table.filter(items=shown))
        for run_id, reason in zip(table["id"], table["reason"], strict=True):
            if reason:
                typer.echo(f"{run_id}: {reason}")


@app.command()
def show(run: RunArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """One run: its state, what it spent and, once finished, its figures."""
    from labelfusion.runs import ResultsManager
    from labelfusion.runs.usage import spent_usd, usage_sentence

    found = ResultsManager(workspace).open(run)
    status = found.status
    metrics = found.metrics if status.state == "finished" else None
    if json:
        values = {"status": asdict(status), "metrics": metrics, "usage": found.usage}
        print_json(values | {"spent_usd": spent_usd(found.usage), "folder": found.folder.path})
        return
    for name in ("id", "name", "state", "stage", "created", "started", "finished", "error"):
        typer.echo(f"{name + ':':<10}{getattr(status, name) or '–'}")
    for record in found.usage:
        typer.echo(usage_sentence(record))
    if metrics:
        typer.echo(found.folder.model_card.read_text(encoding="utf-8"))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two or more runs.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Metrics side by side, settings that differ, and rows whose prediction changed."""
    from labelfusion.runs import ResultsManager

    found = ResultsManager(workspace).compare(runs)
    if json:
        metrics = found.metrics.reset_index().astype(object).to_dict("records")
        config = found.config.reset_index().to_dict("records")
        changed = found.changed.to_dict("records")
        print_json(
            {
                "metrics": metrics,
                "config": config,
                "changed": changed,
                "shared_rows": found.shared_rows,
            }
        )
        return
    print_table(found.metrics, index=True)
    typer.echo("\nSettings that differ")
    print_table(found.config, index=True)
    typer.echo(f"\n{len(found.changed)} of {found.shared_rows} predictions differ")
    if len(found.changed):
        print_table(found.changed)


@app.command()
def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...")],
    force: Annotated[bool, typer.Option(help="Also a run that waits or works.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Delete runs for good."""
    from labelfusion.runs import ResultsManager

    manager = ResultsManager(workspace)
    for run in runs:
        typer.echo(f"Deleted {manager.delete(run, force=force)}")
