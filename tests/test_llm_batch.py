"""Batch APIs over real HTTP with the vendors' SDKs: nothing is lost, guessed or paid twice."""

from __future__ import annotations

import asyncio
import json
import signal as signals
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from labelfusion.cache import open_cache
from labelfusion.config import BudgetConfig, CacheConfig, CostConfig, LLMConfig, PriceConfig
from labelfusion.costs import Ledger, Meter, PriceBook, estimate
from labelfusion.errors import ConfigError, LimitError, ProviderError
from labelfusion.files import TEMPORARY
from labelfusion.llm import ScoringContext, batch, score_rows
from labelfusion.llm.remote import plan_costs, score_async
from labelfusion.types import Rows
from tests.llm_batch_server import BatchServer
from tests.llm_helpers import KEYS, SPACE, Watcher, rows
from tests.llm_server import graded, running

ROOT = Path(__file__).parent.parent
N, REQUESTS = 40, 5  # texts, and requests of eight of them
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
PATHS = {"openai": "/v1", "anthropic": ""}
each_vendor = pytest.mark.parametrize("vendor", MODELS)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no .env of the machine
    monkeypatch.setattr(batch, "_FIRST_POLL_S", 0.05)
    monkeypatch.setattr(batch, "_ARRIVED_S", 0.2)
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


def entry(vendor: str, address: str, **settings) -> LLMConfig:
    values = {"model": MODELS[vendor], "max_attempts": 2, "timeout_s": 5, "batch": True}
    return LLMConfig(provider=vendor, base_url=address + PATHS[vendor], **(values | settings))


def context(folder: Path, usd: float | None = None, **settings) -> ScoringContext:
    costs = CostConfig(budget=BudgetConfig(run_usd=usd))
    values = {
        "cache": open_cache(CacheConfig(), folder),
        "meter": Meter(Ledger(folder / "ledger.sqlite"), "run", costs),
        "batches": folder / "batches",
    }
    return ScoringContext(**(values | settings))


def assert_right(signal, asked: Rows) -> None:
    expected = [[graded(t, list(SPACE.names))[n] for n in SPACE.names] for t in asked.texts]
    assert signal.coverage == 1
    np.testing.assert_allclose(signal.scores, expected)


def statuses() -> list[str]:
    return [row["status"] for row in Ledger(Path("ledger.sqlite")).rows()]


def left_behind() -> list[Path]:
    """Records of batches; a process killed while writing one may leave a temporary file too."""
    return [path for path in Path("batches").glob("*.json") if TEMPORARY not in path.name]


@each_vendor
def test_a_batch_scores_as_requests_do(vendor, tmp_path):
    lent, watcher = context(tmp_path), Watcher()
    with running(BatchServer) as (server, address):
        server.delay = 1.2
        signal = score_rows(entry(vendor, address), rows(N), SPACE, on_event=watcher, context=lent)
        at_once = entry(vendor, address, batch=False)
        again = score_rows(at_once, rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    np.testing.assert_array_equal(signal.scores, again.scores)
    assert (server.counts["requests"], server.counts["batches"]) == (1, 1)
    assert server.counts["batch requests"] == REQUESTS - 1
    assert "4 requests handed in" in watcher.notes
    assert any("0 of 4 requests done" in event.message for event in watcher.events)
    assert {event.stage for event in watcher.events} == {"llm"}
    assert left_behind() == []


@each_vendor
def test_a_batch_is_settled_at_the_batch_price_of_what_was_used(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (_, address):
        score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    first, whole, *_ = Ledger(tmp_path / "ledger.sqlite").rows()
    assert (first["status"], whole["status"], whole["texts"]) == ("ok", "ok", N - 8)
    per_token = [
        row["usd"] / (row["input_tokens"] + 4 * row["output_tokens"]) for row in (first, whole)
    ]
    if vendor == "openai":  # output costs four times the input, and a batch half of it
        assert per_token[1] == pytest.approx(per_token[0] / 2)
    assert whole["usd"] < first["usd"] * (REQUESTS - 1) * Decimal("0.6")
    assert lent.meter.spend().run.reserved == 0


def test_a_price_of_the_users_own_is_not_halved(tmp_path):
    price = PriceConfig(input_per_million=100, output_per_million=100)
    costs = CostConfig(prices={MODELS["openai"]: price})
    lent = context(tmp_path, meter=Meter(Ledger(tmp_path / "own.sqlite"), "run", costs))
    with running(BatchServer) as (_, address):
        score_rows(entry("openai", address), rows(N), SPACE, context=lent)
    for row in Ledger(tmp_path / "own.sqlite").rows():
        assert row["usd"] * 10_000 == row["input_tokens"] + row["output_tokens"]


@each_vendor
def test_what_is_cached_is_not_handed_in(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        score_rows(entry(vendor, address, batch=False), rows(24), SPACE, context=lent)
        server.texts.clear()
        signal = score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
        score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    assert sorted(server.texts) == sorted(rows(N).texts[24:])
    assert set(server.texts.values()) == {1}


@each_vendor
@pytest.mark.parametrize("trouble", ["garbage", "labels", "refusal", "invalid"])
def test_a_reply_of_no_use_is_asked_about_again_at_once(vendor, trouble, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        server.items = [trouble]
        signal = score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    assert server.counts["batches"] == 1
    assert server.counts["requests"] == 1 + (1 if trouble == "labels" else 8)


@each_vendor
def test_what_got_no_reply_goes_into_the_next_batch(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        server.items = ["error"]
        signal = score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    assert (server.counts["requests"], server.counts["batches"]) == (1, 2)
    assert server.counts["batch requests"] == REQUESTS


@each_vendor
def test_an_expired_batch_is_read_as_far_as_it_went(vendor, tmp_path):
    lent, watcher = context(tmp_path), Watcher()
    with running(BatchServer) as (server, address):
        server.fates = ["expired"]
        signal = score_rows(entry(vendor, address), rows(N), SPACE, on_event=watcher, context=lent)
    assert_right(signal, rows(N))
    assert set(server.texts.values()) == {1}
    assert server.counts["batches"] == 2
    assert "expired" in watcher.notes
    assert statuses() == ["ok", "expired", "ok"]


@each_vendor
def test_what_is_never_answered_is_missing(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        server.items = ["error"] * 100
        signal = score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    assert signal.present.sum() == 8
    assert server.counts["batches"] == 3
    assert lent.meter.spend().run.reserved == 0


def test_a_rejected_batch_costs_nothing_and_leaves_rows_missing(tmp_path):
    lent, watcher = context(tmp_path), Watcher()
    with running(BatchServer) as (server, address):
        server.fates = ["failed"]
        signal = score_rows(
            entry("openai", address), rows(N), SPACE, on_event=watcher, context=lent
        )
    assert signal.present.sum() == 8
    assert "no such model" in watcher.notes
    assert statuses() == ["ok", "failed"]
    assert left_behind() == []


# Kills, cancellations and lost replies.

RUN = """
import json, sys
from pathlib import Path
from labelfusion.llm import batch, score_rows
from tests.llm_helpers import SPACE, rows
from tests.test_llm_batch import context, entry
batch._FIRST_POLL_S = 0.05
vendor, address, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
signal = score_rows(entry(vendor, address), rows(40), SPACE, context=context(folder))
print(int(signal.present.sum()))
"""


def start_run(vendor, address, folder):
    command = [sys.executable, "-c", RUN, vendor, address, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@each_vendor
def test_a_killed_run_takes_up_its_batch_and_pays_nothing_twice(vendor, tmp_path):
    with running(BatchServer) as (server, address):
        server.delay = 3600
        first = start_run(vendor, address, tmp_path)
        while not any(
            json.loads(p.read_text())["batch_id"] for p in tmp_path.glob("batches/*.json")
        ):
            time.sleep(0.02)
        first.send_signal(signals.SIGKILL)
        first.communicate()
        server.delay = 0
        (record,) = left_behind()
        assert "number 1" not in record.read_text()
        lent = context(tmp_path)
        assert lent.meter.spend().run.reserved > 0
        signal = score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    assert (server.counts["batches"], server.counts["requests"]) == (1, 1)
    assert set(server.texts.values()) == {1}
    assert statuses() == ["ok", "cached", "ok"]
    assert lent.meter.spend().run.reserved == 0
    assert left_behind() == []


@each_vendor
def test_a_batch_answers_for_texts_that_are_no_longer_asked_about(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        server.delay = 3600
        asyncio.run(cancelled(entry(vendor, address), lent, server))
        del server.batches["batch_0"]["cancelled"]
        server.delay = 0
        assert_right(score_rows(entry(vendor, address), rows(20), SPACE, context=lent), rows(20))
        assert_right(score_rows(entry(vendor, address), rows(N), SPACE, context=lent), rows(N))
    assert set(server.texts.values()) == {1}
    assert server.counts["batches"] == 1


async def cancelled(asked, lent, server):
    work = asyncio.create_task(score_async(asked, rows(N), SPACE, context=lent))
    while not server.batches:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


@each_vendor
def test_cancelling_cancels_the_batch_and_keeps_what_it_answered(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        server.delay = 3600
        asyncio.run(cancelled(entry(vendor, address), lent, server))
        assert server.counts["cancelled"] == 1
        assert len(left_behind()) == 1
        signal = score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    assert set(server.texts.values()) == {1}
    assert lent.meter.spend().run.reserved == 0


@each_vendor
def test_a_batch_whose_id_was_lost_is_found_again(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        server.fates = ["mute"]
        signal = score_rows(entry(vendor, address), rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    assert server.counts["batches"] == 1
    assert set(server.texts.values()) == {1}


@each_vendor
def test_a_batch_that_another_account_handed_in_is_left_alone(vendor, tmp_path):
    lent = context(tmp_path)
    with running(BatchServer) as (server, address):
        server.delay = 3600
        asyncio.run(cancelled(entry(vendor, address), lent, server))
        server.batches.clear()
        with pytest.raises(ProviderError, match="does not know the batch"):
            score_rows(
                entry(vendor, address),
                rows(N),
                SPACE,
                context=context(tmp_path, cache=None),
            )
    assert len(left_behind()) == 1


# Money.


@each_vendor
def test_a_batch_that_does_not_fit_the_budget_is_handed_in_in_part(vendor, tmp_path):
    with running(BatchServer) as (server, address):
        asked = entry(vendor, address)
        prices = PriceBook({})
        told = estimate([plan_costs(asked, rows(8), SPACE, prices=prices)])
        request = told.at_most.usd / 96  # eight texts, each asked about alone up to twelve times
        lent = context(tmp_path, float(request * Decimal("3.4")))
        signal = score_rows(asked, rows(N), SPACE, context=lent)
    assert_right(signal, rows(N))
    assert server.counts["batches"] > 1
    assert lent.meter.spend().run.reserved == 0


@each_vendor
def test_a_spent_budget_hands_in_nothing(vendor, tmp_path):
    watcher = Watcher()
    with running(BatchServer) as (server, address):
        lent = context(tmp_path, 0.0001)
        signal = score_rows(entry(vendor, address), rows(N), SPACE, on_event=watcher, context=lent)
        assert not signal.present.any()
        assert "budget" in watcher.notes
        stopping = context(tmp_path, 0.0001, stop_when_spent=True)
        with pytest.raises(LimitError):
            score_rows(entry(vendor, address), rows(N), SPACE, context=stopping)
    assert server.counts["batches"] == server.counts["requests"] == 0


def test_the_estimate_takes_the_batch_price():
    asked = entry("openai", "http://127.0.0.1:9")
    whole, half = (
        estimate([plan_costs(one, rows(N), SPACE, prices=PriceBook({}))]).expected
        for one in (asked.model_copy(update={"batch": False}), asked)
    )
    assert half.usd == pytest.approx(whole.usd / 2)


@pytest.mark.parametrize("provider", ["deepseek", "compatible", "gemini", "local", "recorded"])
def test_a_provider_without_a_batch_api_says_so(provider, tmp_path):
    asked = LLMConfig(
        provider=provider, model="m", base_url="http://127.0.0.1:9", path="x.csv", batch=True
    )
    with pytest.raises(ConfigError, match=r"anthropic or openai.*Set batch to false"):
        score_rows(asked, rows(2), SPACE)
