"""`labelfusion costs`: what LLM requests have cost, from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labelfusion.cli.output import print_json, print_table
from labelfusion.cli.train import ForceOption, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from labelfusion.costs import CostLine, Ledger


def costs(
    by: Annotated[
        Literal["run", "model", "day", "month", "source", "provider", "status"],
        typer.Option(help="One line for each. Days and months are UTC."),
    ] = "run",
    run: Annotated[str | None, typer.Option(help="Of this run alone: its id.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write every request to a CSV.")] = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Requests, tokens and money so far, and what the cache saved."""
    from contextlib import closing

    from labelfusion.costs import LEDGER_NAME, export_csv, open_ledger, summarise, total
    from labelfusion.files import check_writable, write_atomically
    from labelfusion.workspace import Workspace

    root = Workspace.at(workspace).root
    if not (root / LEDGER_NAME).is_file():
        _tell_nothing(by, root, json)
        return
    if csv is not None:
        check_writable(csv, force=force)
    with closing(open_ledger(root)) as ledger:
        _check_run(ledger, run)
        lines, sums = summarise(ledger, by, run=run), total(ledger, run=run)
        if csv is not None:
            write_atomically(csv, lambda path: export_csv(ledger, path, run=run))
            typer.echo(f"Requests written to {csv}", err=True)
    if json:
        _print_json(by, lines, sums)
    else:
        _print(by, [*lines, sums])


def _tell_nothing(by: str, root: Path, json: bool) -> None:
    if json:
        _print_json(by, [], None)
    else:
        typer.echo(f"No LLM request has been sent from {root}.")


def _check_run(ledger: Ledger, run: str | None) -> None:
    from labelfusion.errors import InputError, did_you_mean

    if run is None:
        return
    known = list(dict.fromkeys(row["run"] for row in ledger.rows()))
    if run not in known:
        raise InputError(
            "The ledger has no requests of this run", found=run, remedy=did_you_mean(run, known)
        )


def _print_json(by: str, lines: list[CostLine], sums: CostLine | None) -> None:
    from labelfusion.costs import to_json

    print_json({"by": by, "lines": to_json(lines), "total": to_json(sums)})


def _print(by: str, lines: list[CostLine]) -> None:
    import pandas as pd

    from labelfusion.costs import format_usd

    rows = [
        {
            by: line.group or "(none)",
            "requests": f"{line.requests:,}",
            "texts": f"{line.texts:,}",
            "input": f"{line.input_tokens:,}",
            "cached": f"{line.cached_input_tokens:,}",
            "output": f"{line.output_tokens:,}",
            "money": format_usd(line.usd if line.unpriced < max(line.requests, 1) else None),
            "texts from cache": f"{line.cached_texts:,}",
            "saved": format_usd(line.saved_usd),
        }
        for line in lines
    ]
    print_table(pd.DataFrame(rows))
    unpriced = lines[-1].unpriced
    if unpriced:
        typer.echo(f"{unpriced} requests have no known price and are not in the money.")
