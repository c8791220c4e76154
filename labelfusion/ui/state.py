"""What the pages share: the workspace, the query string, and stored runs read once.

The query string is the truth about what is shown, so that every link opens cold; the session only
remembers it between pages.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from labelfusion.datasets import DatasetStore, StoredDataset
from labelfusion.runs import ResultsManager, Run, find_workspace

if TYPE_CHECKING:
    import pandas as pd

    from labelfusion.config import DataConfig
    from labelfusion.types import Dataset

REMEMBERED = ("dataset", "run")


def workspace() -> Path:
    """The folder with runs, data sets and cache, as the command line finds it."""
    return find_workspace()


def store() -> DatasetStore:
    return DatasetStore(workspace())


def manager() -> ResultsManager:
    return ResultsManager(workspace())


def param(name: str) -> str | None:
    """A query parameter; `dataset` and `run` are remembered from page to page."""
    value = st.query_params.get(name)
    if name in REMEMBERED:
        if value:
            st.session_state[f"current_{name}"] = value
        else:
            value = st.session_state.get(f"current_{name}")
    return value or None


def set_param(name: str, value: str | None) -> None:
    """Put `value` in the address, or take it out, and remember it."""
    if value is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value
    if name in REMEMBERED:
        st.session_state[f"current_{name}"] = value


def choose(label: str, options: list[str], name: str, names: dict[str, str]) -> str:
    """A select box bound to the query parameter `name`; the first option where it says nothing.

    `names` says how options read. A value that is no option is an error for the caller's store to
    raise, so it is returned as it is.
    """
    wanted = param(name)
    if wanted and wanted not in options:
        return wanted
    index = options.index(wanted) if wanted else 0
    key = f"choose_{name}"
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    chosen = st.selectbox(label, options, index, format_func=lambda o: names.get(o, o), key=key)
    set_param(name, chosen)
    return chosen
