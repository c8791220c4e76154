"""Public data sets from the Hugging Face hub, in the layout that the other benchmarks read.

AG News (4 labels), GoEmotions (28 labels, several a text) and the ten largest topics of
Reuters-21578 (ModApte split, several a text): a random part of the training and test rows of each.
The LLM of your choice scores them once, with an estimate beforehand, and the benchmarks go on from
there:

    python -m benchmarks.hub go_emotions --data FOLDER [--train 1000] [--test 1000]
    cd FOLDER
    labelfusion estimate --config go_emotions.yaml
    labelfusion score go_emotions.csv --config go_emotions.yaml --out go_emotions_scores.csv
    cd -
    python -m benchmarks.combiners go_emotions --data FOLDER
    python -m benchmarks.label_budget go_emotions --data FOLDER

Needs the network. Nothing of the data is part of this project.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.paths import add_data_option

AG_NEWS = ("World", "Sports", "Business", "Sci/Tech")
GO_EMOTIONS = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion",
    "curiosity", "desire", "disappointment", "disapproval", "disgust", "embarrassment",
    "excitement", "fear", "gratitude", "grief", "joy", "love", "nervousness", "optimism", "pride",
    "realization", "relief", "remorse", "sadness", "surprise", "neutral",
)  # fmt: skip
REUTERS = (
    "earn", "acq", "money-fx", "grain", "crude", "trade", "interest", "ship", "wheat", "corn",
)  # fmt: skip
SPLITS = ("train", "test")
LLM = {"provider": "openai", "model": "gpt-6-luna"}


@dataclass(frozen=True)
class Source:
    """A data set of the hub; `read` makes texts and label columns of a Parquet file's rows."""

    repository: str
    folder: str
    layout: dict[str, Any]
    read: Callable[[pd.DataFrame], pd.DataFrame]


def _ag_news(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"text": rows["text"], "label": np.array(AG_NEWS)[rows["label"]]})


def _go_emotions(rows: pd.DataFrame) -> pd.DataFrame:
    named = rows["labels"].map(lambda codes: {GO_EMOTIONS[code] for code in codes})
    return _indicators(rows["text"], named, GO_EMOTIONS)


def _reuters(rows: pd.DataFrame) -> pd.DataFrame:
    body = rows["text" if "text" in rows else "body"].fillna("")
    text = (rows["title"].fillna("") + ". " + body).str.strip(" .\n")
    found = _indicators(text, rows["topics"].map(set), REUTERS)
    # A story of none of the ten topics says nothing about them.
    return found[(found[list(REUTERS)].sum(axis=1) > 0) & (text != "")]


def _indicators(text: pd.Series, named: pd.Series, labels: Sequence[str]) -> pd.DataFrame:
    columns = {label: [int(label in names) for names in named] for label in labels}
    return pd.DataFrame({"text": text, **columns}, index=text.index)


SOURCES = {
    "ag_news_hub": Source("fancyzhx/ag_news", "data/", {"label_column": "label"}, _ag_news),
    "go_emotions": Source(
        "google-research-datasets/go_emotions",
        "simplified/",
        {"label_columns": list(GO_EMOTIONS)},
        _go_emotions,
    ),
    "reuters": Source("Tellurio/reuters-21578", "", {"label_columns": list(REUTERS)}, _reuters),
}


def main() -> None:
    """Write the rows as CSV, and a configuration that an LLM can score them by."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=SOURCES)
    add_data_option(parser)
    parser.add_argument("--train", type=int, default=1000, help="rows at most")
    parser.add_argument("--test", type=int, default=1000, help="rows at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = SOURCES[args.name]
    wanted = dict(zip(SPLITS, (args.train, args.test), strict=True))
    rows = sampled(source, wanted, args.seed)
    args.data.mkdir(parents=True, exist_ok=True)
    path = args.data / f"{args.name}.csv"
    rows.to_csv(path, index=False)
    config = {"data": layout(source) | {"path": path.name}, "llm": [LLM]}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    print(f"{len(rows)} rows: {path}, {path.with_suffix('.yaml')}")


def layout(source: Source) -> dict[str, Any]:
    """Its columns, as a run's `data` names them."""
    return {"id_column": "id", "text_columns": ["text"], "split_column": "split", **source.layout}


def sampled(source: Source, wanted: dict[str, int], seed: int) -> pd.DataFrame:
    """At most `wanted` rows of each split, in random order, with id and split columns."""
    parts = []
    for split, count in wanted.items():
        rows = pd.concat([source.read(pd.read_parquet(file)) for file in files(source, split)])
        rows = rows.drop_duplicates("text").sample(frac=1, random_state=seed)[:count]
        ids = [f"{split}-{number}" for number in range(len(rows))]
        parts.append(rows.assign(id=ids, split=split))
    return pd.concat(parts, ignore_index=True)


def files(source: Source, split: str) -> list[str]:
    """The split's Parquet files, fetched into the hub's cache."""
    from huggingface_hub import HfApi, hf_hub_download

    names = HfApi().list_repo_files(source.repository, repo_type="dataset")
    found = [
        name
        for name in sorted(names)
        if name.startswith(source.folder) and name.endswith(".parquet") and split in name
    ]
    if not found:
        raise SystemExit(f"{source.repository} has no Parquet file of {split}: {names}")
    return [hf_hub_download(source.repository, name, repo_type="dataset") for name in found]


if __name__ == "__main__":
    main()
