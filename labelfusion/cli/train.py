"""`labelfusion train`: do a run in the foreground, or go on with one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelfusion.cli.engines import (
    AddressOption,
    EngineOption,
    GpusOption,
    Where,
    WorkersOption,
    chosen_spread,
)
from labelfusion.cli.output import Progress, figures, print_json

if TYPE_CHECKING:
    from labelfusion.config import RunConfig
    from labelfusion.runs import RunFolder
    from labelfusion.types import Dataset
    from labelfusion.workspace import Workspace

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of runs and caches; else LABELFUSION_WORKSPACE, else ./labelfusion_workspace."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the output file.")]
ConfigOption = Annotated[Path, typer.Option("--config", help="A run's configuration, YAML.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. ml.folds=3."),
]


def train(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The run's configuration (YAML), or labelled data."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The configuration, if not FILE.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Where FILE is data: recorded LLM scores of its rows.")
    ] = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run: id, folder or 'last'.")
    ] = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 2,
    gpus: GpusOption = 0.0,
    json: JsonOption = False,
) -> None:
    """Train, fuse and evaluate; everything is kept in a run folder.

    Of labelled data the layout is guessed, as by create-config, and all settings are the defaults.
    With --engine ray the folds of the encoder's cross-fit are trained beside each other.
    """
    from labelfusion.worker import work
    from labelfusion.workspace import Workspace

    given = _given(file, config, scores)
    space = Workspace.at(workspace)
    progress = Progress()
    with chosen_spread(Where(engine, address, workers, gpus), space.root) as spread:
        if resume is not None:
            folder, dataset = _old_run(space, resume, given, set_), None
        else:
            folder, dataset = _new_run(space, given, scores, set_)
        typer.echo(f"Run {folder.id} in {folder.path}", err=True)
        try:
            fitted = work(folder, space, on_event=progress, dataset=dataset, spread=spread)
        finally:
            progress.close()
    if json:
        print_json(_result(folder, fitted.report))
    else:
        _print_summary(folder, fitted.report)


def _given(file: Path | None, config: Path | None, scores: Path | None) -> Path | None:
    """The configuration or the data, however it was named."""
    if file is not None and config is not None:
        raise typer.BadParameter("give FILE or --config PATH, not both")
    if scores is not None and (file is None or not _is_data(file)):
        raise typer.BadParameter("--scores goes with data; a configuration names its own scores")
    return file or config


def _is_data(file: Path) -> bool:
    from labelfusion.data import SUFFIXES

    return file.suffix.lower() in SUFFIXES


def _old_run(
    workspace: Workspace, run: str, config: Path | None, overrides: list[str] | None
) -> RunFolder:
    from labelfusion.runs import ResultsManager
    from labelfusion.runs.create import change_costs

    if config is not None:
        raise typer.BadParameter("a run goes on with its own config: give --resume alone")
    folder = ResultsManager(workspace).open(run).folder
    if overrides:
        change_costs(folder, overrides)
    return folder


def load_config(path: Path, overrides: list[str] | None) -> RunConfig:
    """The config in a file with the settings of --set. Raises ConfigError."""
    from labelfusion.config import RunConfig

    return RunConfig.load(path).with_overrides(overrides or []).anchored(Path.cwd())


def _new_run(
    workspace: Workspace, path: Path | None, scores: Path | None, overrides: list[str] | None
) -> tuple[RunFolder, Dataset]:
    from labelfusion.pipeline import check
    from labelfusion.runs import create_run

    if path is None:
        raise typer.BadParameter("give a configuration, or labelled data, or --resume RUN")
    if _is_data(path):
        config = _guessed(path, scores).with_overrides(overrides or [])
    else:
        config = load_config(path, overrides)
    # Checked first, so that input that cannot be used leaves no run behind.
    dataset = check(config)
    return create_run(workspace, config), dataset


def _guessed(data: Path, scores: Path | None) -> RunConfig:
    """The defaults over a guessed layout, which is said. Raises InputError."""
    from labelfusion.config_template import guessed_config

    config, reasons = guessed_config(data, scores)
    typer.echo(f"Layout, guessed: {' '.join(reasons)}", err=True)
    typer.echo("To change it or anything else: labelfusion create-config", err=True)
    return config


def _result(folder: RunFolder, report: dict[str, Any]) -> dict[str, Any]:
    systems = {name: figures(system) for name, system in report["systems"].items()}
    return {
        "run": str(folder.path),
        "fusion": systems.pop("fusion"),
        "sources": systems,
        "chosen": report["choice"]["chosen"],
        "reason": report["choice"]["reason"],
        "candidates": report["choice"]["candidates"],
        "n": report["n"],
        "contributions": report["contributions"],
    }


def _print_summary(folder: RunFolder, report: dict[str, Any]) -> None:
    if report["n"]["test"]:
        typer.echo(f"{'system':<12} {'accuracy':>9} {'macro_f1':>9} {'nll':>9}")
        for name, system in report["systems"].items():
            cells = ("–" if v is None else f"{v:.4f}" for v in figures(system).values())
            typer.echo(f"{name:<12} " + " ".join(f"{cell:>9}" for cell in cells))
    else:
        from labelfusion.evaluation.words import NO_METRICS

        typer.echo(f"{NO_METRICS} {report['n']['predicted']} texts without a label were labelled.")
    typer.echo(f"Chosen: {report['choice']['chosen']}. {report['choice']['reason']}")
    typer.echo(f"Run: {folder.path}")
