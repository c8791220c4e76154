"""`labelfusion doctor`: what this computer offers."""

from __future__ import annotations

import typer

from labelfusion.cli.output import print_json
from labelfusion.cli.train import JsonOption, WorkspaceOption


def doctor(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Versions, encoder weights, keys (only whether they are set), GPU, disk, workspace."""
    from labelfusion.doctor import examine
    from labelfusion.workspace import Workspace

    found = examine(Workspace.at(workspace))
    if json:
        print_json(found)
        return
    for section, values in found.items():
        typer.echo(f"{section}")
        for name, value in values.items():
            typer.echo(f"  {name:<22} {_words(value)}")


def _words(value: object) -> str:
    if value is None:
        return "–"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
