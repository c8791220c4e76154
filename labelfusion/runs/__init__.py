"""Runs: folders that a person can read, and the objects that read and write them."""

from labelfusion.runs.compare import Comparison
from labelfusion.runs.create import check_unchanged, create_run
from labelfusion.runs.folder import RUN_FORMAT, RunFolder, SignalStore
from labelfusion.runs.manager import ResultsManager
from labelfusion.runs.run import Run
from labelfusion.runs.save import save_finished
from labelfusion.runs.status import Status, read_status

__all__ = [
    "RUN_FORMAT",
    "Comparison",
    "ResultsManager",
    "Run",
    "RunFolder",
    "SignalStore",
    "Status",
    "check_unchanged",
    "create_run",
    "read_status",
    "save_finished",
]
