"""`labelfusion predict`: label the rows of a file with a run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from labelfusion.cli.output import Progress
from labelfusion.cli.runs import RunArgument
from labelfusion.cli.train import ForceOption, WorkspaceOption


def predict(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Texts to label.")],
    out: Annotated[Path, typer.Option(help="Where to write: .csv, .tsv, .jsonl or .parquet.")],
    routing: Annotated[
        Literal["saved", "always", "never"],
        typer.Option(
            help="Which texts the LLM sources are asked about: as the run says, all or none."
        ),
    ] = "saved",
    no_llm: Annotated[
        bool, typer.Option("--no-llm", help="Do without LLM scores, as --routing never.")
    ] = False,
    scores: Annotated[Path | None, typer.Option(help="Recorded LLM scores of the rows.")] = None,
    contributions: Annotated[
        bool, typer.Option("--contributions", help="Add contribution_<source>_<label>.")
    ] = False,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Label the rows of FILE with the model of RUN."""
    from labelfusion.evaluation.words import NO_REFERENCE
    from labelfusion.predict_file import check_output, label_rows, result_table, write_table
    from labelfusion.runs import ResultsManager
    from labelfusion.workspace import Workspace

    if no_llm and routing == "always":
        raise typer.BadParameter("--no-llm and --routing always exclude each other")
    if (no_llm or routing == "never") and scores is not None:
        raise typer.BadParameter("--scores has no use where no LLM is asked")
    check_output(out, force=force)
    space = Workspace.at(workspace)
    found = ResultsManager(space).open(run)
    progress = Progress()
    try:
        labelled = label_rows(
            found,
            file,
            scores=scores,
            routing="never" if no_llm else routing,
            contributions=contributions,
            workspace=space,
            on_event=progress,
        )
    finally:
        progress.close()
    write_table(out, result_table(labelled))
    rows = len(labelled.rows)
    typer.echo(f"{rows} rows written to {out}", err=True)
    for name, present in zip(
        labelled.prediction.sources, labelled.prediction.present.T, strict=True
    ):
        typer.echo(f"{name}: present on {present.sum()} of {rows} rows", err=True)
    typer.echo(labelled.drift.sentence if labelled.drift else NO_REFERENCE, err=True)


def label_file(
    folder: Annotated[Path, typer.Argument(help="Folder of the prediction.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Do, or go on with, a prediction that the app has prepared."""
    from labelfusion.prediction_job import PredictionFolder, label_in_folder
    from labelfusion.workspace import Workspace

    progress = Progress()
    try:
        label_in_folder(PredictionFolder(folder), Workspace.at(workspace), on_event=progress)
    finally:
        progress.close()
