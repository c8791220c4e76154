"""The examples in the README, run as they are written, in a folder with the sample data."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from labelfusion.config import RunConfig
from labelfusion.workspace import WORKSPACE_VARIABLE

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != WORKSPACE_VARIABLE}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_examples(number: int, folder: Path) -> None:
    printed = run([sys.executable, "-c", blocks("python")[number]], folder)
    assert "pool" in printed


@pytest.mark.slow
def test_shell_examples(folder: Path) -> None:
    (script,) = blocks("bash")
    for line in script.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "labelfusion"
        run([sys.executable, "-m", "labelfusion", *arguments], folder)
    assert (folder / "labelled.csv").read_text(encoding="utf-8").count("\n") > 460


@pytest.mark.parametrize("number", range(len(blocks("yaml"))))
def test_yaml_examples(number: int, folder: Path) -> None:
    path = folder / "run.yaml"
    path.write_text(blocks("yaml")[number], encoding="utf-8")
    config = RunConfig.load(path)
    assert Path(config.data.path or "").is_file()


def test_pictures_and_links_exist() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
