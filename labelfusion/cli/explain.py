"""`labelfusion explain`: which source decided what, text by text."""

from __future__ import annotations

from json import dumps, loads
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labelfusion.cli.output import Progress, print_json_list
from labelfusion.cli.predict import CHUNK_ROWS, ChunkOption, FileArgument
from labelfusion.cli.runs import RunArgument
from labelfusion.cli.train import ForceOption, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from labelfusion.predict_file import LabelledRows

TEXT_WIDTH = 70


def explain(
    run: RunArgument,
    file: FileArgument,
    out: Annotated[
        Path | None, typer.Option(help="Also write a row a text and label: .csv, .jsonl, .parquet.")
    ] = None,
    routing: Annotated[
        Literal["saved", "always", "never"],
        typer.Option(help="Which texts the LLM sources are asked about."),
    ] = "saved",
    scores: Annotated[Path | None, typer.Option(help="Recorded LLM scores of the rows.")] = None,
    chunk_rows: ChunkOption = CHUNK_ROWS,
    json: JsonOption = False,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Say of every text in FILE which source moved which label by how much, in log-odds."""
    from labelfusion.predict_file import Wishes, check_output
    from labelfusion.runs import ResultsManager
    from labelfusion.scale.explain import explained_chunks
    from labelfusion.workspace import Workspace

    if out is not None:
        check_output(out, force=force)
    space = Workspace.at(workspace)
    found, progress = ResultsManager(space).open(run), Progress()
    wishes = Wishes(routing, scores)
    chunks = explained_chunks(found, file, wishes, space, chunk_rows=chunk_rows, on_event=progress)
    try:
        with _Outputs(out, json=json) as outputs:
            for labelled in chunks:
                progress.close()
                outputs.add(labelled)
            outputs.finish(found.id)
    finally:
        progress.close()


class _Outputs:
    """Where explained chunks go: the table of --out and --json at the end, text at once."""

    def __init__(self, out: Path | None, *, json: bool) -> None:
        from labelfusion.explain import ContributionTally
        from labelfusion.scale.parts import Parts

        self._out, self._json = out, json
        # The parts of a table are beside it, where there is room for it.
        self._folder = TemporaryDirectory(prefix=".labelfusion-", dir=out and out.parent)
        place = Path(self._folder.name)
        self._texts = (place / "texts.jsonl").open("w+", encoding="utf-8")
        self._parts = Parts(place, out.suffix.lower()) if out else None
        self._tally, self._chunks, self._rows = ContributionTally(), 0, 0

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._texts.close()
        self._folder.cleanup()

    def add(self, labelled: LabelledRows) -> None:
        """Take the next chunk in."""
        from labelfusion.explain import explanations
        from labelfusion.files import json_ready
        from labelfusion.predict_file import explained_table
        from labelfusion.scale.work import Made

        if self._parts:
            self._parts.add(self._chunks, Made(explained_table(labelled), {}))
        self._chunks += 1
        self._rows += len(labelled.rows)
        if self._parts and not self._json:
            return
        texts = explanations(labelled.prediction, labelled.prior, labelled.rows.ids)
        if self._json:
            self._tally.add(labelled.prediction)
            self._texts.writelines(f"{dumps(json_ready(text))}\n" for text in texts)
            return
        for text, words in zip(texts, labelled.rows.texts, strict=True):
            _print_text(text, words)

    def finish(self, run: str) -> None:
        """Write what is written of all chunks together."""
        if self._parts and self._out:
            self._parts.join(self._chunks, self._out)
            typer.echo(f"{self._rows} texts explained in {self._out}", err=True)
        if self._json:
            self._texts.seek(0)
            value = {"run": run, "contributions": self._tally.to_dict()}
            print_json_list(value, "texts", map(loads, self._texts))


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
