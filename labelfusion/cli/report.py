"""`labelfusion report`: a finished run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelfusion.cli.runs import RunArgument
from labelfusion.cli.train import ForceOption, WorkspaceOption


def report(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="Where to write the HTML file.")],
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write the results of RUN as one HTML file that loads nothing and prints."""
    from labelfusion.files import check_writable, write_text
    from labelfusion.report_html import report_html
    from labelfusion.runs import ResultsManager

    check_writable(out, force=force)
    write_text(out, report_html(ResultsManager(workspace).open(run)))
    typer.echo(f"Report written to {out}", err=True)
