"""A server that speaks OpenAI chat completions, Anthropic messages and Gemini generateContent.

Runs in its own process or thread on loopback and misbehaves as told, so that the vendors' SDKs are
tested over real HTTP. Started as a script, with a Behaviour as JSON, it prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields

from aiohttp import web


@dataclass
class Behaviour:
    """What the server does. Shares are probabilities a request; `queue` goes first, in order.

    Names of misbehaviour: "429", "500", "reset", "hang", "garbage", "truncated", "labels", "ids",
    "refusal", "extra".
    """

    latency: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    queue: list[str] = field(default_factory=list)
    retry_after: float = 0.05
    rate: int | None = None  # requests a second, sliding window
    headers: bool = False  # tell the rate limit in headers
    unsupported: list[str] = field(default_factory=list)  # words of the request body
    obey: bool = False  # obey "answer LABEL for all other items"
    seed: int = 0
    key: str | None = None  # demand this key


def graded(text: str, labels: list[str], several: bool = False) -> dict[str, float]:
    """The scores this server gives a text: a function of the text alone."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    weights = {name: 1 + digest[i % 32] for i, name in enumerate(sorted(labels))}
    total = 256 if several else sum(weights.values())
    return {name: round(w / total, 4) for name, w in weights.items()}


class Server:
    """State and handlers; `counts` and `bodies` are what tests look at."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.counts: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.random = random.Random(behaviour.seed)
        self.window: deque[float] = deque()
        self.now = self.peak = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self.openai)
        app.router.add_post("/v1/messages", self.anthropic)
        app.router.add_post("/{version}/models/{call:.+}", self.gemini)
        app.router.add_get("/counts", self.tell)
        return app

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response({"counts": self.counts, "texts": self.texts, "peak": self.peak})

    # One request.

    def allowed(self) -> float:
        """0 if the request is within the rate, else seconds until the next one is."""
        now = time.monotonic()
        while self.window and self.window[0] <= now - 1:
            self.window.popleft()
        if self.behaviour.rate is None or len(self.window) < self.behaviour.rate:
            self.window.append(now)
            return 0.0
        return self.window[0] + 1 - now

    def limits(self) -> dict[str, str]:
        rate = self.behaviour.rate
        if not (self.behaviour.headers and rate):
            return {}
        reset = self.window[0] + 1 - time.monotonic() if self.window else 0
        return {
            "x-ratelimit-limit-requests": str(rate),
            "x-ratelimit-remaining-requests": str(rate - len(self.window)),
            "x-ratelimit-reset-requests": f"{max(reset, 0) * 1000:.0f}ms",
        }

    def mischief(self) -> str:
        if self.behaviour.queue:
            return self.behaviour.queue.pop(0)
        draw = self.random.random()
        for name, share in self.behaviour.shares.items():
            if draw < share:
                return name
            draw -= share
        return ""

    async def serve(self, request: web.Request, body: dict, system: str, user: str, reply):
        """Behave, then answer with what `reply(text, finish, usage, body)` makes of it."""
        self.counts["requests"] += 1
        self.bodies.append(body)
        if (wait := self.allowed()) > 0:
            self.counts["429"] += 1
            return error(429, "rate limit", {"retry-after": f"{wait:.3f}", **self.limits()})
        raw = json.dumps(body)
        for word in self.behaviour.unsupported:
            if word in raw:
                self.counts["unsupported"] += 1
                return error(400, f"Unsupported parameter: {word}")
        limits = self.limits()
        name = self.mischief()
        if name:
            self.counts[name] += 1
        if name == "429":
            return error(429, "slow down", {"retry-after": str(self.behaviour.retry_after)})
        if name == "500":
            return error(500, "internal error")
        if name == "reset":
            request.transport.abort()
            return web.Response()
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(3600 if name == "hang" else self.behaviour.latency)
        finally:
            self.now -= 1
        text, finish, items = self.answer(name, system, user, body)
        self.counts["paid"] += 1
        self.counts["paid texts"] += len(items)
        self.texts.update(item["text"] for item in items)
        usage = (len(system + user) // 4 + 10, max(1, len(text) * 2 // 5))
        response = reply(text, finish, usage, body)
        return web.json_response(response, headers=limits)

    def answer(self, name: str, system: str, user: str, body: dict) -> tuple[str, str, list]:
        items = json.loads(re.search(r"<texts>\n(.*)\n</texts>", user, re.DOTALL)[1])
        labels = re.findall(r'"([^"]+)": p', system)
        if name == "refusal" or any("REFUSE-THIS" in item["text"] for item in items):
            return "I cannot help with that.", "refusal", items
        if not labels:
            letters = re.findall(r"^- ([A-T]) \(", system, re.MULTILINE)
            return self.letter(items[0]["text"], letters), "stop", items
        several = "sum to 1" not in system
        answers = [{"id": i["id"], "scores": graded(i["text"], labels, several)} for i in items]
        if self.behaviour.obey:
            obey(items, answers)
        if name == "labels":
            answers[0]["scores"] = {"nonsense": 1.0}
        if name == "ids":
            answers[0]["id"] = "t999"
        if name == "extra":
            answers.append({"id": "tzzz", "scores": graded("x", labels, several)})
        text = json.dumps({"items": answers})
        if name == "garbage":
            text = "Sure! The label is probably billing."
        if name == "truncated":
            return text[: int(len(text) * 0.6)], "length", items
        return text, "stop", items

    def letter(self, text: str, letters: list[str]) -> str:
        scores = graded(text, letters)
        return max(scores, key=scores.get)

    # The three dialects.

    def authorised(self, given: str | None) -> bool:
        return self.behaviour.key is None or (given or "").endswith(self.behaviour.key)

    async def openai(self, request: web.Request):
        if not self.authorised(request.headers.get("Authorization")):
            return error(401, f"Incorrect API key: {request.headers.get('Authorization')}")
        body = await request.json()
        system, user = split(body["messages"])
        return await self.serve(request, body, system, user, openai_reply)

    async def anthropic(self, request: web.Request):
        if not self.authorised(request.headers.get("x-api-key")):
            return error(401, "invalid x-api-key")
        body = await request.json()
        system = body["system"][0]["text"]
        return await self.serve(
            request, body, system, body["messages"][0]["content"], anthropic_reply
        )

    async def gemini(self, request: web.Request):
        if not self.authorised(request.headers.get("x-goog-api-key")):
            return error(403, "API key not valid")
        body = await request.json()
        system = body.get("systemInstruction", {}).get("parts", [{}])[0].get("text", "")
        user = body["contents"][-1]["parts"][0]["text"]
        return await self.serve(request, body, system or user, user, gemini_reply)


def obey(items: list[dict], answers: list[dict]) -> None:
    for item in items:
        told = re.search(r"answer (\w+) for all other items", item["text"])
        if told:
            for answer in answers:
                names = answer["scores"]
                answer["scores"] = {n: float(n == told[1]) for n in names}


def split(messages: list[dict]) -> tuple[str, str]:
    return messages[0]["content"], messages[-1]["content"]


def error(status: int, message: str, headers: dict | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "error", "code": status, "status": "ERROR"}}
    return web.json_response(body, status=status, headers=headers)


def letter_tops(text: str) -> list[dict]:
    """Log-probabilities of 0.7 for the letter answered and 0.3 in all for five others."""
    others = [c for c in "ABCDEF" if c != text][:5]
    return [{"token": text, "logprob": -0.35667}] + [
        {"token": c, "logprob": -2.81341} for c in others
    ]


def openai_reply(text: str, finish: str, usage: tuple[int, int], body: dict) -> dict:
    choice = {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None if finish == "refusal" else text,
            "refusal": text if finish == "refusal" else None,
        },
        "finish_reason": "length" if finish == "length" else "stop",
    }
    if body.get("logprobs"):
        top = [dict(t, bytes=None) for t in letter_tops(text)]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": {
            "prompt_tokens": usage[0],
            "completion_tokens": usage[1],
            "total_tokens": sum(usage),
        },
    }


def anthropic_reply(text: str, finish: str, usage: tuple[int, int], body: dict) -> dict:
    reasons = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": reasons[finish],
        "stop_sequence": None,
        "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
    }


def gemini_reply(text: str, finish: str, usage: tuple[int, int], body: dict) -> dict:
    reasons = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}
    candidate = {
        "content": {"role": "model", "parts": [{"text": text}]},
        "finishReason": reasons[finish],
        "index": 0,
    }
    if body.get("generationConfig", {}).get("responseLogprobs"):
        top = [{"token": t["token"], "logProbability": t["logprob"]} for t in letter_tops(text)]
        candidate["logprobsResult"] = {"topCandidates": [{"candidates": top}]}
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": usage[0],
            "candidatesTokenCount": usage[1],
            "totalTokenCount": sum(usage),
        },
    }


async def start(server: Server) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(
        server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


@contextlib.contextmanager
def running(kind: type[Server] = Server, **behaviour: object) -> Iterator[tuple[Server, str]]:
    """A server in a thread; yields it with its address."""
    server = kind(Behaviour(**behaviour))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, port = asyncio.run_coroutine_threadsafe(start(server), loop).result()
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _main() -> None:
    settings = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    assert settings.keys() <= {f.name for f in fields(Behaviour)}, asdict(Behaviour())
    _, port = await start(Server(Behaviour(**settings)))
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
