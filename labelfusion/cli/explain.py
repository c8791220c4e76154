"""`labelfusion explain`: which source decided what, text by text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from labelfusion.cli.output import Progress, print_json
from labelfusion.cli.runs import RunArgument
from labelfusion.cli.train import ForceOption, JsonOption, WorkspaceOption

TEXT_WIDTH = 70


def explain(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Texts to explain.")],
    out: Annotated[
        Path | None, typer.Option(help="Also write a row a text and label: .csv, .jsonl, .parquet.")
    ] = None,
    routing: Annotated[
        Literal["saved", "always", "never"],
        typer.Option(help="Which texts the LLM sources are asked about."),
    ] = "saved",
    scores: Annotated[Path | None, typer.Option(help="Recorded LLM scores of the rows.")] = None,
    json: JsonOption = False,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Say of every text in FILE which source moved which label by how much, in log-odds."""
    from labelfusion.explain import explanations, global_contributions
    from labelfusion.predict_file import (
        Wishes,
        check_output,
        explained_table,
        label_rows,
        write_table,
    )
    from labelfusion.runs import ResultsManager
    from labelfusion.workspace import Workspace

    if out is not None:
        check_output(out, force=force)
    space = Workspace.at(workspace)
    found = ResultsManager(space).open(run)
    progress = Progress()
    try:
        labelled = label_rows(
            found, file, Wishes(routing, scores), workspace=space, on_event=progress
        )
    finally:
        progress.close()
    if out is not None:
        write_table(out, explained_table(labelled))
        typer.echo(f"{len(labelled.rows)} texts explained in {out}", err=True)
    texts = explanations(labelled.prediction, labelled.prior, labelled.rows.ids)
    if json:
        overall = global_contributions(labelled.prediction)
        print_json({"run": found.id, "contributions": overall, "texts": texts})
    elif out is None:
        for text, words in zip(texts, labelled.rows.texts, strict=True):
            _print_text(text, words)


def _print_text(text: dict[str, Any], words: str) -> None:
    """One text: its labels that matter, each as a sum that adds up."""
    shown = " ".join(words.split())
    shown = shown if len(shown) <= TEXT_WIDTH else shown[: TEXT_WIDTH - 1] + "…"
    typer.echo(f"\n{text['id']}  {shown}")
    given = ", ".join(text["labels"]) or "no label"
    typer.echo(f"  {given}; decided by {text['decided_by']}")
    ranked = sorted(text["explanation"], key=lambda part: -part["probability"])
    for part in ranked[: max(2, len(text["labels"]))]:
        typer.echo(f"  {part['label']:<20} {part['probability']:6.1%}  {_sum(part)}")


def _sum(part: dict[str, Any]) -> str:
    parts = "".join(f" {value:+.2f} {name}" for name, value in part["contributions"].items())
    return f"log-odds {part['fused']:+.2f} = {part['prior']:+.2f} prior{parts}"
