"""Files that are either the old version or the new one, never a half-written one.

Knows bytes, JSON and Parquet. Does not know what a run or a workspace is.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfusion.errors import InputError

TEMPORARY = ".tmp-"  # how the names of files and folders begin that are not complete yet


def check_writable(path: Path, *, force: bool) -> None:
    """Raise InputError unless a file may be written to `path`; `force` replaces one."""
    if path.exists() and not force:
        raise InputError(
            "The output file exists", where=str(path), remedy="Give --force to replace it"
        )
    if not path.parent.is_dir():
        raise InputError("The output's folder does not exist", where=str(path.parent))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it over `path`.

    Raises whatever `write` raises, with `path` untouched and the temporary file removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """fsync a file or folder, so that a rename never outlives a power cut before its content."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON atomically; see `to_json`."""
    write_text(path, to_json(value, indent=1) + "\n")


def to_json(value: object, indent: int | None = None) -> str:
    """JSON text of nested values that may hold numpy; NaN and infinities become null."""
    return json.dumps(json_ready(value), indent=indent, ensure_ascii=False, allow_nan=False)


def json_ready(value: Any) -> Any:
    """`value` with numpy turned into plain Python, and numbers JSON cannot say into None."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [json_ready(item) for item in value]
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def append_line(path: Path, line: str) -> None:
    """Append a line of UTF-8; one that a killed process left unfinished is closed first."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            torn = file.read(1) != b"\n"
            file.write(b"\n" if torn else b"")
        file.write(line.encode() + b"\n")


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table atomically, without its index and with every digit."""
    write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def spreadsheet_safe(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with a quote before every text, names too, that a spreadsheet would run as a formula.

    Numbers stay as they are. Source: OWASP, CSV Injection.
    """
    safe = table.copy()
    safe.columns = [_escaped(str(name)) for name in table.columns]
    for position, name in enumerate(table.columns):
        if not pd.api.types.is_numeric_dtype(table[name]):
            safe.isetitem(position, table[name].map(_escaped))
    return safe


def _escaped(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def sha256(path: Path) -> str:
    """Hex digest of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
