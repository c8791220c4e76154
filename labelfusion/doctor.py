"""What a report of a problem needs to say about the computer, and what a run will find there.

Looks at versions, weights, keys (whether they are set, never what they are), GPU, disk and cache.
"""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labelfusion import __version__
from labelfusion.encoders.embedding_cache import MemoryCache
from labelfusion.encoders.pretrained import DEFAULT_ENCODER, WEIGHTS, file_sha256, find_pretrained
from labelfusion.errors import ModelError
from labelfusion.llm.providers import keys_found
from labelfusion.workspace import Workspace

PACKAGES = (
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "scikit-learn",
    "torch",
    "transformers",
    "streamlit",
    "typer",
    "openai",
    "anthropic",
    "google-genai",
    "google-generativeai",
    "peft",
    "accelerate",
    "redis",
    "ray",
)


def examine(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Sections of name -> value, JSON-ready; None is "not there"."""
    return {
        "labelfusion": {"version": __version__},
        "python": {"version": platform.python_version(), "platform": platform.platform()},
        "packages": {name: _version(name) for name in PACKAGES},
        "encoder": _encoder(),
        "keys": keys_found(),
        "hardware": {"cpus": os.cpu_count(), "gpu": _gpu()},
        "workspace": _workspace(workspace),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _encoder() -> dict[str, Any]:
    memo = MemoryCache()
    try:
        found = find_pretrained(DEFAULT_ENCODER, memo)
    except ModelError as error:
        return {"name": DEFAULT_ENCODER, "ok": False, "problem": str(error)}
    sha256 = file_sha256(found.folder / WEIGHTS, memo)
    return {"name": found.name, "ok": True, "folder": str(found.folder), "sha256": sha256}


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _workspace(workspace: Workspace) -> dict[str, Any]:
    there = next(folder for folder in (workspace.root, *workspace.root.parents) if folder.is_dir())
    runs = [path for path in workspace.runs.glob("[!.]*") if path.is_dir()]
    return {
        "folder": str(workspace.root),
        "exists": workspace.root.is_dir(),
        "writable": os.access(there, os.W_OK),
        "runs": len(runs),
        "cache_bytes": _size(workspace.cache),
        "free_bytes": shutil.disk_usage(there).free,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
