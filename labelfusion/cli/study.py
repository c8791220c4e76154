"""`labelfusion study`: many fits on nested subsets and seeds, drawn and kept."""

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
from labelfusion.cli.output import Progress, print_json, print_table
from labelfusion.cli.train import (
    ConfigOption,
    JsonOption,
    SetOption,
    WorkspaceOption,
    load_config,
)

if TYPE_CHECKING:
    from labelfusion.studies import StudyResult

app = typer.Typer(
    help="Studies with figures. The same command goes on after an interruption.",
    no_args_is_help=True,
)
OutOption = Annotated[
    Path | None, typer.Option(help="The study's folder; else one in the workspace's studies/.")
]
SeedsOption = Annotated[int, typer.Option(min=1, help="How many seeds, from the config's on.")]
SizesOption = Annotated[
    str, typer.Option(help="Shares or numbers of training rows, e.g. 5%,20%,50%,100% or 60,120.")
]


# The studies that are told no more than which rows to train on, how often.
OVER_SIZES = {
    "learning-curve": "Every source and method on 5, 20, 50 and 100 % of the labels.",
    "ablation": "Sources alone, left out, uncalibrated; the embedding in place of the logits.",
    "frontier": "Accuracy against the share of texts sent to the LLM, and against money.",
    "calibration": "Log-loss, Brier score and ECE of every source by calibrator.",
    "architecture": "Hidden sizes, depth and dropout of the FusionMLP.",
}


def _add_over_sizes(kind: str, about: str) -> None:
    @app.command(kind, help=about)
    def run(
        config: ConfigOption,
        out: OutOption = None,
        seeds: SeedsOption = 5,
        sizes: SizesOption = "",
        set_: SetOption = None,
        workspace: WorkspaceOption = None,
        engine: EngineOption = "local",
        address: AddressOption = None,
        workers: WorkersOption = 2,
        gpus: GpusOption = 0.0,
        json: JsonOption = False,
    ) -> None:
        where = Where(engine, address, workers, gpus)
        _study(kind, config, out, set_, workspace, where, json, seeds=seeds, sizes=sizes)


for _kind, _about in OVER_SIZES.items():
    _add_over_sizes(_kind, _about)


@app.command()
def prompt(
    config: ConfigOption,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT",
            help="configured, zero-shot, 'no descriptions', STRATEGY:COUNT or a template's path.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=10, help="Texts that every variant scores.")] = 100,
    out: OutOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 2,
    gpus: GpusOption = 0.0,
    json: JsonOption = False,
) -> None:
    """Prompt variants on the same texts: accuracy, log-loss and cost of each."""
    where = Where(engine, address, workers, gpus)
    _study("prompt", config, out, set_, workspace, where, json, variants=variant or (), rows=rows)


@app.command()
def transfer(
    target: Annotated[
        Path, typer.Option(help="The other data: a file like the config's, or a config (YAML).")
    ],
    config: Annotated[Path | None, typer.Option(help="A config to train, once a seed.")] = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="A trained run instead: id, folder or 'last'.")
    ] = None,
    out: OutOption = None,
    seeds: SeedsOption = 5,
    sizes: SizesOption = "",
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 2,
    gpus: GpusOption = 0.0,
    json: JsonOption = False,
) -> None:
    """Fusion and its components on another data set with the same labels, without retraining."""
    if (config is None) == (run is None):
        raise typer.BadParameter("give --config PATH or --run RUN")
    extra: dict[str, Any] = {"seeds": seeds, "sizes": sizes, "target": target}
    if run is not None:
        extra["run"] = _run_folder(run, workspace)
        config = extra["run"] / "config.yaml"
    assert config is not None
    where = Where(engine, address, workers, gpus)
    _study("transfer", config, out, set_, workspace, where, json, **extra)


def _run_folder(run: str, workspace: Path | None) -> Path:
    from labelfusion.runs import ResultsManager
    from labelfusion.workspace import Workspace

    return ResultsManager(Workspace.at(workspace)).open(run).folder.path


def _study(
    kind: str,
    config: Path,
    out: Path | None,
    overrides: list[str] | None,
    workspace: Path | None,
    where: Where,
    json: bool,
    *,
    sizes: str = "",
    **options: Any,
) -> None:
    from labelfusion.studies import Options, parse_sizes, run_study
    from labelfusion.workspace import Workspace

    progress = Progress()
    try:
        with chosen_spread(where, workspace) as spread:
            result = run_study(
                kind,
                load_config(config, overrides),
                out=out,
                workspace=Workspace.at(workspace),
                options=Options(sizes=parse_sizes(sizes), **options),
                on_event=progress,
                spread=spread,
            )
    except KeyboardInterrupt:
        progress.close()
        typer.echo("Stopped. What is finished is kept; the same command goes on.", err=True)
        raise
    finally:
        progress.close()
    if json:
        print_json(result.to_dict())
    else:
        _print(result)


def _print(result: StudyResult) -> None:
    typer.echo(result.findings.title)
    print_table(result.findings.short())
    for line in result.findings.reading:
        typer.echo(f"- {line}")
    typer.echo(f"{result.computed} cells computed, {result.kept} kept from before")
    typer.echo(f"Study: {result.folder}")
