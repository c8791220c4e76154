"""Answers in a Redis server, shared by machines.

The size limit is the server's own (maxmemory). A server that stops answering in the middle of a run
is a miss and a warning. The address may hold a password, so it is never shown.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from labelfusion.cache.answers import AnswerCache, warn
from labelfusion.errors import ConfigError, MissingDependencyError
from labelfusion.processes import is_alive, this_host, this_process

URL_VARIABLE = "LABELFUSION_REDIS_URL"
_ANSWER, _CLAIM = "labelfusion:answer:", "labelfusion:claim:"
_CHUNK = 1000
# In one step each: give back a claim that is still ours, take over one that is still a dead one's.
_IF_HELD = "if redis.call('get',KEYS[1])==ARGV[1] then return "
_RELEASE = _IF_HELD + "redis.call('del',KEYS[1]) end"
_TAKE = _IF_HELD + "redis.call('set',KEYS[1],ARGV[2],'PX',ARGV[3]) end"


class RedisCache(AnswerCache):
    """Rows under `labelfusion:answer:<key>`.

    `url` is redis://host:port/database; without one LABELFUSION_REDIS_URL, then localhost. A
    password belongs in the variable: the config is written to run folders.
    """

    backend = "redis"

    def __init__(self, url: str | None) -> None:
        super().__init__()
        self._redis, self._error = _connect(url)
        self._me = json.dumps([this_host(), *this_process(), uuid.uuid4().hex]).encode()

    def close(self) -> None:
        self._redis.close()

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            try:
                rows = self._redis.mget([_ANSWER + key for key in chunk])
            except self._error as error:
                warn(f"Redis could not be read ({type(error).__name__}): answers are asked for")
                return
            yield from ((key, row) for key, row in zip(chunk, rows, strict=True) if row is not None)

    def _write(self, key: str, row: str) -> None:
        try:
            self._redis.set(_ANSWER + key, row)
        except self._error as error:
            warn(f"An answer could not be cached in Redis ({type(error).__name__})")

    def _keys(self) -> Iterator[str]:
        for name in self._redis.scan_iter(match=_ANSWER + "*", count=_CHUNK):
            yield name.decode().removeprefix(_ANSWER)

    def _remove(self, keys: Collection[str]) -> None:
        if keys:
            self._redis.delete(*(_ANSWER + key for key in keys))

    def _size(self) -> tuple[int, int]:
        keys = list(self._keys())
        rows = (row for _, row in self._read(keys))
        return len(keys), sum(len(row) for row in rows)

    def claim(self, keys: Iterable[str], *, seconds: float) -> set[str]:
        wanted = list(keys)
        try:
            return {key for key in wanted if self._claim(key, seconds)}
        except self._error as error:
            warn(f"Texts could not be claimed in Redis ({type(error).__name__})")
            return set(wanted)

    def _claim(self, key: str, seconds: float) -> bool:
        name, left = _CLAIM + key, max(1, int(seconds * 1000))
        if self._redis.set(name, self._me, nx=True, px=left):
            return True
        holder = self._redis.get(name)
        if holder == self._me:
            return True
        return _is_dead(holder) and bool(self._redis.eval(_TAKE, 1, name, holder, self._me, left))

    def unclaim(self, keys: Iterable[str]) -> None:
        try:
            for key in keys:
                self._redis.eval(_RELEASE, 1, _CLAIM + key, self._me)
        except self._error as error:
            warn(f"Claims stay in Redis until they expire ({type(error).__name__})")


def _is_dead(holder: bytes | None) -> bool:
    """Whether who made the claim is a process of this machine that is gone."""
    if holder is None:
        return False
    host, pid, started, *_ = json.loads(holder)
    return host == this_host() and not is_alive(pid, started)


def _connect(url: str | None) -> tuple[Any, type[Exception]]:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise MissingDependencyError(
            "The cache backend redis needs the redis package",
            remedy="Install it with: pip install 'labelfusion[redis]'",
        ) from None
    if url and urlsplit(url).password:
        raise ConfigError(
            "The Redis address holds a password, and a config is written to disk",
            where="config cache.url",
            remedy=f"Put the address into the environment variable {URL_VARIABLE}",
        )
    address = url or os.environ.get(URL_VARIABLE) or "redis://localhost:6379/0"
    try:
        client = redis.Redis.from_url(
            address,
            socket_connect_timeout=5,
            socket_timeout=30,
            # A server that is gone must not hold up every answer: one more try, at once.
            retry=Retry(NoBackoff(), 1),
        )
        client.ping()
    except (redis.RedisError, ValueError) as error:
        raise ConfigError(
            "The Redis server does not answer",
            where="config cache.url",
            found=type(error).__name__,
            remedy="Start it, correct the address, or set cache.backend to disk",
        ) from None
    return client, redis.RedisError
