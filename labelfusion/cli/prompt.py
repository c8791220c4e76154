"""`labelfusion prompt`: what an LLM is sent."""

from __future__ import annotations

from typing import Annotated

import typer

from labelfusion.cli.output import print_json
from labelfusion.cli.train import ConfigOption, JsonOption, SetOption, load_config

app = typer.Typer(help="Look at what an LLM is sent.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keeps `show` a command of its own."""


@app.command()
def show(
    config: ConfigOption,
    row: Annotated[int, typer.Option(help="Row of the data file as a spreadsheet counts it.")],
    source: Annotated[str | None, typer.Option(help="Name of the LLM; else the first.")] = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """The prompt for a row and the rows that travel with it, exactly as sent. Sends nothing."""
    from labelfusion.trial import find_entry, show_prompt

    chosen = load_config(config, set_)
    prompt = show_prompt(chosen, find_entry(chosen, source), row)
    if json:
        print_json({"system": prompt.system, "user": prompt.user})
    else:
        typer.echo(f"--- system ---\n{prompt.system}\n--- user ---\n{prompt.user}")
