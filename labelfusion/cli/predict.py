"""`labelfusion predict`: label the rows of a file with a run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelfusion.cli.output import Progress
from labelfusion.cli.runs import RunArgument
from labelfusion.cli.train import ForceOption, WorkspaceOption


def predict(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Texts to label.")],
    out: Annotated[Path, typer.Option(help="Where to write: .csv, .tsv, .jsonl or .parquet.")],
    no_llm: Annotated[bool, typer.Option("--no-llm", help="Do without LLM scores.")] = False,
    scores: Annotated[Path | None, typer.Option(help="Recorded LLM scores of the rows.")] = None,
    contributions: Annotated[
        bool, typer.Option("--contributions", help="Add contribution_<source>_<label>.")
    ] = False,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Label the rows of FILE with the model of RUN."""
    from labelfusion.predict_file import check_output, predict_file, write_table
    from labelfusion.runs import ResultsManager
    from labelfusion.workspace import Workspace

    if no_llm and scores is not None:
        raise typer.BadParameter("--no-llm and --scores exclude each other")
    check_output(out, force=force)
    space = Workspace.at(workspace)
    found = ResultsManager(space).open(run)
    progress = Progress()
    try:
        frame = predict_file(
            found,
            file,
            scores=scores,
            use_llm=not no_llm,
            contributions=contributions,
            workspace=space,
            on_event=progress,
        )
    finally:
        progress.close()
    write_table(out, frame)
    typer.echo(f"{len(frame)} rows written to {out}", err=True)
    for name in found.config.source_names:
        present = frame[f"{name}_present"].to_numpy().sum()
        typer.echo(f"{name}: present on {present} of {len(frame)} rows", err=True)
