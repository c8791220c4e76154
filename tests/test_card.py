"""The model card says what the report says, and survives whatever is missing."""

from __future__ import annotations

import pytest

from labelfusion.config import RunConfig
from labelfusion.evaluation import build_report, model_card
from labelfusion.evaluation.words import NO_METRICS
from labelfusion.types import LabelSpace
from tests.evaluation_data import make_space, make_system, make_targets

CONFIG = RunConfig.from_dict(
    {
        "name": "tickets",
        "data": {"labels": {"label1": "shipping and tracking"}},
        "llm": [
            {"provider": "recorded", "path": "/data/secret folder/scores.csv"},
            {"provider": "deepseek", "name": "seek", "model": "deepseek-chat"},
        ],
        "evaluation": {"bootstrap_draws": 200},
    }
)
CHOICE = {
    "chosen": "matrix_pool",
    "method": "auto",
    "reason": "It gains more than one standard error over llm.",
    "standard_errors": 1.0,
    "candidates": [
        {"name": "llm", "kind": "single", "log_loss": 0.3, "standard_error": 0.02,
         "gain": 0.0, "gain_se": None, "accuracy": 0.921},
        {"name": "matrix_pool", "kind": "pool", "log_loss": 0.1, "standard_error": 0.01,
         "gain": 0.2, "gain_se": 0.03, "accuracy": 0.983},
    ],
}  # fmt: skip
QUALITY = {"nll": 0.5, "brier": 0.2, "ece_classwise": 0.04, "ece_mass": 0.05, "ece_smooth": 0.06}
CALIBRATION = {
    "llm": {
        "chosen": "temperature",
        "candidates": [{"name": "identity", "nll": 0.5}],
        "before": QUALITY,
        "after": QUALITY | {"nll": 0.25},
    }
}


def _report(n=60, space=None, multi_label=False):
    space = space or make_space(3, multi_label)
    y = make_targets(n, len(space), multi_label)
    systems = {
        name: make_system(y, multi_label, seed)
        for seed, name in enumerate(("ml", "llm", "seek", "fusion"))
    }
    return build_report(y, systems, space, config=CONFIG.evaluation, seed=0)


def _card(report, **info):
    return model_card(report, CONFIG.to_dict(), info)


def test_the_card_has_every_figure_and_sentence():
    report = _report() | {"choice": CHOICE, "calibration": CALIBRATION}
    report["n"] |= {"train": 345, "unlabelled": 7, "dropped": 2}
    card = _card(
        report, name="tickets.csv", rows=460, sha256="ab12", origins={"ml": "MiniLM + head"}
    )
    assert card.startswith("# tickets\n")
    for entry in report["comparisons"].values():
        assert entry["sentence"] in card
    fusion = report["systems"]["fusion"]
    low, high = fusion["intervals"]["accuracy"]
    assert f"{fusion['metrics']['accuracy']:.3f} [{low:.3f}, {high:.3f}]" in card
    assert "345 labelled texts to learn from" in card
    assert "tickets.csv, 460 rows, SHA-256 `ab12`" in card
    assert "| **matrix_pool** | 0.100 ± 0.010 | 0.200 ± 0.030 | 0.983 |" in card
    assert "| `llm` | temperature | 0.500 → 0.250 |" in card
    assert "- `label1`: shipping and tracking" in card
    assert "| `ml` | MiniLM + head | 100 % |" in card
    assert "LLM by deepseek, model `deepseek-chat`" in card


def test_the_card_names_files_without_their_folders():
    card = _card(_report(), path="folder of someone/tickets.csv")
    assert "`scores.csv`" in card
    assert "secret folder" not in card
    assert "someone" not in card


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("n", [0, 1, 60])
def test_every_table_is_whole(n, multi_label):
    card = _card(_report(n, multi_label=multi_label))
    tables = [block for block in card.split("\n\n") if block.startswith("|")]
    assert len(tables) == (3 if n else 1)
    assert (NO_METRICS in card) == (n == 0)
    assert ("only if all of its labels are" in card) == (multi_label and n > 0)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "nan" not in card.lower().split()
    assert "None" not in card


def test_a_label_cannot_break_its_table():
    space = LabelSpace(("a|b", "c\nd", "e"), False)
    card = _card(_report(space=space))
    assert "| a\\|b |" in card
    assert "| c d |" in card


def test_labels_with_few_test_texts_are_named():
    assert "Fewer than 20 test texts have `label0`, `label1`, `label2`" in _card(_report(12))
    assert "Fewer than 20" not in _card(_report(300))


def test_the_card_says_what_each_source_is_worth_and_which_err_together():
    overlap = {"sources": ["ml", "llm"], "rows": 60, "agreement": 0.5, "error_correlation": 0.3}
    values = [{"source": "ml", "sentence": "Without ml, nothing is lost."}]
    card = _card(_report() | {"source_values": values, "overlap": [overlap]})
    assert "- Without ml, nothing is lost.\n- ml and llm agree on 50.0% of 60 test texts" in card
    assert "worth" not in _card(_report())
