"""The command `labelfusion`: parse, call, print.

Knows arguments, exit codes and how results and errors are shown; the work is done elsewhere. The
modules of the commands import nothing heavy before they are called, so that help is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.main import get_command

from labelfusion import __version__
from labelfusion.cli import (
    app_command,
    cache,
    costs,
    create_config,
    doctor,
    estimate,
    explain,
    fuse,
    labels,
    predict,
    prompt,
    providers,
    report,
    review,
    runs,
    score,
    study,
    train,
)
from labelfusion.cli.output import report_unexpected
from labelfusion.errors import LabelFusionError

app = typer.Typer(
    name="labelfusion",
    help="Fuse a text encoder and LLMs into better labels.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"labelfusion {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001 - typer calls back
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if debug:
        sys.excepthook = sys.__excepthook__


app.command("create-config")(create_config.create_config)
app.command()(train.train)
app.command()(estimate.estimate)
app.command()(score.score)
app.command()(predict.predict)
app.command("label-file", hidden=True)(predict.label_file)
app.command()(explain.explain)
app.command()(fuse.fuse)
app.command()(labels.labels)
app.add_typer(runs.app, name="runs")
app.add_typer(study.app, name="study")
app.command()(report.report)
app.command()(review.review)
app.command()(costs.costs)
app.add_typer(cache.app, name="cache")
app.add_typer(prompt.app, name="prompt")
app.add_typer(providers.app, name="providers")
app.command("app")(app_command.app)
app.command()(doctor.doctor)


def main() -> int:
    """Run the command line. Returns the exit code of an error; exits on its own otherwise.

    0 done, 1 failed, 2 the input cannot be used, 130 interrupted by Ctrl-C.
    """
    sys.excepthook = report_unexpected
    try:
        get_command(app)(prog_name="labelfusion")
    except LabelFusionError as error:
        if sys.excepthook is sys.__excepthook__:
            raise
        typer.echo(f"labelfusion: {error}", err=True)
        return error.exit_code
    return 0
