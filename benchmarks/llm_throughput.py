"""How close LLM scoring comes to what the server allows, over real HTTP on this machine.

Two cases, against the tests' protocol server in a process of its own: bounded by concurrency
(ceiling: texts × latency / (concurrency × texts a request)), and bounded by a rate limit of the
server, with and without rate-limit headers. Run: `python -m benchmarks.llm_throughput [--json]`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from labelfusion.cache.memory import MemoryCache
from labelfusion.config import LLMConfig
from labelfusion.llm import ScoringContext, score_rows
from labelfusion.types import LabelSpace, Rows

SERVER = Path(__file__).parent.parent / "tests" / "llm_server.py"
SPACE = LabelSpace(
    ("billing", "delivery", "returns", "account", "technical", "question", "feedback"), False
)


@contextlib.contextmanager
def server(**behaviour: object) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(SERVER), json.dumps(behaviour)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def measure(
    texts: int, latency: float, concurrency: int, rate: int | None, headers: bool
) -> dict[str, object]:
    """Score `texts` texts, 8 a request; seconds, share of the ceiling, share refused."""
    per_request = 8
    behaviour = {"latency": latency, "rate": rate, "headers": headers}
    with server(**behaviour) as address:
        entry = LLMConfig(
            provider="compatible",
            model="m",
            base_url=f"{address}/v1",
            concurrency=concurrency,
            texts_per_request=per_request,
        )
        warm_up(entry)
        rows = Rows([str(i) for i in range(texts)], [f"text number {i}" for i in range(texts)])
        before = counts(address)
        started = time.perf_counter()
        signal = score_rows(entry, rows, SPACE, context=ScoringContext(cache=MemoryCache(10**9)))
        seconds = time.perf_counter() - started
        after = counts(address)
    requests, refused = (after.get(n, 0) - before.get(n, 0) for n in ("requests", "429"))
    ceiling = texts * latency / (concurrency * per_request)
    if rate is not None:
        ceiling = max(ceiling, texts / per_request / rate)
    return {
        "texts": texts,
        "latency_s": latency,
        "concurrency": concurrency,
        "rate_limit": rate,
        "headers": headers,
        "seconds": round(seconds, 2),
        "ceiling_s": round(ceiling, 2),
        "share_of_ceiling": round(ceiling / seconds, 3),
        "requests": requests,
        "refused": round(refused / requests, 4),
        "coverage": signal.coverage,
    }


def warm_up(entry: LLMConfig) -> None:
    """Import the SDK and open no more than one connection: not what is measured."""
    score_rows(entry.model_copy(update={"texts_per_request": 1}), Rows(["w"], ["warm"]), SPACE)
    time.sleep(1.1)  # the rate window is empty again


def counts(address: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{address}/counts") as reply:
        return json.load(reply)["counts"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cases = [(0.5, 16, None, False), (0.5, 16, 20, False), (0.5, 16, 20, True)]
    for case in cases:
        result = measure(arguments.texts, *case)
        if arguments.json:
            print(json.dumps(result), flush=True)
        else:
            print("  ".join(f"{name} {value}" for name, value in result.items()), flush=True)


if __name__ == "__main__":
    main()
