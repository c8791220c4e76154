"""`run_study`: the cells of a study done here or elsewhere, kept at once, then put together.

Knows the order of the steps, the folder and its lock. Each kind of study is a file of its own
beside this one, with the cells it has, what one cell computes and what all of them say.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from labelfusion.config import RunConfig
from labelfusion.errors import ConfigError, InputError, RunError, did_you_mean
from labelfusion.files import write_json, write_text
from labelfusion.queueing import LET_GO_S, held
from labelfusion.spreading import Spread, one_by_one
from labelfusion.studies.ablation import Ablation
from labelfusion.studies.architecture import Architecture
from labelfusion.studies.calibration import CalibrationStudy
from labelfusion.studies.cells import Cell, CellLog, Row, as_frame
from labelfusion.studies.division import Division, divided
from labelfusion.studies.frontier import FrontierStudy
from labelfusion.studies.learning_curve import LearningCurve
from labelfusion.studies.options import Options, Place
from labelfusion.studies.prompt import PromptStudy
from labelfusion.studies.transfer import Transfer
from labelfusion.studies.writing import Findings, write_study
from labelfusion.types import Event, OnEvent, ignore_event
from labelfusion.workspace import Workspace

FORMAT = 1
MARK = "study.json"


class Study(Protocol):
    """One kind of study. Making it checks all of its input, and neither trains nor pays."""

    def tell_cost(self) -> None:
        """Say what the LLM scores will cost."""
        ...

    def cells(self) -> list[Cell]:
        """All cells, in the order in which they share most."""
        ...

    def fingerprint(self) -> str:
        """What all cells depend on; LLM scores are among it, so this asks for them."""
        ...

    def run(self, cell: Cell) -> Sequence[Row]:
        """What one cell measures."""
        ...

    def report(self, cells: pd.DataFrame) -> Findings:
        """What all cells say; `cells` has a row for each row of each cell."""
        ...

    def division(self) -> Division | None:
        """How its cells can be divided among processes; None if they must stay in this one."""
        ...


KINDS: dict[str, Callable[[RunConfig, Place, Options], Study]] = {
    "learning-curve": LearningCurve,
    "ablation": Ablation,
    "frontier": FrontierStudy,
    "calibration": CalibrationStudy,
    "prompt": PromptStudy,
    "architecture": Architecture,
    "transfer": Transfer,
}


@dataclass(frozen=True)
class StudyResult:
    """A finished study.

    Attributes:
        folder: where everything is: cells.jsonl, table.csv, summary.json, README.md, figures.
        cells: a row for each row of each cell.
        findings: the table, the reading and the plots.
        figures: paths of the drawn figures.
        computed, kept: cells done now, and cells that the folder already held.
    """

    kind: str
    folder: Path
    cells: pd.DataFrame
    findings: Findings
    figures: Sequence[Path]
    computed: int
    kept: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "kind": self.kind,
            "folder": self.folder,
            "reading": list(self.findings.reading),
            "table": self.findings.table.to_dict("records"),
            "figures": list(self.figures),
            "computed": self.computed,
            "kept": self.kept,
        }


def run_study(
    kind: str,
    config: RunConfig,
    *,
    out: str | Path | None = None,
    workspace: Workspace | None = None,
    options: Options | None = None,
    on_event: OnEvent = ignore_event,
    spread: Spread = one_by_one,
) -> StudyResult:
    """Do a study, or go on with one: cells that `out` already holds are not computed again.

    Args:
        kind: one of KINDS.
        config: data, sources and fusion; its seed is the first of the study's seeds.
        out: the study's folder, `<workspace>/studies/<kind>-<name>` if not given.
        options: seeds, sizes and what else the kind takes.
        on_event: told of the cost before it arises and of every cell.
        spread: has the cells worked on; they are the same whichever way, and are kept here.

    Raises:
        ConfigError: an unknown kind or an option that does not fit.
        LabelFusionError: input that cannot be used, before anything is trained or paid.
        RunError: another process works in the folder.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"There is no study {kind!r}", remedy=did_you_mean(kind, list(KINDS), what="Studies")
        )
    workspace, options = workspace or Workspace.at(), options or Options()
    folder = Path(out) if out else workspace.root / "studies" / f"{kind}-{_name(config)}"
    _check_folder(folder, kind)
    study = KINDS[kind](config, Place(folder, workspace, on_event), options)
    cells = study.cells()
    _begin(folder, kind, config)
    with held(folder / ".lock", LET_GO_S) as mine:
        if not mine:
            raise RunError("Another process works on this study", where=str(folder))
        study.tell_cost()
        log = CellLog(folder / "cells.jsonl")
        computed = _work(study, cells, log, on_event, spread)
        frame = as_frame(cells, log.rows(), study.fingerprint())
        findings = study.report(frame)
        command = _command(kind, folder, options)
        figures = write_study(folder, kind, command, findings, frame)
    return StudyResult(kind, folder, frame, findings, figures, computed, len(cells) - computed)


def _name(config: RunConfig) -> str:
    return config.name or Path(config.data.path or "data").stem


def _check_folder(folder: Path, kind: str) -> None:
    """Raise InputError for a folder that holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    if found.get("kind") != kind:
        raise InputError(
            "The folder holds something else",
            where=str(folder),
            expected=f"a new folder, or one of a {kind} study",
            remedy="Give another folder with --out",
        )


def _begin(folder: Path, kind: str, config: RunConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARK, {"format": FORMAT, "kind": kind})
    write_text(folder / "config.yaml", config.anchored(Path.cwd()).to_yaml())


def _work(
    study: Study, cells: Sequence[Cell], log: CellLog, on_event: OnEvent, spread: Spread
) -> int:
    """Do the cells that are missing; returns how many there were."""
    of, done = study.fingerprint(), log.rows()
    missing = [cell for cell in cells if cell.key(of) not in done]
    kept, total = len(cells) - len(missing), len(cells)
    note = f"{total} cells, {kept} of them done before"
    on_event(Event("evaluate", "start", note, kept, total, "cells"))
    with closing(divided(study.division(), study.run, missing, on_event, spread)) as finished:
        for i, (position, (rows, seconds)) in enumerate(finished, start=1):
            cell = missing[position]
            log.append(cell.key(of), cell, rows, seconds)
            on_event(Event("evaluate", "progress", str(cell), kept + i, total, "cells"))
    on_event(Event("evaluate", "done", "Every cell is kept", total, total, "cells"))
    return len(missing)


def _command(kind: str, folder: Path, options: Options) -> str:
    trained = [] if options.run else ["--config", str(folder / "config.yaml")]
    parts = ["labelfusion", "study", kind, *trained, *options.arguments()]
    return shlex.join([*parts, "--out", str(folder)])
