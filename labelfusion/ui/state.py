"""What the pages share: the workspace, the query string, and stored things read once.

The query string is the truth about what is shown, so that every link opens cold; the session only
remembers it from page to page.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from labelfusion.config import DataConfig, LLMConfig, RunConfig
from labelfusion.datasets import DatasetStore
from labelfusion.files import sha256
from labelfusion.runs import ResultsManager, Run, RunFolder
from labelfusion.ui import costs
from labelfusion.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from labelfusion.classifier import FusedClassifier
    from labelfusion.costing import RunEstimate
    from labelfusion.costs import CostLine, GroupBy, Ledger
    from labelfusion.data import Finding, Table
    from labelfusion.llm.providers.base import Prompt
    from labelfusion.review import Candidates, Neighbours, ReviewRows
    from labelfusion.types import Dataset, Split
    from labelfusion.ui.decisions import Rows

REMEMBERED = ("dataset", "run", "who")
ESTIMATE_SECONDS = 30.0
SLOW_IMPORTS = ("pandas", "pyarrow.parquet", "altair", "plotly.graph_objects")


def workspace() -> Workspace:
    """The folder with runs, data sets and cache, as the command line finds it."""
    return Workspace.at()


def store() -> DatasetStore:
    return DatasetStore(workspace())


def manager() -> ResultsManager:
    return ResultsManager(workspace())


def param(name: str) -> str | None:
    """A query parameter; `dataset` and `run` are remembered from page to page."""
    value = st.query_params.get(name)
    if value and name in REMEMBERED:
        st.session_state[f"current_{name}"] = value
    return value or st.session_state.get(f"current_{name}")


def newest_run() -> str | None:
    """The id of the run made last, whatever its state."""
    return next(iter(manager().ids()), None)


def current_run() -> str | None:
    """The run in the address, else the one looked at last if it is there, else the newest."""
    return _current("run", manager().workspace.runs) or newest_run()


def current_dataset() -> str | None:
    """The data set in the address, else the one looked at last if it is there, else the newest."""
    return _current("dataset", store().folder) or next((d.name for d in store().list()), None)


def _current(name: str, folder: Path) -> str | None:
    wanted = param(name)
    there = wanted and (name in st.query_params or (folder / wanted).is_dir())
    return wanted if there else None


def set_param(name: str, value: str | None) -> None:
    """Put `value` in the address, or take it out, and remember that."""
    if value is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value
    st.session_state[f"current_{name}"] = value


def choose(label: str, name: str, options: Mapping[str, str]) -> str:
    """A select box that is the query parameter `name`; `options` says how each value reads.

    Returns the address' own value even if it is no option, for the caller to say so; a remembered
    value that is gone gives way to the first option.
    """
    wanted, first = param(name) or "", next(iter(options))
    in_address = name in st.query_params
    chosen = wanted if wanted in options or in_address else first
    key = f"choose_{name}"
    st.session_state[key] = chosen if chosen in options else None
    st.selectbox(
        label,
        list(options),
        key=key,
        format_func=lambda value: options.get(value, str(value)),
        on_change=lambda: set_param(name, st.session_state[key]),
        placeholder="Choose one that exists",
    )
    set_param(name, chosen)
    return chosen


def open_run(run_id: str) -> Run:
    """A stored run, whose parts are read from disk once until they change. Raises RunError."""
    folder = manager().open(run_id).folder
    stamp = folder.metrics.stat().st_mtime if folder.metrics.is_file() else 0.0
    return _run(str(folder.path), stamp)


@st.cache_resource(max_entries=8, show_spinner=False)
def _run(path: str, stamp: float) -> Run:  # noqa: ARG001 - the stamp is part of the cache's key
    return Run(RunFolder(Path(path)))


def rows_of(run: Run, split: str) -> Rows:
    """The predicted rows of a split as arrays, made once. Raises RunError."""
    path = str(run.folder.predictions)
    return _rows_of(path, split, _stamp(path), run)


@st.cache_resource(max_entries=8, show_spinner="Reading the predictions")
def _rows_of(path: str, split: str, stamp: float, _run: Run) -> Rows:  # noqa: ARG001 - the cache's key
    from labelfusion.ui import decisions

    return decisions.rows_of(_run.predictions, _run.metrics, split)


def classifier(run: Run) -> FusedClassifier:
    """The run's model, loaded once for all sessions. Imports torch. Raises LabelFusionError."""
    stamp = run.folder.model.stat().st_mtime if run.folder.model.is_dir() else 0.0
    return _classifier(str(run.folder.path), stamp, str(workspace().cache))


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def _classifier(path: str, stamp: float, cache: str) -> FusedClassifier:  # noqa: ARG001 - the cache's key
    return Run(RunFolder(Path(path))).model(Path(cache))


def open_table(config: DataConfig) -> Table:
    """The table a data config names, read once until the file changes. Raises InputError."""
    return _table(
        config.path or "", config.encoding, config.delimiter, config.sheet, _stamp(config.path)
    )


def open_dataset(config: DataConfig) -> Dataset:
    """The data set a config describes, read once until file or config change. Raises InputError."""
    return _dataset(config.model_dump_json(), _stamp(config.path))


def _stamp(name: str | None) -> float:
    path = Path(name or "")
    return path.stat().st_mtime if path.is_file() else 0.0


@st.cache_resource(max_entries=4, show_spinner="Reading the file")
def _table(
    path: str,
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
    stamp: float,  # noqa: ARG001 - part of the cache's key
) -> Table:
    from labelfusion.data import read_table

    return read_table(path, encoding=encoding, delimiter=delimiter, sheet=sheet)


@st.cache_resource(max_entries=4, show_spinner="Reading the data")
def _dataset(config: str, stamp: float) -> Dataset:  # noqa: ARG001 - part of the cache's key
    from labelfusion.data import dataset_from_table

    read = DataConfig.model_validate_json(config)
    return dataset_from_table(open_table(read), read)


def read_secrets() -> None:
    """Let Streamlit put the keys of secrets.toml into the environment, where jobs find them."""
    st.secrets.load_if_toml_exists()


@contextmanager
def _ledger() -> Iterator[Ledger | None]:
    """The workspace's ledger, or None while nothing was ever asked."""
    from labelfusion.costs import LEDGER_NAME, open_ledger

    root = workspace().root
    if not (root / LEDGER_NAME).is_file():
        yield None
        return
    with closing(open_ledger(root)) as ledger:
        yield ledger


def _spend(**period: str) -> Decimal:
    with _ledger() as ledger:
        return ledger.spend(**period).total if ledger else Decimal(0)


def cost_lines(by: GroupBy, run: str | None = None) -> list[CostLine]:
    """The ledger's sums by group, of one run or of all; [] while nothing was ever asked.

    Read anew only once the ledger has changed. Raises LabelFusionError for a damaged one.
    """
    from labelfusion.costs import LEDGER_NAME

    path = str(workspace().root / LEDGER_NAME)
    # What is written last is in the write-ahead log until SQLite moves it.
    return _cost_lines(by, run, path, (_stamp(path), _stamp(f"{path}-wal")))


@st.cache_resource(max_entries=32, show_spinner="Reading the ledger")
def _cost_lines(
    by: GroupBy,
    run: str | None,
    path: str,  # noqa: ARG001 - part of the cache's key
    stamps: tuple[float, float],  # noqa: ARG001 - part of the cache's key
) -> list[CostLine]:
    from labelfusion.costs import summarise

    with _ledger() as ledger:
        return summarise(ledger, by, run=run) if ledger else []


def spend_this_month() -> str:
    """What all runs of the workspace have spent on LLMs since the month began, as text."""
    return costs.money(_spend(month=f"{datetime.now(UTC):%Y-%m}"))


def spend_today() -> str:
    """What they have spent today (UTC), as text."""
    return costs.money(_spend(day=f"{datetime.now(UTC):%Y-%m-%d}"))


@st.cache_resource(show_spinner=False)
def warm_imports() -> threading.Thread:
    """Import what charts and tables need while the first page is being read; once a server."""
    thread = threading.Thread(target=lambda: [import_module(n) for n in SLOW_IMPORTS], daemon=True)
    thread.start()
    return thread


def findings(config: DataConfig) -> list[Finding]:
    """What there is to mend in the data, looked for once until file or config change."""
    return _findings(config.model_dump_json(), _stamp(config.path))


def split(config: DataConfig, seed: int) -> Split:
    """Training and test rows, drawn once until file or settings change. Raises InputError."""
    return _split(config.model_dump_json(), seed, _stamp(config.path))


def check(config: RunConfig) -> None:
    """The pipeline's own check of all input, done once until a file or setting changes.

    Raises LabelFusionError, every time.
    """
    paths = [config.data.path, *(entry.path for entry in config.llm)]
    _check(config.model_dump_json(exclude={"name"}), tuple(map(_stamp, paths)))


def estimate(config: RunConfig) -> RunEstimate:
    """What the LLM scores of a run will cost, worked out once until a setting or spend changes.

    Raises LabelFusionError, every time.
    """
    described = config.model_dump_json(include={"seed", "data", "llm", "costs", "cache"})
    return _estimate(described, str(workspace().root), _stamp(config.data.path), spend_this_month())


def prompt(config: RunConfig, entry: LLMConfig, row: int) -> Prompt:
    """The prompt for a row of the data file, written once. Raises LabelFusionError, every time."""
    described = config.model_dump_json(include={"seed", "data", "llm"})
    return _prompt(described, entry.name, row, _stamp(config.data.path))


@st.cache_resource(max_entries=8, show_spinner="Looking for problems")
def _findings(config: str, stamp: float) -> list[Finding]:  # noqa: ARG001 - part of the cache's key
    from labelfusion.data import find_problems

    return find_problems(open_dataset(DataConfig.model_validate_json(config)))


@st.cache_resource(max_entries=8, show_spinner="Drawing the test texts")
def _split(config: str, seed: int, stamp: float) -> Split:  # noqa: ARG001 - part of the cache's key
    from labelfusion.data import make_split

    read = DataConfig.model_validate_json(config)
    return make_split(open_dataset(read), read, seed)


@st.cache_resource(max_entries=16, show_spinner="Checking data, encoder and scores")
def _check(config: str, stamps: tuple[float, ...]) -> None:  # noqa: ARG001 - part of the cache's key
    from labelfusion import pipeline

    pipeline.check(RunConfig.model_validate_json(config))


# What is cached may change without money (an import, a server of one's own), so not for long.
@st.cache_resource(max_entries=8, ttl=ESTIMATE_SECONDS, show_spinner="Estimating the cost")
def _estimate(config: str, root: str, stamp: float, spent: str) -> RunEstimate:  # noqa: ARG001 - the cache's key
    from labelfusion.costing import estimate_run

    read = RunConfig.model_validate_json(config)
    return estimate_run(read, Workspace.at(root), dataset=open_dataset(read.data))


@st.cache_resource(max_entries=16, show_spinner="Writing the prompt")
def _prompt(config: str, name: str, row: int, stamp: float) -> Prompt:  # noqa: ARG001 - the cache's key
    from labelfusion.trial import find_entry, show_prompt

    read = RunConfig.model_validate_json(config)
    return show_prompt(read, find_entry(read, name), row)


def data_is_there(run: Run) -> bool:
    """Whether the run's data file is still the one it was made from."""
    path = Path(run.config.data.path or "")
    return path.is_file() and _digest(str(path), path.stat().st_mtime) == run.status.data["sha256"]


def review(run: Run) -> ReviewRows:
    """A run's rows to be reviewed, with texts while its data is there. Raises RunError."""
    return _review(str(run.folder.path), _stamps(run))


def slices(run: Run) -> tuple[Candidates, pd.DataFrame]:
    """The groups of a run's rows, and those of them that are worse than the rest."""
    return _slices(str(run.folder.path), _stamps(run))


def issues(run: Run) -> pd.DataFrame:
    """A run's suspected label errors."""
    return _issues(str(run.folder.path), _stamps(run))


def neighbours(run: Run) -> Neighbours:
    """Which training texts are near a run's texts. Raises InputError without texts."""
    return _neighbours(str(run.folder.path), _stamps(run))


def _stamps(run: Run) -> tuple[float, ...]:
    """Changes when the run or its data does."""
    times = [run.folder.metrics.stat().st_mtime, _stamp(run.config.data.path)]
    return (*times, float(data_is_there(run)))


@st.cache_resource(max_entries=2, show_spinner="Reading what was predicted")
def _review(path: str, stamps: tuple[float, ...]) -> ReviewRows:  # noqa: ARG001 - stamps are part of the cache's key
    from labelfusion.review import review_rows

    run = open_run(path)
    there = data_is_there(run)
    return review_rows(run, open_dataset(run.config.data) if there else None)


@st.cache_resource(max_entries=2, show_spinner="Looking for slices")
def _slices(path: str, stamps: tuple[float, ...]) -> tuple[Candidates, pd.DataFrame]:
    from labelfusion.review import find_slices, slice_candidates

    rows = _review(path, stamps)
    candidates = slice_candidates(rows)
    return candidates, find_slices(rows, candidates)


@st.cache_resource(max_entries=2, show_spinner="Looking for label errors")
def _issues(path: str, stamps: tuple[float, ...]) -> pd.DataFrame:
    from labelfusion.review import label_issues

    return label_issues(_review(path, stamps))


@st.cache_resource(max_entries=1, show_spinner="Looking for similar texts")
def _neighbours(path: str, stamps: tuple[float, ...]) -> Neighbours:
    from labelfusion.review import neighbours as near

    return near(open_run(path), _review(path, stamps), workspace().cache)


@st.cache_data(max_entries=32, show_spinner=False)
def _digest(path: str, stamp: float) -> str:  # noqa: ARG001 - the stamp is part of the cache's key
    return sha256(Path(path))
