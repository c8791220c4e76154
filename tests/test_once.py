"""No text is tokenised or goes through a frozen network twice: in a run, resumed, or in a study."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from labelfusion import pipeline
from labelfusion.config import RunConfig
from labelfusion.encoders import embeddings, tokens
from labelfusion.encoders.backbone import Backbone
from labelfusion.predict_file import label_rows
from labelfusion.runs import ResultsManager
from labelfusion.studies import Options, run_study
from labelfusion.workspace import Workspace
from tests.command_line import labelfusion, write_config
from tests.fine_tuning import Interrupted, run_settings, word_rows

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Counts:
    """How often each text went through the tokenizer, and how many through networks."""

    def __init__(self, monkeypatch) -> None:
        self.tokenised: Counter[str] = Counter()
        self.forwarded = 0
        token_ids, pooled = tokens.token_ids, embeddings.pooled

        def counted_ids(tokenizer, texts, limit):
            self.tokenised.update(texts)
            return token_ids(tokenizer, texts, limit)

        def counted_pooled(network, rows, pad):
            self.forwarded += len(rows)
            return pooled(network, rows, pad)

        monkeypatch.setattr(tokens, "token_ids", counted_ids)
        monkeypatch.setattr(embeddings, "pooled", counted_pooled)


@pytest.fixture
def counts(monkeypatch):
    """Counts from a process that has seen no text yet."""
    new_process()
    return Counts(monkeypatch)


@pytest.fixture
def material(tiny, tmp_path):
    """Settings of a run over 60 texts, some of them alike, and the texts that differ."""
    texts, targets = word_rows(60)
    settings = run_settings(tmp_path, tiny, texts, targets, epochs=1)
    settings["ml"] |= {"fine_tune": False, "folds": 3}
    return settings, set(texts)


def new_process() -> None:
    """Forget what a process keeps in memory."""
    for shared in (embeddings._embedder, embeddings.shared_cache, tokens.shared_memo):
        shared.cache_clear()


def test_a_run_a_resumed_run_and_a_study_forward_each_text_once(material, counts, tmp_path):
    settings, texts = material
    config = RunConfig.from_dict(settings)
    dataset, cache = pipeline.check(config), tmp_path / "ws" / "cache"

    class Killed(dict):
        def __setitem__(self, name, signal):
            raise Interrupted

    with pytest.raises(Interrupted):
        pipeline.fit(dataset, config, store=Killed(), cache_dir=cache)
    assert counts.forwarded == len(counts.tokenised) == len(texts)
    new_process()
    store: dict = {}
    pipeline.fit(dataset, config, store=store, cache_dir=cache)
    new_process()
    pipeline.fit(dataset, config, store=store, cache_dir=cache)
    pipeline.fit(dataset, RunConfig.from_dict(settings | {"seed": 1}), cache_dir=cache)
    run_study(
        "learning-curve",
        config,
        out=tmp_path / "study",
        workspace=Workspace.at(tmp_path / "ws"),
        options=Options(sizes=[24], seeds=2),
    )
    assert counts.forwarded == len(texts)
    assert set(counts.tokenised.values()) == {1}


def test_without_a_cache_folder_a_run_forwards_each_text_once(material, counts):
    settings, texts = material
    config = RunConfig.from_dict(settings)
    pipeline.fit(pipeline.check(config), config)
    assert counts.forwarded == len(texts)
    assert counts.tokenised == Counter(texts)


def test_predicting_the_training_file_forwards_nothing(material, counts, tmp_path):
    settings, _ = material
    write_config(tmp_path, settings)
    labelfusion("train", "--config", "config.yaml", "--workspace", tmp_path / "ws", cwd=tmp_path)
    workspace = Workspace.at(tmp_path / "ws")
    label_rows(ResultsManager(workspace).open("last"), tmp_path / "data.csv", workspace=workspace)
    assert counts.forwarded == 0


def test_folds_of_a_fine_tuning_share_tokens_and_the_frozen_start(
    material, counts, tmp_path, monkeypatch
):
    settings, texts = material
    settings["ml"]["fine_tune"] = True
    config = RunConfig.from_dict(settings)
    dataset = pipeline.check(config)
    scored, features = [], Backbone.features

    def counted(self, rows, *rest):
        scored.append(len(rows))
        return features(self, rows, *rest)

    monkeypatch.setattr(Backbone, "features", counted)
    run = pipeline.fit(dataset, config, cache_dir=tmp_path / "cache")
    assert counts.tokenised == Counter(texts)
    train, test = len(run.split.train), len(run.split.test)
    # By trained weights: each training row when it is held out, each test row at the end.
    assert sum(scored) == train + test
    assert scored[-1] == test
    # By the pretrained weights: each text of the training rows, for all folds together.
    frozen = counts.forwarded
    assert frozen == len({dataset.texts[i] for i in run.split.train})
    new_process()
    again = pipeline.fit(dataset, config, cache_dir=tmp_path / "cache")
    assert counts.forwarded == frozen
    np.testing.assert_array_equal(again.signals["ml"].scores, run.signals["ml"].scores)


def test_a_memo_that_is_full_begins_anew(monkeypatch):
    monkeypatch.setattr(tokens, "MOST_TOKENS", 5)
    memo = tokens.TokenMemo("model", 4)

    def tokenizer(texts, **_):
        return {"input_ids": [[len(text)] * len(text) for text in texts]}

    for texts in (["a", "bb", "a"], ["bb", "ccc"], ["dddddd"], ["dddddd"]):
        found = memo.ids(tokenizer, texts)
        assert [row.tolist() for row in found] == [[len(text)] * len(text) for text in texts]
    # "a", "bb"; "ccc", which pushes them out; "dddddd", which is too long to be kept.
    assert memo.tokenised == 2 + 1 + 2
