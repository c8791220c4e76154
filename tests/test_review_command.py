"""`labelfusion review` as a user runs it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from labelfusion.review.report import review_run, write_review
from labelfusion.workspace import Workspace
from tests.command_line import labelfusion
from tests.review_run import tickets_run

TABLES = ("label_issues.csv", "mistakes.csv", "slices.csv", "summary.txt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("review")
    return root, tickets_run(Workspace.at(root / "ws"), root / "files")[0]


def test_the_tables_and_a_summary_are_written(trained):
    root, run = trained
    done = labelfusion("review", "last", "--out", "found", "--workspace", "ws", cwd=root)
    out = root / "found"
    assert sorted(path.name for path in out.iterdir()) == sorted(TABLES)
    wrong = pd.read_csv(out / "mistakes.csv")
    assert f"wrong on {len(wrong)} of 160 texts" in done.stdout
    issues = pd.read_csv(out / "label_issues.csv")
    assert issues["margin"].is_monotonic_increasing
    assert {"id", "gold", "suggested", "ml", "llm", "text"} <= set(issues.columns)
    assert done.stdout.startswith((out / "summary.txt").read_text()[:40])

    again = labelfusion("review", run.id, "--out", "found", "--workspace", "ws", cwd=root, check=2)
    assert "Give --force" in again.stderr
    options = ("--workspace", "ws", "--force", "--excel-safe", "--json")
    forced = labelfusion("review", run.id, "--out", "found", *options, cwd=root)
    values = json.loads(forced.stdout)
    assert values["counts"]["mistakes"] == len(wrong)
    assert values["run"] == run.id
    assert set(values["files"]) == {"mistakes", "slices", "label_issues", "summary"}


def test_without_its_data_a_run_is_reviewed_without_texts(trained):
    root, run = trained
    data = root / "moved.csv"
    shutil.move(run.config.data.path, data)
    try:
        done = labelfusion("review", "last", "--out", "bare", "--workspace", "ws", cwd=root)
    finally:
        shutil.move(data, run.config.data.path)
    assert "has been moved or changed" in done.stdout
    assert "text" not in pd.read_csv(root / "bare" / "label_issues.csv").columns


def test_tables_for_a_spreadsheet_hold_no_formula(trained, tmp_path):
    found = review_run(trained[1])
    found = replace(found, mistakes=found.mistakes.assign(text="=1+1", confidence=-0.5))
    for name, expected in (("plain", "=1+1"), ("safe", "'=1+1")):
        write_review(found, tmp_path / name, force=False, excel_safe=name == "safe")
        table = pd.read_csv(tmp_path / name / "mistakes.csv")
        assert set(table["text"]) == {expected}
        assert set(table["confidence"]) == {-0.5}


@pytest.mark.parametrize(
    ("arguments", "complaint", "code"),
    [
        (("gone", "--out", "x"), "There is no run", 1),
        (("last", "--out", "files/desk/tickets.csv/x"), "The folder cannot be made", 2),
        (("last",), "Missing option", 2),
    ],
)
def test_bad_input_is_a_sentence(trained, arguments, complaint, code):
    root, _ = trained
    (root / "files" / "desk").mkdir(exist_ok=True)
    (root / "files" / "desk" / "tickets.csv").write_text("x")
    done = labelfusion("review", *arguments, "--workspace", "ws", cwd=root, check=code)
    assert complaint in done.stderr
