"""Embeddings: each text once, resumable bit for bit, and a cache that cannot stop the work."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labelfusion.encoders import progress
from labelfusion.encoders.embedding_cache import FILE_NAME, MemoryCache, open_cache
from labelfusion.encoders.embeddings import Embedder
from labelfusion.encoders.pretrained import file_sha256, find_pretrained
from tests.tiny_transformer import WORDS, write_tiny_transformer


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return write_tiny_transformer(tmp_path_factory.mktemp("model"))


@pytest.fixture
def make(model_folder):
    def make_embedder(cache_dir: Path | None = None, max_tokens: int = 16) -> Embedder:
        model = find_pretrained(str(model_folder), MemoryCache())
        cache = open_cache(cache_dir)
        return Embedder(model, cache, max_tokens=max_tokens, batch_size=4, device="cpu")

    return make_embedder


def _texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=1 + i % 9)) + f" {WORDS[i % 5]}" for i in range(n)]


def test_vectors_are_unit_float32_in_the_order_of_the_texts(make):
    texts = _texts(10)
    together = make().embed(texts)
    alone = np.concatenate([make().embed([text]) for text in texts[:4]])
    assert together.shape == (10, 16)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together[:4], alone, atol=1e-6)


def test_pooling_is_the_mean_over_the_tokens_of_the_text(make):
    import torch

    embedder = make()
    tokenizer, network = embedder._loaded
    with torch.inference_mode():
        hidden = network(**tokenizer("my bike is broken", return_tensors="pt")).last_hidden_state
    expected = hidden[0].mean(dim=0).numpy()
    found = embedder.embed(["my bike is broken", " ".join(WORDS)])[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_each_text_is_forwarded_once(make, tmp_path):
    first = make(tmp_path)
    first.embed(["my bike", "the app", "my bike"])
    first.embed(["the app", "thanks"])
    second = make(tmp_path)
    second.embed(["my bike", "the app", "thanks"])
    assert (first.forwarded, second.forwarded) == (3, 0)


def test_longer_cut_is_another_vector(make, tmp_path):
    long = " ".join(WORDS)
    short_cut, long_cut = make(tmp_path, 8).embed([long]), make(tmp_path, 16).embed([long])
    assert not np.allclose(short_cut, long_cut)


def test_interrupted_work_is_resumed_bit_for_bit(make, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_EVENTS", 0.0)
    texts = list(dict.fromkeys(_texts(30)))

    def interrupt(event):
        if event.done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "a").embed(texts, interrupt)
    resumed = make(tmp_path / "a")
    vectors = resumed.embed(texts)
    assert resumed.forwarded == len(texts) - 12
    np.testing.assert_array_equal(vectors, make(tmp_path / "b").embed(texts))


def test_progress_counts_texts_to_the_end(make, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_EVENTS", 0.0)
    events = []
    make().embed([f"my {word} bike" for word in WORDS[:10]], events.append)
    assert [(e.stage, e.unit, e.done, e.total) for e in events] == [
        ("ml", "texts", done, 10) for done in (4, 8, 10)
    ]


@pytest.mark.parametrize("texts", [["", "my bike"], ["\ud800 broken"], ["🚲"]])
def test_odd_texts_have_finite_vectors(make, texts, tmp_path):
    assert np.isfinite(make(tmp_path).embed(texts)).all()


def test_damaged_cache_file_is_put_aside(make, tmp_path):
    expected = make(tmp_path).embed(["my bike"])
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 500)
    for suffix in ("-wal", "-shm"):
        (tmp_path / (FILE_NAME + suffix)).unlink(missing_ok=True)
    with pytest.warns(RuntimeWarning, match="damaged"):
        np.testing.assert_array_equal(make(tmp_path).embed(["my bike"]), expected)
    again = make(tmp_path)
    again.embed(["my bike"])
    assert again.forwarded == 0


def test_damaged_entry_is_computed_again(make, tmp_path):
    expected = make(tmp_path).embed(["my bike"])
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE entries SET value = zeroblob(64)")
    with pytest.warns(RuntimeWarning, match="computed again"):
        np.testing.assert_array_equal(make(tmp_path).embed(["my bike"]), expected)


def test_unusable_cache_is_done_without(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="going on without"):
        assert make(tmp_path / "file").embed(["my bike"]).shape == (1, 16)


def test_several_processes_share_a_cache(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from labelfusion.encoders.embedding_cache import open_cache\n"
        "cache = open_cache(Path(sys.argv[1]))\n"
        "for i in range(30): cache.put_many({f'{sys.argv[2]}{i}': b'abcd', 'both': b'efgh'})\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    writers = [subprocess.Popen([*command, name], env=environment) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    keys = [f"{name}{i}" for name in "abc" for i in range(30)]
    assert len(open_cache(tmp_path).get_many([*keys, "both"])) == 91


def test_more_keys_than_one_query_takes(tmp_path):
    values = {str(i): bytes([i % 256]) for i in range(2500)}
    cache = open_cache(tmp_path)
    cache.put_many(values)
    assert cache.get_many([*values, "absent"]) == values


def test_file_is_hashed_again_only_when_it_changed(tmp_path):
    path, memo = tmp_path / "weights", open_cache(tmp_path)
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    first = file_sha256(path, memo)
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert file_sha256(path, memo) == first
    os.utime(path, ns=(2, 2))
    assert file_sha256(path, memo) != first
