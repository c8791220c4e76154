import json
import os
import pickle
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from labelfusion.cache import CacheWarning, Record, open_cache
from labelfusion.config import CacheConfig
from labelfusion.errors import ConfigError, InputError
from tests.answer_cache import K1, K2, K3, key_of, redis_server

ANSWER = {"scores": {"billing": 0.9, "Zürich\u2028": 0.1}}


@pytest.fixture(params=["disk", "memory", "redis"])
def cache(request, tmp_path):
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    opened = open_cache(CacheConfig(backend=request.param, url=url), tmp_path)
    opened.clear()
    yield opened
    opened.close()


@pytest.fixture
def disk(tmp_path):
    opened = open_cache(CacheConfig(), tmp_path)
    yield opened
    opened.close()


def line_with(**values):
    good = {"provider": "", "model": "", "run": "", "created": "2026-01-01T00:00:00+00:00"}
    return json.dumps({"key": K2, "answer": {}} | good | values)


def database(tmp_path):
    return tmp_path / "answers" / "cache.db"


def test_answers_come_back_and_are_counted(cache):
    cache.put(K1, ANSWER, provider="openai", model="m", run="r")
    assert cache.get_many([K1, K2, K1]) == {K1: ANSWER}
    stats = cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (1, 1, 1)
    assert stats.bytes > 0


def test_a_record_says_who_gave_the_answer_and_when(cache):
    cache.put(K1, ANSWER, provider="openai", model="m", run="r")
    (record,) = cache.records()
    assert (record.provider, record.model, record.run) == ("openai", "m", "r")
    assert datetime.now(UTC) - datetime.fromisoformat(record.created) < timedelta(minutes=1)


def test_a_later_answer_replaces_the_earlier(cache):
    cache.put(K1, ANSWER)
    cache.put(K1, {"scores": {}})
    assert cache.get_many([K1]) == {K1: {"scores": {}}}
    assert cache.stats().entries == 1


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ({"run": "r1"}, {K3}),
        ({"model": "m1"}, {K2}),
        ({"run": "r1", "model": "m1"}, {K2, K3}),
        ({"older_than": timedelta(days=1)}, {K1, K2, K3}),
        ({"older_than": timedelta(seconds=-5)}, set()),
        ({}, set()),
    ],
)
def test_clear_removes_what_meets_every_condition(cache, condition, left):
    for key, run, model in ((K1, "r1", "m1"), (K2, "r1", "m2"), (K3, "r2", "m1")):
        cache.put(key, ANSWER, run=run, model=model)
    assert cache.clear(**condition) == 3 - len(left)
    assert set(cache.get_many([K1, K2, K3])) == left


def test_export_and_import_carry_every_record(cache, tmp_path):
    cache.put(K1, ANSWER, provider="p", model="m", run="r")
    cache.put(K2, {"scores": {"a": 1}})
    before = set(map(Record.to_json, cache.records()))
    file = tmp_path / "answers.jsonl"
    assert cache.export_jsonl(file) == 2
    assert file.stat().st_mode & 0o077 == 0
    cache.clear()
    cache.put(K2, {"scores": {"a": 2}})
    assert cache.import_jsonl(file) == 1
    assert cache.get_many([K1, K2]) == {K1: ANSWER, K2: {"scores": {"a": 2}}}
    cache.clear()
    assert cache.import_jsonl(file) == 2
    assert set(map(Record.to_json, cache.records())) == before


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[" * 100_000,
        "[]",
        '{"key": "k"}',
        line_with(key="a text!"),
        line_with(answer=[]),
        line_with(created="2026-01-01T00:00"),
        line_with(created="yesterday"),
    ],
)
def test_an_import_names_the_bad_line_and_adds_nothing(disk, tmp_path, line):
    file = tmp_path / "answers.jsonl"
    good = Record(K1, ANSWER, "", "", "", "2026-01-01T00:00:00+00:00").to_json()
    file.write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        disk.import_jsonl(file)
    assert disk.stats().entries == 0


def test_an_import_of_a_file_that_is_not_there_is_explained(disk, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        disk.import_jsonl(tmp_path / "absent.jsonl")


def test_a_key_that_is_a_text_is_refused(cache):
    with pytest.raises(ValueError, match="hash"):
        cache.put("I was charged twice!", ANSWER)


def test_none_keeps_nothing(tmp_path):
    cache = open_cache(CacheConfig(backend="none"), tmp_path)
    cache.put(K1, ANSWER)
    assert cache.get_many([K1]) == {}
    assert cache.claim([K1], seconds=5) == {K1}
    assert cache.stats().entries == 0


def test_memory_drops_the_oldest_above_its_limit(tmp_path):
    cache = open_cache(CacheConfig(backend="memory", max_gigabytes=1e-6), tmp_path)
    for i in range(20):
        cache.put(key_of(str(i)), ANSWER)
    stats = cache.stats()
    assert 0 < stats.bytes <= 1000
    assert key_of("19") in cache.get_many([key_of("19"), key_of("0")])
    assert key_of("0") not in cache.get_many([key_of("0")])


def test_disk_drops_the_oldest_above_its_limit(tmp_path):
    cache = open_cache(CacheConfig(max_gigabytes=0.0005), tmp_path)
    big = {"why": "x" * 5000}
    keys = [key_of(str(i)) for i in range(300)]
    for key in keys:
        cache.put(key, big)
    assert cache.stats().bytes < 800_000
    left = cache.get_many(keys)
    assert keys[-1] in left
    assert keys[0] not in left
    cache.close()


def test_the_folder_is_private(disk, tmp_path):
    assert (tmp_path / "answers").stat().st_mode & 0o777 == 0o700


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def tamper(tmp_path, sql, *values):
    with sqlite3.connect(database(tmp_path)) as connection:
        connection.execute(sql, values)
    connection.close()


def test_a_row_set_to_pickle_mode_runs_nothing(disk, tmp_path):
    disk.put(K1, ANSWER)
    disk.put(K2, ANSWER)
    evil = tmp_path / "evil"
    tamper(
        tmp_path,
        "UPDATE Cache SET mode = 4, value = ? WHERE key = ?",
        pickle.dumps(Payload(evil)),
        K1,
    )
    with pytest.warns(CacheWarning, match="refused"):
        assert disk.get_many([K1, K2]) == {K2: ANSWER}
    with pytest.warns(CacheWarning):
        assert [r.key for r in disk.records()] == [K2]
    assert not evil.exists()
    disk.put(K1, ANSWER)
    assert disk.get_many([K1]) == {K1: ANSWER}


def test_a_pickled_key_runs_nothing(disk, tmp_path):
    disk.put(K1, ANSWER)
    disk.put(K2, ANSWER)
    evil = tmp_path / "evil"
    tamper(
        tmp_path,
        "UPDATE Cache SET raw = 0, key = ? WHERE key = ?",
        pickle.dumps(Payload(evil)),
        K1,
    )
    with pytest.warns(CacheWarning, match="not text"):
        assert [r.key for r in disk.records()] == [K2]
    assert disk.get_many([K1]) == {}
    with pytest.warns(CacheWarning):
        disk.clear()
    assert not evil.exists()


def test_a_row_that_names_a_file_reads_and_removes_nothing(disk, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("{}", encoding="utf-8")
    disk.put(K1, ANSWER)
    tamper(tmp_path, "UPDATE Cache SET mode = 3, value = NULL, filename = ?", str(secret))
    with pytest.warns(CacheWarning):
        assert disk.get_many([K1]) == {}
    disk.put(K1, ANSWER)
    assert secret.exists()


@pytest.mark.parametrize("row", ["", "nonsense", "[]", '{"key": 1}', "[" * 100_000, b"\xff"])
def test_a_row_that_is_no_record_is_a_miss_and_a_warning(disk, tmp_path, row):
    disk.put(K1, ANSWER)
    disk.put(K2, ANSWER)
    tamper(tmp_path, "UPDATE Cache SET value = ? WHERE key = ?", row, K1)
    with pytest.warns(CacheWarning):
        assert disk.get_many([K1, K2]) == {K2: ANSWER}


def test_a_row_moved_to_another_key_is_a_miss(disk, tmp_path):
    disk.put(K1, ANSWER)
    tamper(tmp_path, "UPDATE Cache SET key = ?", K2)
    with pytest.warns(CacheWarning, match="another key"):
        assert disk.get_many([K2]) == {}


def test_text_that_is_not_utf8_costs_one_row(disk, tmp_path):
    disk.put(K1, ANSWER)
    disk.put(K2, ANSWER)
    tamper(tmp_path, "UPDATE Cache SET value = CAST(x'ff' AS TEXT) WHERE key = ?", K1)
    with pytest.warns(CacheWarning):
        assert disk.get_many([K1, K2]) == {K2: ANSWER}
    assert not list((tmp_path / "answers").glob("*damaged*"))


def test_a_database_that_is_none_is_put_aside(tmp_path):
    database(tmp_path).parent.mkdir()
    database(tmp_path).write_bytes(b"this is not a database" * 100)
    with pytest.warns(CacheWarning, match="damaged"):
        cache = open_cache(CacheConfig(), tmp_path)
    cache.put(K1, ANSWER)
    assert cache.get_many([K1]) == {K1: ANSWER}
    assert len(list((tmp_path / "answers").glob("cache.db.damaged-*"))) == 1
    cache.close()


def test_damage_while_open_is_a_miss_and_the_cache_goes_on(tmp_path):
    writer = open_cache(CacheConfig(), tmp_path)
    keys = [key_of(str(i)) for i in range(500)]
    for key in keys:
        writer.put(key, {"why": "x" * 300})
    writer.close()
    cache = open_cache(CacheConfig(), tmp_path)
    with database(tmp_path).open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(database(tmp_path).stat().st_size - 4096))
    with pytest.warns(CacheWarning):
        assert len(cache.get_many(keys)) < len(keys)
    cache.put(K1, ANSWER)
    assert cache.get_many([K1]) == {K1: ANSWER}
    assert list((tmp_path / "answers").glob("cache.db.damaged-*"))
    cache.close()


def test_claims_end_when_given_back(cache):
    assert cache.claim([K1, K2], seconds=60) == {K1, K2}
    cache.unclaim([K1, K2])
    assert cache.claim([K1], seconds=60) == {K1}
    assert cache.stats().entries == 0
    cache.unclaim([K1])


def test_redis_that_does_not_answer_is_explained_without_the_address(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    with pytest.raises(ConfigError, match="does not answer") as caught:
        open_cache(CacheConfig(backend="redis"), tmp_path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="LABELFUSION_REDIS_URL") as caught:
        open_cache(CacheConfig(backend="redis", url="redis://:hunter2@h:1/0"), tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_redis_that_goes_away_costs_misses_only(tmp_path):
    with redis_server(tmp_path) as (url, process):
        cache = open_cache(CacheConfig(backend="redis", url=url), tmp_path)
        cache.put(K1, ANSWER)
        process.kill()
        process.wait()
        with pytest.warns(CacheWarning):
            assert cache.get_many([K1]) == {}
        with pytest.warns(CacheWarning):
            cache.put(K1, ANSWER)
        with pytest.warns(CacheWarning):
            assert cache.claim([K1], seconds=1) == {K1}
        with pytest.warns(CacheWarning):
            cache.unclaim([K1])
