"""What tests of LLM commands share: the command as a user runs it, and a config that asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.run_data import SAMPLE

ROOT = Path(__file__).parent.parent
SECRET = "sk-of-this-test-0123456789"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TEST_SERVER_KEY": SECRET}
PRICES = {"m": {"input_per_million": 1.0, "output_per_million": 4.0}}


def labelfusion(*arguments, cwd, check=0, env=None, **options):
    """Run the command; the exit code must be `check`, and no key may be in what it says."""
    command = [sys.executable, "-m", "labelfusion", *map(str, arguments)]
    environment = os.environ | ENVIRONMENT | (env or {})
    environment.pop("LABELFUSION_WORKSPACE", None)
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == check, done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done


def asking_config(folder: Path, address: str, n: int = 60, **llm) -> dict:
    """config.yaml in `folder` over the sample's first `n` tickets, asking the server there."""
    lines = (SAMPLE / "tickets.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "tickets.csv").write_text("".join(lines[: n + 1]), encoding="utf-8")
    entry = {"provider": "compatible", "base_url": f"{address}/v1", "model": "m"}
    entry |= {"concurrency": 4, "timeout_s": 5, "max_attempts": 2}
    values = {
        "name": "asking",
        "data": {"path": "tickets.csv", "id_column": "id", "label_column": "label"},
        "ml": {"encoder": "tfidf", "folds": 2},
        "llm": [entry | llm],
        "fusion": {"cv_folds": 2, "cv_repeats": 1},
        "evaluation": {"bootstrap_draws": 100},
    }
    write_config(folder, values)
    return values


def write_config(folder: Path, values: dict) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
