"""Files labelled in the background: a folder a file, and the work in it.

```
predictions/<id>/
  status.json, events.jsonl, log.txt   as in a run folder
  request.json                         {format, run, file, routing, contributions, budget_usd}
  input.<ext>                          the file as it was given
  result.csv                           its columns, then what the model says
  summary.json                         {rows, present{source: n}, drift}
```
What has been paid for is in the answer cache, so a prediction that goes on pays for no text twice.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labelfusion.errors import InputError, RunError
from labelfusion.files import TEMPORARY, write_json
from labelfusion.fusion.routing import Override
from labelfusion.runs import ResultsManager, RunFolder, Status, read_status
from labelfusion.runs.create import new_id, publish
from labelfusion.runs.status import now
from labelfusion.types import Event, OnEvent, ignore_event
from labelfusion.worker import at_work
from labelfusion.workspace import Workspace

FORMAT = 1
INPUTS = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx")


@dataclass(frozen=True)
class Request:
    """What is to be labelled and how. `budget_usd` is for this file; None leaves the month's."""

    run: str
    file: str
    routing: Override = "saved"
    contributions: bool = False
    budget_usd: float | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class PredictionFolder(RunFolder):
    """Paths of one prediction's files. A path may not exist yet."""

    @property
    def request(self) -> Path:
        return self.path / "request.json"

    @property
    def result(self) -> Path:
        return self.path / "result.csv"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def read_request(self) -> Request:
        """Raises RunError if it is damaged or of a newer format."""
        values = self._json(self.request)
        try:
            if values["format"] <= FORMAT:
                return Request(**values)
        except (KeyError, TypeError) as error:
            raise self._damaged(str(error)) from None
        raise self._damaged(f"format {values['format']}")

    def read_summary(self) -> dict[str, Any]:
        """Raises RunError if it is absent or damaged."""
        return self._json(self.summary)

    @property
    def input(self) -> Path:
        return self.path / f"input{Path(self.read_request().file).suffix.lower()}"

    def holds(self, request: Request, content: bytes) -> bool:
        """Whether it is this file, asked for in this way. Raises RunError as `read_request`."""
        if self.read_request() != request or self.input.stat().st_size != len(content):
            return False
        return self.input.read_bytes() == content

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, found: str) -> RunError:
        return RunError(
            "The prediction cannot be read", where=str(self.path), found=found,
            remedy="Label the file again",
        )  # fmt: skip


def create_prediction(workspace: Workspace, request: Request, content: bytes) -> PredictionFolder:
    """Make the folder of a new prediction, in state queued; it appears complete.

    Raises InputError for a kind of file that cannot be read.
    """
    suffix = Path(request.file).suffix.lower()
    if suffix not in INPUTS:
        raise InputError(
            "The kind of the file is unknown", where=request.file,
            expected=f"a name that ends with {', '.join(INPUTS)}",
        )  # fmt: skip
    workspace.predictions.mkdir(parents=True, exist_ok=True)
    prepared = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=workspace.predictions))
    try:
        prepared.chmod(0o755)
        (prepared / f"input{suffix}").write_bytes(content)
        write_json(prepared / "request.json", asdict(request))
        name = Path(request.file).stem
        status = Status(id="", name=name, state="queued", created=now(), heartbeat=now())
        made = publish(prepared, workspace.predictions, new_id(name), status, _command)
        return PredictionFolder(made.path)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def _command(folder: RunFolder) -> str:
    return f"labelfusion label-file {folder.path}"


def list_predictions(workspace: Workspace) -> list[Status]:
    """Status of the predictions that can be read, newest first."""
    found = []
    for path in workspace.predictions.glob("[!.]*"):
        try:
            found.append(read_status(PredictionFolder(path)))
        except RunError:
            continue
    return sorted(found, key=lambda status: status.order, reverse=True)


def label_in_folder(
    folder: PredictionFolder, workspace: Workspace, *, on_event: OnEvent = ignore_event
) -> None:
    """Do, or go on with, a prediction. Raises as `labelfusion.worker.work` does."""
    with at_work(folder, workspace, on_event) as (_, watch):
        _label(folder, workspace, watch)


def _label(folder: PredictionFolder, workspace: Workspace, on_event: OnEvent) -> None:
    from labelfusion.predict_file import Wishes
    from labelfusion.scale import Manner, predict

    request = folder.read_request()
    on_event(Event("check", "start", "Loading the model"))
    run = ResultsManager(workspace).open(request.run)
    costs = run.config.costs.model_copy(deep=True)
    costs.budget.run_usd = request.budget_usd
    labelled = predict(
        run,
        folder.input,
        folder.result,
        Wishes(request.routing, contributions=request.contributions),
        # A result without a summary is one whose job was stopped in between.
        Manner(workspace=workspace, on_event=on_event, force=True),
        ledger=folder.id,
        costs=costs,
    )
    found = labelled.to_dict()
    write_json(folder.summary, {name: found[name] for name in ("rows", "present", "drift")})
    on_event(Event("save", "done", f"{found['rows']} rows are labelled"))
