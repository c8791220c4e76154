"""`labelfusion review`: where a run errs, and which labels look wrong, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelfusion.cli.output import print_json
from labelfusion.cli.predict import ExcelOption
from labelfusion.cli.runs import RunArgument
from labelfusion.cli.train import ForceOption, JsonOption, WorkspaceOption

SHOWN = 5


def review(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="Folder for the tables; it is made if need be.")],
    workspace: WorkspaceOption = None,
    force: ForceOption = False,
    excel_safe: ExcelOption = False,
    json: JsonOption = False,
) -> None:
    """Mistakes, slices that are worse than the rest, and suspected label errors of a run.

    Writes mistakes.csv, slices.csv, label_issues.csv and summary.txt. Changes no data.
    """
    from labelfusion.review.report import review_run, write_review
    from labelfusion.runs import ResultsManager

    found = review_run(ResultsManager(workspace).open(run))
    files = write_review(found, out, force=force, excel_safe=excel_safe)
    if json:
        print_json(found.to_dict(SHOWN) | {"files": {path.stem: path for path in files}})
    else:
        typer.echo(found.summary(SHOWN))
        for path in files:
            typer.echo(f"Written: {path}")
