"""`labelfusion providers`: which LLM providers there are, and whether they work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelfusion.cli.output import print_json
from labelfusion.cli.train import JsonOption, SetOption, WorkspaceOption, load_config

app = typer.Typer(
    help="Which LLM providers can be asked.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """Keeps `check` a command of its own."""


@app.command()
def check(
    config: Annotated[Path | None, typer.Option(help="Ask each LLM of this config once.")] = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Ask each LLM of a config one cheap question; without a config, list providers and keys."""
    if config is None:
        _list(json)
        return
    from labelfusion.costs import to_json
    from labelfusion.trial import check_sources
    from labelfusion.workspace import Workspace

    found = check_sources(load_config(config, set_), Workspace.at(workspace))
    works = all(each.works for each in found.values())
    if json:
        print_json({"works": works, "sources": {n: to_json(each) for n, each in found.items()}})
    else:
        for name, each in found.items():
            word = "works" if each.works else "does not work"
            typer.echo(f"{name} {word} ({each.latency_s:.1f} s): {each.message}")
    if not works:
        raise typer.Exit(1)


def _list(json: bool) -> None:
    from labelfusion.llm.providers import REMOTE, keys_found

    keys = keys_found()
    found = [
        {"provider": name, "key": kind.key_env_var, "set": keys.get(name),
         "default_model": kind.default_model}
        for name, kind in REMOTE.items()
    ]  # fmt: skip
    if json:
        print_json({"providers": found})
        return
    for each in found:
        state = {True: "is set", False: "is not set", None: "no key needed"}[each["set"]]
        words = f"{each['key']} {state}" if each["key"] else state
        typer.echo(f"{each['provider']:<12} {words:<28} {each['default_model'] or 'name a model'}")
    typer.echo("recorded and local need no key.")
