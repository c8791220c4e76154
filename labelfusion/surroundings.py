"""What this computer offers: keys, encoders, graphics card, disk and cache.

Looks without importing torch and without touching the network. Never shows a key.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from labelfusion.errors import ModelError
from labelfusion.workspace import Workspace

LITTLE_DISK_BYTES = 2e9


@dataclass(frozen=True)
class Check:
    """One thing looked at: its name, what was found, whether that is fine, and what to do else."""

    name: str
    found: str
    ok: bool
    remedy: str = ""


def look_around(workspace: Workspace) -> list[Check]:
    """Everything worth knowing before a run."""
    return [_keys(), _encoder(), _graphics_card(), _disk(workspace.root), _cache(workspace.cache)]


def _keys() -> Check:
    from labelfusion.llm.providers import keys_found

    found = [name for name, there in keys_found().items() if there]
    if found:
        return Check("API keys", f"found for {', '.join(found)}", True)
    remedy = "Scores made elsewhere work without a key. To ask an LLM, set e.g. OPENAI_API_KEY."
    return Check("API keys", "none found", True, remedy)


def _encoder() -> Check:
    from labelfusion.encoders.pretrained import DEFAULT_MODEL, default_folder

    try:
        default_folder()
    except ModelError as error:
        return Check("Default encoder", "not installed", False, error.remedy or "")
    return Check("Default encoder", f"{DEFAULT_MODEL} is on disk", True)


def _graphics_card() -> Check:
    if shutil.which("nvidia-smi"):
        return Check("Graphics card", "NVIDIA driver found", True)
    return Check("Graphics card", "none seen; training uses the processor", True)


def _disk(root: Path) -> Check:
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    remedy = "" if free > LITTLE_DISK_BYTES else "Free some space or move the workspace."
    return Check("Free disk", size(free), free > LITTLE_DISK_BYTES, remedy)


def _cache(folder: Path) -> Check:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Check("Cache", size(total) if total else "empty", True)


def size(count: float) -> str:
    """Bytes for people, in decimal units: "1.5 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
