"""The data card counts what the sample files hold."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parent.parent / "sample_data"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


def _carded(section: str) -> dict[str, int]:
    text = CARD.split(f"## {section}\n")[1].split("\n## ")[0]
    return {label: int(count) for label, count in re.findall(r"\| `(\w+)` \| (\d+) \|", text)}


def test_ticket_counts():
    tickets = pd.read_csv(FOLDER / "tickets.csv")
    assert _carded("Tickets") == tickets["label"].value_counts().to_dict()


def test_review_counts():
    reviews = pd.read_csv(FOLDER / "reviews.csv").drop(columns=["id", "text"])
    assert _carded("Reviews") == reviews.sum().to_dict()
    per_review = reviews.sum(axis=1)
    assert [int((per_review == n).sum()) for n in (1, 2, 3, 0)] == [141, 106, 45, 19]
    assert "141 reviews have one aspect, 106 two, 45 three, 9 more than three, and 19 none" in CARD


@pytest.mark.parametrize("name", ["tickets", "reviews"])
def test_every_text_has_scores_and_none_repeats(name):
    texts, scores = (pd.read_csv(FOLDER / f"{name}{suffix}.csv") for suffix in ("", "_llm_scores"))
    assert texts["id"].is_unique
    assert texts["text"].is_unique
    assert set(texts["id"]) == set(scores["id"])
    assert not texts.isna().any(axis=None)


def test_the_stated_accuracy_of_the_scores():
    tickets = pd.read_csv(FOLDER / "tickets.csv", index_col="id")
    scores = pd.read_csv(FOLDER / "tickets_llm_scores.csv", index_col="id").loc[tickets.index]
    right = (scores.idxmax(axis=1) == tickets["label"]).mean()
    reviews = pd.read_csv(FOLDER / "reviews.csv", index_col="id").drop(columns="text")
    given = pd.read_csv(FOLDER / "reviews_llm_scores.csv", index_col="id").loc[reviews.index] > 0.5
    exact = (given == reviews.astype(bool)).all(axis=1).mean()
    assert f"right for {100 * right:.1f} % of the tickets" in CARD
    assert f"for {100 * exact:.1f} % of the reviews" in " ".join(CARD.split())
