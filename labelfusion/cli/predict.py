"""`labelfusion predict`: label the rows of a file with a run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from labelfusion.cli.engines import (
    AddressOption,
    EngineOption,
    GpusOption,
    WorkersOption,
    chosen_engine,
)
from labelfusion.cli.output import Progress, print_json
from labelfusion.cli.runs import RunArgument
from labelfusion.cli.train import ForceOption, JsonOption, WorkspaceOption

CHUNK_ROWS = 10_000
FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A path, or an address such as s3://bucket/key.")
]
OutOption = Annotated[
    str, typer.Option(help="Where to write: .csv, .tsv, .jsonl or .parquet; or such an address.")
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Begin anew instead of going on where this was stopped.")
]
ExcelOption = Annotated[
    bool,
    typer.Option("--excel-safe", help="CSV and TSV: no cell that a spreadsheet runs as a formula."),
]
ChunkOption = Annotated[
    int, typer.Option(min=1, help="Rows that are held in memory, and kept, at a time.")
]


def predict(
    run: RunArgument,
    file: FileArgument,
    out: OutOption,
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
    fresh: FreshOption = False,
    excel_safe: ExcelOption = False,
    chunk_rows: ChunkOption = CHUNK_ROWS,
    force: ForceOption = False,
    cache: Annotated[
        Literal["disk", "redis", "memory", "none"] | None,
        typer.Option(help="Where LLM answers are kept, if not where the run kept them."),
    ] = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 2,
    gpus: GpusOption = 0.0,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Label the rows of FILE with the model of RUN.

    What is finished before an interruption is kept: the same command goes on from there.
    """
    from labelfusion.config import CacheConfig
    from labelfusion.evaluation.words import NO_REFERENCE
    from labelfusion.predict_file import Wishes
    from labelfusion.runs import ResultsManager
    from labelfusion.scale import Manner
    from labelfusion.scale import predict as label_rows
    from labelfusion.scale.outputs import Target
    from labelfusion.workspace import Workspace

    if no_llm and routing == "always":
        raise typer.BadParameter("--no-llm and --routing always exclude each other")
    if (no_llm or routing == "never") and scores is not None:
        raise typer.BadParameter("--scores has no use where no LLM is asked")
    space = Workspace.at(workspace)
    Target.of(out, space).check(force=force)
    found = ResultsManager(space).open(run)
    wishes = Wishes("never" if no_llm else routing, scores, contributions)
    progress = Progress()
    manner = Manner(
        workspace=space,
        engine=chosen_engine(engine, address, workers, gpus),
        chunk_rows=chunk_rows,
        fresh=fresh,
        force=force,
        excel_safe=excel_safe,
        on_event=progress,
    )
    try:
        answers = CacheConfig(backend=cache) if cache else None
        labelled = label_rows(found, file, out, wishes, manner, cache=answers)
    finally:
        progress.close()
    if json:
        print_json({"run": found.id, "out": out} | labelled.to_dict())
    rows = labelled.outcome.rows
    typer.echo(f"{rows} rows written to {out}", err=True)
    for name, present in labelled.outcome.present.items():
        typer.echo(f"{name}: present on {present} of {rows} rows", err=True)
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
