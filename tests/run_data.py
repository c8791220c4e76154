"""A small run that is quick to fit: 120 tickets, TF-IDF and recorded scores."""

from __future__ import annotations

from pathlib import Path

from labelfusion.config import RunConfig

SAMPLE = Path(__file__).parent.parent / "sample_data"


def small_config(folder: Path, name: str = "small", **changes: object) -> RunConfig:
    """A config over copies of the sample's first rows in `folder`."""
    for file in ("tickets.csv", "tickets_llm_scores.csv"):
        lines = (SAMPLE / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / file).write_text("".join(lines[:161]), encoding="utf-8")
    values = {
        "name": name,
        "data": {
            "path": str(folder / "tickets.csv"),
            "id_column": "id",
            "label_column": "label",
        },
        "ml": {"encoder": "tfidf", "folds": 2},
        "llm": [{"provider": "recorded", "path": str(folder / "tickets_llm_scores.csv")}],
        "fusion": {"cv_folds": 2, "cv_repeats": 1},
        "evaluation": {"bootstrap_draws": 100},
    }
    return RunConfig.from_dict(values | changes)
