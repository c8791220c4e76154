"""Claims of the answer cache: who asks about a text, so that nobody else pays for it too."""

import json
import subprocess
import sys
import time

import pytest

from labelfusion.cache import open_cache
from labelfusion.config import CacheConfig
from labelfusion.processes import this_host
from tests.answer_cache import K1, K2, K3, key_of


@pytest.fixture
def disk(tmp_path):
    opened = open_cache(CacheConfig(), tmp_path)
    yield opened
    opened.close()


CHILD = """
import sys
from hashlib import sha256
from pathlib import Path
from labelfusion.cache import open_cache
from labelfusion.config import CacheConfig
cache = open_cache(CacheConfig(), Path(sys.argv[1]))
keys = [sha256(str(i).encode()).hexdigest() for i in range(200)]
mine = cache.claim(keys, seconds=60)
print(len(mine), flush=True)
sys.stdin.readline()
for key in mine:
    cache.put(key, {"by": sys.argv[2]})
print(len(cache.get_many(keys)), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def child(tmp_path):
    started = []

    def start(name):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def say(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_share_answers_and_ask_for_each_text_once(child, disk):
    first, second = child("a"), child("b")
    claimed = [int(p.stdout.readline()) for p in (first, second)]
    assert sum(claimed) == 200
    for process in (first, second):
        say(process)
        process.stdout.readline()
    keys = [key_of(str(i)) for i in range(200)]
    assert len(disk.get_many(keys)) == 200


def test_the_claims_of_a_killed_process_lapse_at_once(child, disk):
    first = child("a")
    assert int(first.stdout.readline()) == 200
    keys = [key_of(str(i)) for i in range(200)]
    assert disk.claim(keys, seconds=60) == set()
    first.kill()
    first.wait()
    assert disk.claim(keys, seconds=60) == set(keys)


def test_two_threads_of_a_process_that_open_the_cache_ask_for_each_text_once(tmp_path):
    first, second = open_cache(CacheConfig(), tmp_path), open_cache(CacheConfig(), tmp_path)
    assert first.claim([K1], seconds=60) == {K1}
    assert second.claim([K1, K2], seconds=60) == {K2}
    second.unclaim([K1])
    assert second.claim([K1], seconds=60) == set()
    assert first.claim([K1], seconds=60) == {K1}
    first.unclaim([K1])
    assert second.claim([K1], seconds=60) == {K1}


def test_a_redis_claim_of_another_holds_until_it_expires(redis_url, tmp_path):
    config = CacheConfig(backend="redis", url=redis_url)
    mine, theirs = open_cache(config, tmp_path), open_cache(config, tmp_path)
    assert theirs.claim([K1], seconds=0.2) == {K1}
    assert mine.claim([K1, K2], seconds=60) == {K2}
    mine.unclaim([K1])
    assert mine.claim([K1], seconds=60) == set()
    time.sleep(0.25)
    assert mine.claim([K1], seconds=60) == {K1}
    mine.unclaim([K1, K2])


def test_a_redis_claim_of_a_process_that_is_gone_lapses_at_once(redis_url, tmp_path):
    config = CacheConfig(backend="redis", url=redis_url)
    mine, theirs = open_cache(config, tmp_path), open_cache(config, tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    theirs._me = json.dumps([this_host(), gone.pid, "0.00", "x"]).encode()
    assert theirs.claim([K1, K2], seconds=60) == {K1, K2}
    assert mine.claim([K1], seconds=60) == {K1}
    theirs._me = json.dumps(["elsewhere", gone.pid, "0.00", "x"]).encode()
    assert theirs.claim([K3], seconds=60) == {K3}
    assert mine.claim([K3], seconds=60) == set()
    theirs.unclaim([K3])
    mine.unclaim([K1])
