"""`labelfusion labels`: what people labelled, to take away; and suggestions for what is to come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelfusion.cli.output import Progress, print_json, print_table
from labelfusion.cli.train import (
    ForceOption,
    JsonOption,
    SetOption,
    WorkspaceOption,
    load_config,
)

if TYPE_CHECKING:
    from labelfusion.datasets import StoredDataset
    from labelfusion.labelling.state import LabelState
    from labelfusion.types import Dataset
    from labelfusion.workspace import Workspace

LLM_TEXTS = 200


def labels(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A data set's name.")],
    export: Annotated[
        Path | None, typer.Option(help="Write the labels: .csv, .tsv, .jsonl or .parquet.")
    ] = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Say how far people agree.")
    ] = False,
    suggest: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Let a run's model, or 'llm' (with --config), suggest."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="With --suggest llm: a configuration with the LLM to ask.")
    ] = None,
    texts: Annotated[
        int, typer.Option(min=1, help="With --suggest llm: ask about so many texts at most.")
    ] = LLM_TEXTS,
    set_: SetOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """How far a data set is labelled in the app, and its labels as a file."""
    from labelfusion.workspace import Workspace

    space = Workspace.at(workspace)
    if suggest is not None:
        _suggest(space, dataset, suggest, load_config(config, set_) if config else None, texts)
        return
    stored, data, state = _open(space, dataset)
    values = _summary(stored, data, state)
    if agreement:
        values["agreement"] = _agreement(state)
    if export is not None:
        values["out"], values["rows"] = export, _export(export, data, state, force)
    if json:
        print_json(values)
    else:
        _print(values)


def _open(workspace: Workspace, name: str) -> tuple[StoredDataset, Dataset, LabelState]:
    from labelfusion.data import load_dataset
    from labelfusion.datasets import DatasetStore
    from labelfusion.labelling.apply import readable
    from labelfusion.labelling.journal import Journal
    from labelfusion.labelling.state import replayed

    stored = DatasetStore(workspace).open(name)
    state = replayed(Journal.of(workspace, name).read_new())
    return stored, load_dataset(readable(stored.config, state)), state


def _summary(stored: StoredDataset, dataset: Dataset, state: LabelState) -> dict[str, Any]:
    from labelfusion.labelling.apply import labels_by_row, pending

    found, missing = labels_by_row(dataset, state)
    return {
        "dataset": stored.name,
        "texts": len(dataset),
        "labelled_in_data": int(dataset.labelled.sum()),
        "labelled_by_people": len(state.current()),
        "not_in_data_yet": len(pending(dataset, found)),
        "texts_gone": missing,
        "conflicts": len(state.conflicts()),
        "people": {who: len(state.times(who)) for who in state.people()},
    }


def _agreement(state: LabelState) -> dict[str, Any]:
    from dataclasses import asdict

    from labelfusion.labelling.agreement import all_agreements, alpha

    found = all_agreements(state)
    return {"krippendorff_alpha": alpha(state), "pairs": [asdict(one) for one in found]}


def _export(path: Path, dataset: Dataset, state: LabelState, force: bool) -> int:
    from labelfusion.files import write_atomically
    from labelfusion.labelling.apply import labels_table, with_texts
    from labelfusion.predict_file import check_output, write_table
    from labelfusion.ui.tables import safe_csv

    check_output(path, force=force)
    table = with_texts(labels_table(state), dataset)
    if path.suffix.lower() == ".csv":
        write_atomically(path, lambda to: to.write_bytes(safe_csv(table)))
    else:
        write_table(path, table)
    return len(table)


def _suggest(workspace: Workspace, name: str, by: str, config: Any, texts: int) -> None:
    from labelfusion.labelling import suggestions
    from labelfusion.labelling.apply import label_space
    from labelfusion.runs import ResultsManager

    stored, data, state = _open(workspace, name)
    progress = Progress()
    with suggestions.making(workspace, name, by):
        try:
            if by == suggestions.LLM:
                space = label_space(data, state)
                chosen = suggestions.to_ask(data, stored.seed, texts)
                path = suggestions.suggest_by_llm(
                    _needed(config), workspace, name, data, space, chosen, progress
                )
            else:
                run = ResultsManager(workspace).open(by)
                path = suggestions.suggest_by_run(run, workspace, name, data, progress)
        finally:
            progress.close()
    typer.echo(f"Suggestions written to {path}")


def _needed(config: Any) -> Any:
    if config is None or not config.llm:
        raise typer.BadParameter("--suggest llm needs --config with an llm entry")
    return config


def _print(values: dict[str, Any]) -> None:
    import pandas as pd

    people = ", ".join(f"{who} {count}" for who, count in values["people"].items()) or "nobody"
    typer.echo(
        f"{values['dataset']}: {values['texts']} texts, {values['labelled_in_data']} labelled in "
        f"the data; {values['labelled_by_people']} labelled by people ({people}), of which "
        f"{values['not_in_data_yet']} are not in the data yet"
    )
    if values["conflicts"]:
        typer.echo(f"On {values['conflicts']} texts people disagree; the latest label counts.")
    if found := values.get("agreement"):
        alpha = found["krippendorff_alpha"]
        if found["pairs"]:
            print_table(pd.DataFrame(found["pairs"]).drop(columns=["interval"]))
        typer.echo(f"Krippendorff's alpha: {'–' if alpha is None else f'{alpha:.3f}'}")
    if "out" in values:
        typer.echo(f"{values['rows']} rows written to {values['out']}")
