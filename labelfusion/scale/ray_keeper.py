"""What the workers of a cluster have in common, kept on the machine where the command runs.

Vectors and scores that were made once (the byte cache), signals of a study's folder, and whom to
tell: an actor there owns them, so that no worker makes them again, no disk in common is needed, and
whatever is finished is on that machine's disk. Knows caches and stores. Does not know who works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelfusion.encoders.embedding_cache import MemoryCache, open_cache
from labelfusion.runs import SignalStore
from labelfusion.scale.ray_cluster import answer
from labelfusion.types import Event, Signal


class Keeper:
    """What the actor does. It is asked one thing after the other."""

    def __init__(self, cache_dir: Path | None) -> None:
        self._cache = open_cache(cache_dir)
        self._stores: dict[str, SignalStore] = {}
        self._told: list[Event] = []

    def cached(self, keys: Sequence[str]) -> dict[str, bytes]:
        return self._cache.get_many(keys)

    def cache(self, values: Mapping[str, bytes]) -> None:
        self._cache.put_many(values)

    def open(self, stores: Mapping[str, SignalStore]) -> None:
        """Have these stores at hand, by their names."""
        self._stores.update(stores)

    def signal(self, store: str, key: str) -> Signal | None:
        return self._stores[store].get(key)

    def store(self, store: str, key: str, signal: Signal) -> None:
        self._stores[store][key] = signal

    def tell(self, event: Event) -> None:
        self._told.append(event)

    def heard(self) -> list[Event]:
        """What was told since the last time."""
        told, self._told = self._told, []
        return told


class RemoteCache:
    """See `labelfusion.encoders.embedding_cache.ByteCache`: the keeper's, each value sent once."""

    def __init__(self, keeper: Any) -> None:
        self._keeper, self._here = keeper, MemoryCache()

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = self._here.get_many(keys)
        missing = [key for key in keys if key not in found]
        if missing:
            sent = answer(self._keeper.cached.remote(missing))
            self._here.put_many(sent)
            found |= sent
        return found

    def put_many(self, values: Mapping[str, bytes]) -> None:
        self._here.put_many(values)
        answer(self._keeper.cache.remote(dict(values)))


class RemoteStore:
    """A `SignalStore` of the keeper's, as far as those who make and read signals need one."""

    def __init__(self, keeper: Any, name: str) -> None:
        self._keeper, self._name = keeper, name
        self._here: dict[str, Signal] = {}

    def __contains__(self, key: str) -> bool:
        if key not in self._here:
            found = answer(self._keeper.signal.remote(self._name, key))
            if found is None:
                return False
            self._here[key] = found
        return True

    def __getitem__(self, key: str) -> Signal:
        if key not in self:
            raise KeyError(key)
        return self._here[key]

    def __setitem__(self, key: str, signal: Signal) -> None:
        self._here[key] = signal
        answer(self._keeper.store.remote(self._name, key, signal))
