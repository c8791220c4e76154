"""`labelfusion app`: serve the app on this computer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from labelfusion.cli.train import WorkspaceOption

ADDRESS = "127.0.0.1"


def app(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the app, to this computer only."""
    from labelfusion.workspace import WORKSPACE_VARIABLE, Workspace

    script = find_script([Path(__file__).resolve().parents[2], Path.cwd()])
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    command += ["--server.address", ADDRESS, "--server.port", str(port)]
    environment = os.environ | {WORKSPACE_VARIABLE: str(Workspace.at(workspace).root)}
    # Streamlit reads its settings beside the app; --workspace is already absolute.
    os.chdir(script.parent)
    os.execve(sys.executable, command, environment)


def find_script(places: list[Path]) -> Path:
    """app.py in the first of the folders that holds the app. Raises InputError if none does."""
    from labelfusion.errors import InputError

    for place in places:
        if (place / "app.py").is_file() and (place / "pages").is_dir():
            return place / "app.py"
    raise InputError(
        "The app's files are not here",
        expected="app.py beside a folder pages/",
        found=f"neither in {' nor in '.join(map(str, dict.fromkeys(places)))}",
        remedy="Run `labelfusion app` in the project's folder",
    )
