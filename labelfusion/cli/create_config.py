"""`labelfusion create-config`: write a commented configuration for a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def create_config(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write, YAML.")],
    data: Annotated[Path, typer.Option(help="The labelled data.")],
    scores: Annotated[Path | None, typer.Option(help="Recorded LLM scores of its rows.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented configuration with what was detected in the data."""
    from labelfusion.config_template import config_template
    from labelfusion.errors import InputError
    from labelfusion.files import write_text

    if path.exists() and not force:
        raise InputError(
            "The config file exists", where=str(path), remedy="Give --force to replace it"
        )
    write_text(path, config_template(data, scores, path.parent))
    typer.echo(f"Wrote {path}. Check it, then: labelfusion train {path}", err=True)
