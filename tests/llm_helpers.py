"""What the tests of LLM scoring share: labels, rows, entries, and a server to ask."""

from __future__ import annotations

import asyncio

from labelfusion.cache.memory import MemoryCache
from labelfusion.config import LLMConfig
from labelfusion.llm import ScoringContext
from labelfusion.types import Event, LabelSpace, Rows

SPACE = LabelSpace(
    ("billing", "delivery", "returns"), multi_label=False, descriptions={"billing": "invoices"}
)
KEYS = {
    "OPENAI_API_KEY": "sk-test-openai-0123456789",
    "ANTHROPIC_API_KEY": "sk-ant-test-0123456789",
    "GEMINI_API_KEY": "AIzaTest0123456789abcdef",
    "DEEPSEEK_API_KEY": "sk-test-deepseek-0123456789",
}


def rows(n: int, word: str = "text") -> Rows:
    return Rows([f"r{i}" for i in range(n)], [f"{word} number {i}" for i in range(n)])


def compatible(address: str, **settings) -> LLMConfig:
    defaults = {"model": "m", "concurrency": 4, "max_attempts": 3, "timeout_s": 5}
    return LLMConfig(provider="compatible", base_url=f"{address}/v1", **(defaults | settings))


def memory_context(**settings) -> ScoringContext:
    return ScoringContext(cache=MemoryCache(10**8), **settings)


class Watcher:
    """An OnEvent that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def notes(self) -> str:
        return "\n".join(event.message for event in self.events if event.status == "note")


def run(coroutine):
    return asyncio.run(coroutine)
