"""What the LLM sources of a run asked and cost, as the run folder keeps it in usage.jsonl.

Reads the workspace's ledger. The money of a run whose work goes on is in its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from labelfusion.config import RunConfig
from labelfusion.costs import LEDGER_NAME, CostLine, open_ledger, summarise, to_json
from labelfusion.files import to_json as json_text
from labelfusion.files import write_text
from labelfusion.runs.folder import RunFolder
from labelfusion.workspace import Workspace

# A source's record beside its name, provider and model; the figures of one that asked nobody.
_NOTHING = {
    **dict.fromkeys(("requests", "texts", "input_tokens", "cached_input_tokens"), 0),
    **dict.fromkeys(("cache_write_tokens", "output_tokens", "usd", "unpriced"), 0),
    **dict.fromkeys(("mean_latency_s", "cached_texts"), 0),
    "saved_usd": None,
}


def save_usage(folder: RunFolder, config: RunConfig, workspace: Workspace) -> None:
    """Write one line for each LLM source of the run: what it has asked and cost so far."""
    spent = {line.group: line for line in _spent(folder.id, workspace)}
    lines = [
        {"source": entry.name, "provider": entry.provider, "model": entry.model}
        | _figures(spent.get(entry.name))
        for entry in config.llm
    ]
    write_text(folder.usage, "".join(json_text(line) + "\n" for line in lines))


def _spent(run: str, workspace: Workspace) -> list[CostLine]:
    if not (workspace.root / LEDGER_NAME).is_file():
        return []
    with closing(open_ledger(workspace.root)) as ledger:
        return summarise(ledger, "source", run=run)


def _figures(line: CostLine | None) -> dict[str, Any]:
    if line is None:
        return dict(_NOTHING)
    return {name: value for name, value in to_json(line).items() if name in _NOTHING}


def usage_sentence(record: Mapping[str, Any]) -> str:
    """A record of usage.jsonl in words."""
    if record["provider"] == "recorded":
        return f"{record['source']}: recorded scores, nothing asked"
    priced = record["unpriced"] < max(record["requests"], 1)
    money = f"${record['usd']:.4f}" if priced else "unknown price"
    return (
        f"{record['source']}: {record['provider']} {record['model'] or ''}, "
        f"{record['requests']} requests, {record['input_tokens']} tokens in, "
        f"{record['output_tokens']} out, {record['cached_texts']} texts from the cache, {money}"
    )


def spent_usd(records: Iterable[Mapping[str, Any]]) -> float | None:
    """US dollars over all sources; None if a request has no known price."""
    records = list(records)
    if any(record["unpriced"] for record in records):
        return None
    return sum(record["usd"] for record in records)
