"""LLM answers that were paid for once, kept so that they are not paid for again.

`open_cache` chooses the backend of a config: disk (shared by processes), memory, redis or none.
Knows keys, answers and their tags. Does not know prompts, providers' replies or prices.
"""

from __future__ import annotations

from pathlib import Path

from labelfusion.cache.answers import AnswerCache, CacheStats, CacheWarning, Record
from labelfusion.config import CacheConfig

__all__ = ["AnswerCache", "CacheStats", "CacheWarning", "Record", "open_cache"]


def open_cache(config: CacheConfig, folder: Path) -> AnswerCache:
    """The answer cache of a config; the disk backend lives in `folder`/answers.

    Raises ConfigError if a Redis server is asked for and does not answer, and
    MissingDependencyError if the redis package is not installed.
    """
    max_bytes = int(config.max_gigabytes * 1e9)
    if config.backend == "disk":
        from labelfusion.cache.disk import DiskCache

        return DiskCache(folder / "answers", max_bytes)
    if config.backend == "redis":
        from labelfusion.cache.redis_server import RedisCache

        return RedisCache(config.url)
    from labelfusion.cache.memory import MemoryCache, NoCache

    return NoCache() if config.backend == "none" else MemoryCache(max_bytes)
