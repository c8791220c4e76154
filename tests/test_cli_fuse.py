"""`labelfusion fuse`: scores made elsewhere, fused as they are."""

import json

import numpy as np
import pandas as pd
import pytest

from labelfusion.errors import InputError
from labelfusion.fuse import fuse_tables
from labelfusion.score_kinds import detect_kind
from tests.command_line import labelfusion


def signals(n, seed, scale=1.0):
    """Gold of three labels and two sources' columns, the second right more often."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 3, n)
    table = {f"y_{label}": (gold == j).astype(int) for j, label in enumerate("abc")}
    for source, strength in {"ml": 1.0, "llm": 2.0}.items():
        z = rng.normal(size=(n, 3)) + strength * np.eye(3)[gold]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        scores = z * scale if source == "ml" else p
        table |= {f"{source}_{label}": scores[:, j] for j, label in enumerate("abc")}
    return pd.DataFrame(table)


def test_fuse_says_what_it_took_the_numbers_for(tmp_path):
    train, test = signals(200, 0), signals(300, 1)
    train.loc[:9, ["llm_a", "llm_b", "llm_c"]] = np.nan
    train.to_csv(tmp_path / "train.csv", index=False)
    test.to_parquet(tmp_path / "test.parquet")
    arguments = ["fuse", "--train", "train.csv", "--test", "test.parquet", "--sources", "ml,llm"]
    done = labelfusion(*arguments, "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    kinds = {name: part["kind"] for name, part in result["sources"].items()}
    assert kinds == {"ml": "logits", "llm": "probabilities"}
    assert "ml is taken as logits" in done.stderr
    assert (result["n_train"], result["n_test"]) == (200, 300)
    assert result["fusion"]["nll"] < min(part["nll"] for part in result["sources"].values())
    told = labelfusion(*arguments, "--kind", "llm=logits", "--json", cwd=tmp_path)
    assert json.loads(told.stdout)["sources"]["llm"]["kind"] == "logits"
    wrong = labelfusion(*arguments, "--kind", "ml=probabilities", cwd=tmp_path, check=2)
    assert "--kind ml=logits" in wrong.stderr


def test_fuse_names_the_columns_that_are_near(tmp_path):
    signals(50, 0).to_csv(tmp_path / "t.csv", index=False)
    arguments = ["fuse", "--train", "t.csv", "--test", "t.csv", "--sources", "ml,lm"]
    done = labelfusion(*arguments, cwd=tmp_path, check=2)
    assert "'lm_a'" in done.stderr
    assert "Did you mean" in done.stderr


@pytest.mark.parametrize(
    ("scores", "multi_label", "kind"),
    [
        ([[0.2, 0.8], [1.0, 0.0]], False, "probabilities"),
        ([[0.2, 0.7], [0.9, 0.9]], True, "probabilities"),
        ([[0.2, 0.7], [0.9, 0.9]], False, "probabilities"),
        ([[0, 1], [1, 0]], False, "hard"),
        ([[1, 1], [0, 0]], True, "hard"),
        ([[0.2, 0.8], [-0.1, 0.5]], False, "logits"),
        ([[0.2, 0.8], [1.5, 0.5]], True, "logits"),
        ([[np.nan, np.nan], [0.5, 0.5]], False, "probabilities"),
    ],
)
def test_the_kind_of_scores_is_detected(scores, multi_label, kind):
    assert detect_kind(np.array(scores, dtype=float), multi_label)[0] == kind


def test_fuse_refuses_a_row_that_is_half_empty(tmp_path):
    table = signals(50, 0)
    table.loc[3, "ml_b"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=r"row 5.*ml_b"):
        fuse_tables(tmp_path / "t.csv", tmp_path / "t.csv", ["ml"])
