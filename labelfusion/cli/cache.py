"""`labelfusion cache`: the LLM answers that are kept so that nothing is paid twice."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelfusion.cli.output import print_json
from labelfusion.cli.train import ForceOption, JsonOption, WorkspaceOption, load_config

if TYPE_CHECKING:
    from labelfusion.cache import AnswerCache

app = typer.Typer(
    help="Look at, clear, export and import cached LLM answers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
WhichCache = Annotated[
    Path | None,
    typer.Option("--config", help="A config whose cache is meant; else the workspace's on disk."),
]
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


@contextmanager
def _open(config: Path | None, workspace: Path | None) -> Iterator[AnswerCache]:
    from labelfusion.cache import open_cache
    from labelfusion.config import CacheConfig
    from labelfusion.workspace import Workspace

    chosen = CacheConfig() if config is None else load_config(config, None).cache
    cache = open_cache(chosen, Workspace.at(workspace).cache)
    try:
        yield cache
    finally:
        cache.close()


@app.command()
def stats(
    config: WhichCache = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """How many answers of which models, and how large. `labelfusion costs` says what it saved."""
    from collections import Counter

    from labelfusion.surroundings import size

    with _open(config, workspace) as cache:
        found = cache.stats()
        models = Counter(record.model for record in cache.records())
    if json:
        values = {"backend": found.backend, "entries": found.entries, "bytes": found.bytes}
        print_json(values | {"models": dict(models.most_common())})
        return
    typer.echo(f"{found.entries:,} answers, {size(found.bytes)} ({found.backend})")
    for model, count in models.most_common():
        typer.echo(f"  {model or '(unknown)':<30} {count:,}")


@app.command()
def clear(
    run: Annotated[str | None, typer.Option(help="Only answers got in this run: its id.")] = None,
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only answers older than e.g. 30d, 12h, 2w.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: WhichCache = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Forget answers that meet every condition given, or all of them."""
    age = None if older_than is None else _age(older_than)
    with _open(config, workspace) as cache:
        keys = cache.find(run=run, model=model, older_than=age)
        if keys and not yes:
            _confirm(len(keys), cache.stats().entries)
        cache.remove(keys)
    typer.echo(f"{len(keys):,} answers removed", err=True)


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if match is None:
        raise typer.BadParameter("expected e.g. 30d, 12h or 2w", param_hint="--older-than")
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


def _confirm(count: int, total: int) -> None:
    from labelfusion.errors import InputError

    what = f"{count:,} of {total:,} answers would be forgotten, and have to be paid for again"
    if not sys.stdin.isatty():
        raise InputError(what, remedy="Give --yes to do it")
    typer.confirm(f"{what}. Go on?", abort=True)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, to be written.")],
    force: ForceOption = False,
    config: WhichCache = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Write all answers to a file. It holds scores and hashes; no texts, prompts or keys."""
    from labelfusion.files import check_writable

    check_writable(file, force=force)
    with _open(config, workspace) as cache:
        count = cache.export_jsonl(file)
    typer.echo(f"{count:,} answers written to {file}", err=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by `cache export`.")],
    config: WhichCache = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Add the answers of an exported file; answers that are there already stay as they are."""
    with _open(config, workspace) as cache:
        count = cache.import_jsonl(file)
    typer.echo(f"{count:,} answers added", err=True)
