"""The test server with the batch APIs of OpenAI (files, batches) and Anthropic beside."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

from aiohttp import web

from tests.llm_server import Behaviour, Server, anthropic_reply, error, openai_reply, split


class BatchServer(Server):
    """`delay`: seconds a batch takes. `items`: what befalls requests in batches, in order ("error",
    "invalid", or a misbehaviour of `Server`). `fates`: what befalls batches ("expired": the second
    half of it is never asked; "failed"; "mute": it is taken and the reply is lost)."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(behaviour)
        self.delay = 0.0
        self.items: list[str] = []
        self.fates: list[str] = []
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict] = {}

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.download)
        for vendor, path in (("openai", "/v1/batches"), ("anthropic", "/v1/messages/batches")):
            app.router.add_post(path, getattr(self, f"{vendor}_create"))
            app.router.add_get(path, getattr(self, f"{vendor}_list"))
            app.router.add_get(path + "/{id}", getattr(self, f"{vendor}_show"))
            app.router.add_post(path + "/{id}/cancel", getattr(self, f"{vendor}_cancel"))
        app.router.add_get("/v1/messages/batches/{id}/results", self.anthropic_results)
        return app

    # What both have.

    def take(self, requests: list[tuple[str, dict]], **more: object) -> dict:
        fate = self.fates.pop(0) if self.fates else ""
        name = f"batch_{len(self.batches)}"
        self.counts["batches"] += 1
        self.counts["batch requests"] += len(requests)
        batch = {"id": name, "requests": requests, "fate": fate, "created": time.time(), **more}
        self.batches[name] = batch
        return batch

    def ended(self, batch: dict) -> bool:
        return "cancelled" in batch or time.time() >= batch["created"] + self.delay

    def outcomes(self, batch: dict) -> dict[str, tuple[str, dict]]:
        """name -> ("ok" | "error" | "invalid" | "expired", reply), drawn once."""
        if "outcomes" not in batch:
            half = len(batch["requests"]) // 2
            batch["outcomes"] = {
                name: self.outcome(body, batch["fate"] == "expired" and i >= half)
                for i, (name, body) in enumerate(batch["requests"])
            }
        return batch["outcomes"]

    def outcome(self, body: dict, expired: bool) -> tuple[str, dict]:
        kind = "expired" if expired else self.items.pop(0) if self.items else ""
        if kind in ("error", "invalid", "expired"):
            return kind, {}
        claude = "system" in body
        messages = body["messages"]
        pair = (body["system"][0]["text"], messages[0]["content"]) if claude else split(messages)
        text, finish, items = self.answer(kind, *pair, body)
        self.counts["paid"] += 1
        self.counts["paid texts"] += len(items)
        self.texts.update(item["text"] for item in items)
        usage = (sum(map(len, pair)) // 4 + 10, max(1, len(text) * 2 // 5))
        return "ok", (anthropic_reply if claude else openai_reply)(text, finish, usage, body)

    def found(self, request: web.Request) -> dict:
        if request.match_info["id"] not in self.batches:
            raise web.HTTPNotFound
        return self.batches[request.match_info["id"]]

    def answered(self, request: web.Request, batch: dict, shown: dict) -> web.Response:
        if batch["fate"] == "mute":
            request.transport.abort()
        return web.json_response(shown)

    # OpenAI.

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        name = f"file_{len(self.files)}"
        self.files[name] = form["file"].file.read().decode()
        shown = {"id": name, "object": "file", "purpose": "batch", "bytes": 1, "created_at": 0}
        return web.json_response(shown | {"filename": "batch.jsonl", "status": "processed"})

    async def download(self, request: web.Request) -> web.Response:
        return web.Response(text=self.files[request.match_info["id"]])

    async def openai_create(self, request: web.Request) -> web.Response:
        body = await request.json()
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].split("\n")]
        requests = [(line["custom_id"], line["body"]) for line in lines]
        batch = self.take(requests, metadata=body["metadata"])
        return self.answered(request, batch, self.openai_batch(batch))

    async def openai_list(self, _: web.Request) -> web.Response:
        data = [self.openai_batch(batch) for batch in reversed(self.batches.values())]
        return web.json_response({"object": "list", "data": data, "has_more": False})

    async def openai_show(self, request: web.Request) -> web.Response:
        return web.json_response(self.openai_batch(self.found(request)))

    async def openai_cancel(self, request: web.Request) -> web.Response:
        self.counts["cancelled"] += 1
        self.found(request)["cancelled"] = True
        return await self.openai_show(request)

    def openai_batch(self, batch: dict) -> dict:
        n = len(batch["requests"])
        shown = {"id": batch["id"], "object": "batch", "endpoint": "/v1/chat/completions"}
        shown |= {"input_file_id": "f", "completion_window": "24h", "status": "in_progress"}
        shown |= {"created_at": int(batch["created"]), "metadata": batch["metadata"]}
        shown["request_counts"] = {"total": n, "completed": 0, "failed": 0}
        if batch["fate"] == "failed":
            errors = [{"message": "no such model", "code": "x"}]
            return shown | {"status": "failed", "errors": {"object": "list", "data": errors}}
        if not self.ended(batch):
            return shown
        status = "cancelled" if "cancelled" in batch else batch["fate"].replace("mute", "")
        return shown | {"status": status or "completed"} | self.openai_files(batch)

    def openai_files(self, batch: dict) -> dict:
        files = {}
        for name, (kind, reply) in self.outcomes(batch).items():
            line = {"id": "r", "custom_id": name, "response": None, "error": None}
            if kind == "ok":
                line["response"] = {"status_code": 200, "request_id": "q", "body": reply}
            elif kind == "expired":
                line["error"] = {"code": "batch_expired", "message": "was not asked in time"}
            else:
                status = 400 if kind == "invalid" else 500
                body = {"error": {"message": "it went wrong"}}
                line["response"] = {"status_code": status, "request_id": "q", "body": body}
            file = f"{'output' if kind == 'ok' else 'error'}_file_id"
            files.setdefault(file, []).append(json.dumps(line))
        self.files |= {f"{batch['id']}-{file}": "\n".join(ls) for file, ls in files.items()}
        return {file: f"{batch['id']}-{file}" for file in files}

    # Anthropic.

    async def anthropic_create(self, request: web.Request) -> web.Response:
        if not self.authorised(request.headers.get("x-api-key")):
            return error(401, "invalid x-api-key")
        body = await request.json()
        batch = self.take([(item["custom_id"], item["params"]) for item in body["requests"]])
        batch["url"] = f"{request.url.origin()}/v1/messages/batches/{batch['id']}/results"
        return self.answered(request, batch, self.anthropic_batch(batch))

    async def anthropic_list(self, _: web.Request) -> web.Response:
        data = [self.anthropic_batch(batch) for batch in reversed(self.batches.values())]
        return web.json_response({"data": data, "has_more": False, "first_id": "", "last_id": ""})

    async def anthropic_show(self, request: web.Request) -> web.Response:
        return web.json_response(self.anthropic_batch(self.found(request)))

    async def anthropic_cancel(self, request: web.Request) -> web.Response:
        self.counts["cancelled"] += 1
        self.found(request)["cancelled"] = True
        return await self.anthropic_show(request)

    def anthropic_batch(self, batch: dict) -> dict:
        created = datetime.fromtimestamp(batch["created"], UTC)
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        shown = {"id": batch["id"], "type": "message_batch", "created_at": created.isoformat()}
        shown["expires_at"] = (created + timedelta(days=1)).isoformat()
        if not self.ended(batch):
            counts["processing"] = len(batch["requests"])
            return shown | {"processing_status": "in_progress", "request_counts": counts}
        names = {"ok": "succeeded", "expired": "expired"}
        for kind, _ in self.outcomes(batch).values():
            counts[names.get(kind, "errored")] += 1
        cancelled = created.isoformat() if "cancelled" in batch else None
        shown |= {"results_url": batch["url"], "cancel_initiated_at": cancelled}
        return shown | {"processing_status": "ended", "request_counts": counts}

    async def anthropic_results(self, request: web.Request) -> web.Response:
        lines = []
        for name, (kind, reply) in self.outcomes(self.found(request)).items():
            result = {"type": "succeeded", "message": reply}
            if kind == "expired":
                result = {"type": "expired"}
            elif kind != "ok":
                told = "invalid_request_error" if kind == "invalid" else "api_error"
                inner = {"type": told, "message": "it went wrong"}
                result = {"type": "errored", "error": {"type": "error", "error": inner}}
            lines.append(json.dumps({"custom_id": name, "result": result}))
        return web.Response(text="\n".join(lines) + "\n", content_type="application/x-jsonl")
