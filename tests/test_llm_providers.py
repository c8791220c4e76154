"""Every vendor's SDK over real HTTP: what is sent, what comes back, and what goes wrong."""

from __future__ import annotations

import json
import sys
import traceback

import numpy as np
import pytest

from labelfusion.config import BudgetConfig, CostConfig, LLMConfig, PriceConfig
from labelfusion.costs import Ledger, Meter, PriceBook
from labelfusion.errors import ConfigError, LabelFusionError, MissingKeyError, ProviderError
from labelfusion.llm import score_rows
from labelfusion.llm.credentials import redact
from labelfusion.llm.providers import model_name
from labelfusion.llm.providers.base import Capabilities
from labelfusion.llm.providers.http import failure, rate_limits, retry_after
from labelfusion.llm.remote import check_provider
from labelfusion.types import LabelSpace
from tests.llm_helpers import KEYS, SPACE, Watcher, compatible, memory_context, rows
from tests.llm_server import graded, running

PRICE = {"input_per_million": 100.0, "output_per_million": 400.0}
VENDORS = {
    "openai": {"provider": "openai", "path": "/v1"},
    "deepseek": {"provider": "deepseek", "path": "/v1"},
    "compatible": {"provider": "compatible", "model": "m", "path": "/v1"},
    "anthropic": {"provider": "anthropic", "path": ""},
    "gemini": {"provider": "gemini", "path": "", "sdk": "google-genai"},
    "gemini-legacy": {"provider": "gemini", "path": "", "sdk": "google-generativeai"},
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # google-generativeai says it has ended
    pytest.mark.usefixtures("keys"),
]


@pytest.fixture
def keys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no .env of the machine
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


def entry(vendor: str, address: str, **settings) -> LLMConfig:
    values = dict(VENDORS[vendor])
    values["base_url"] = address + values.pop("path")
    return LLMConfig(**(values | {"max_attempts": 3, "timeout_s": 5, "concurrency": 2} | settings))


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("several", [False, True])
def test_every_vendor_scores(vendor, several):
    space = LabelSpace(SPACE.names, several)
    asked = rows(10)
    with running() as (server, address):
        signal = score_rows(entry(vendor, address), asked, space)
    assert signal.coverage == 1
    expected = [list(graded(text, list(SPACE.names), several).values()) for text in asked.texts]
    np.testing.assert_allclose(signal.scores, expected)
    assert server.counts["paid"] == 2
    assert vendor.split("-")[0] in signal.origin


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("mischief", ["429", "500", "reset", "garbage", "truncated", "refusal"])
def test_every_vendor_recovers(vendor, mischief):
    with running(queue=[mischief]) as (server, address):
        signal = score_rows(entry(vendor, address), rows(3), SPACE)
    assert signal.coverage == 1
    assert server.counts[mischief] == 1
    assert server.counts["requests"] > 1


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_reply_that_does_not_come_is_given_up(vendor):
    with running(queue=["hang"]) as (server, address):
        signal = score_rows(entry(vendor, address, timeout_s=0.5), rows(2), SPACE)
    assert signal.coverage == 1
    assert server.counts["requests"] == 2


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_wrong_key_is_an_error_that_does_not_show_it(vendor):
    settings = {"api_key_env": "OPENAI_API_KEY"} if vendor == "compatible" else {}
    with running(key="another") as (_, address):
        asked = entry(vendor, address, **settings)
        with pytest.raises(ProviderError) as caught:
            score_rows(asked, rows(2), SPACE)
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(key in shown for key in KEYS.values())
    assert "Check the key" in shown


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_server_that_is_not_there_costs_nothing(vendor, tmp_path):
    costs = CostConfig(budget=BudgetConfig(run_usd=100), prices={"m": PriceConfig(**PRICE)})
    context = memory_context(meter=Meter(Ledger(tmp_path / "ledger.sqlite"), "run", costs))
    asked = entry(vendor, "http://127.0.0.1:9", model="m", max_attempts=1)
    with pytest.raises(ProviderError, match="answered nothing"):
        score_rows(asked, rows(1), SPACE, context=context)
    assert context.meter.spend().run.total == 0


def test_what_is_sent_to_openai():
    with running() as (server, address):
        score_rows(entry("openai", address, reasoning_effort="low"), rows(2), SPACE)
    body = server.bodies[0]
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["reasoning_effort"] == "low"
    assert body["temperature"] == 0
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_what_is_sent_to_claude():
    with running() as (server, address):
        score_rows(entry("anthropic", address), rows(2), SPACE)
    body = server.bodies[0]
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["thinking"] == {"type": "disabled"}


def test_what_is_sent_to_gemini():
    with running() as (server, address):
        score_rows(entry("gemini", address), rows(2), SPACE)
    settings = server.bodies[0]["generationConfig"]
    assert settings["responseMimeType"] == "application/json"
    assert settings["responseJsonSchema"]["required"] == ["items"]


@pytest.mark.parametrize(
    ("vendor", "words"),
    [
        ("openai", ["json_schema", "reasoning_effort", "temperature", "max_completion_tokens"]),
        ("compatible", ["response_format"]),
        ("anthropic", ["thinking", "temperature", "output_config"]),
        ("gemini", ["responseJsonSchema", "thinkingConfig"]),
    ],
)
def test_what_a_model_lacks_is_found_out_once(vendor, words):
    with running(unsupported=words) as (server, address):
        signal = score_rows(entry(vendor, address, concurrency=1), rows(40), SPACE)
    assert signal.coverage == 1
    assert server.counts["unsupported"] <= len(words) + 1
    assert server.counts["paid"] == 5


NO_REASONING = {
    "openai": {"reasoning_effort": "none"},
    "compatible": {"reasoning_effort": "none"},
    "deepseek": {"thinking": {"type": "disabled"}},
    "anthropic": {"thinking": {"type": "disabled"}},
    "gemini": {"thinking_level": "MINIMAL"},
}
LEAST_REASONING = {
    "openai": {"reasoning_effort": "low"},
    "compatible": {"reasoning_effort": "low"},
    "deepseek": {"reasoning_effort": "low"},
    "anthropic": {"effort": "low"},
    "gemini": {"thinking_level": "LOW"},
}


def within(body, part):
    """Whether JSON holds `part`, an object's member, anywhere."""
    return json.dumps(part)[1:-1] in json.dumps(body)


@pytest.mark.parametrize("vendor", NO_REASONING)
def test_a_model_is_asked_not_to_reason_and_else_to_reason_the_least(vendor):
    with running() as (server, address):
        score_rows(entry(vendor, address), rows(2), SPACE)
    assert within(server.bodies[0], NO_REASONING[vendor])

    with running(unsupported=[json.dumps(NO_REASONING[vendor])[1:-1]]) as (server, address):
        signal = score_rows(entry(vendor, address), rows(2), SPACE)
    assert signal.coverage == 1
    assert within(server.bodies[-1], LEAST_REASONING[vendor])
    assert server.counts["unsupported"] == 1


@pytest.mark.parametrize("vendor", NO_REASONING)
def test_a_model_keeps_its_own_way_to_reason_where_that_is_asked_for(vendor):
    with running() as (server, address):
        score_rows(entry(vendor, address, reasoning_effort="default"), rows(2), SPACE)
    sent = json.dumps(server.bodies[0]).lower()
    assert not any(word in sent for word in ("reasoning", "thinking", "effort"))


@pytest.mark.parametrize("provider", ["openai", "deepseek", "anthropic", "gemini"])
def test_the_model_asked_by_default_has_a_price(provider):
    model = model_name(LLMConfig(provider=provider))
    assert PriceBook({}).price(provider, model) is not None


def test_a_feature_that_worked_is_not_given_up():
    capabilities = Capabilities(("json_schema", "temperature"))
    capabilities.confirm(frozenset({"json_schema"}))
    assert capabilities.drop("bad schema", frozenset({"json_schema", "temperature"}))
    assert capabilities.active == {"json_schema"}
    assert not capabilities.drop("bad schema", frozenset({"json_schema"}))


@pytest.mark.parametrize("vendor", ["openai", "gemini"])
def test_log_probabilities(vendor):
    with running() as (server, address):
        signal = score_rows(entry(vendor, address, output="logprobs"), rows(3), SPACE)
    assert server.counts["paid"] == 3
    np.testing.assert_allclose(signal.scores.sum(axis=1), 1)
    np.testing.assert_allclose(signal.scores.max(axis=1), 0.7 / (0.7 + 2 * 0.06), atol=1e-3)


@pytest.mark.parametrize("vendor", ["anthropic", "gemini-legacy"])
def test_log_probabilities_are_refused_where_there_are_none(vendor):
    with pytest.raises(ConfigError, match="no log-probabilities"):
        score_rows(entry(vendor, "http://127.0.0.1:9", output="logprobs"), rows(1), SPACE)


def test_log_probabilities_are_for_labels_that_exclude_each_other():
    with pytest.raises(ConfigError, match="exclude each other"):
        score_rows(
            entry("openai", "http://127.0.0.1:9", output="logprobs"),
            rows(1),
            LabelSpace(SPACE.names, multi_label=True),
        )


def test_a_missing_key_names_its_variable(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        score_rows(LLMConfig(provider="openai"), rows(1), SPACE)
    assert not check_provider(LLMConfig(provider="openai")).works


def test_a_key_from_a_dotenv_file(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY")
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-from-dotenv-123\n")
    with running(key="sk-from-dotenv-123") as (_, address):
        assert score_rows(entry("openai", address), rows(1), SPACE).coverage == 1


def test_a_named_key_variable_must_be_set():
    with pytest.raises(MissingKeyError, match="MY_SERVER_KEY"):
        score_rows(compatible("http://127.0.0.1:9", api_key_env="MY_SERVER_KEY"), rows(1), SPACE)


def test_an_absent_sdk_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(LabelFusionError, match=r"labelfusion\[anthropic\]"):
        score_rows(LLMConfig(provider="anthropic"), rows(1), SPACE)


def test_checking_a_provider():
    with running() as (server, address):
        check = check_provider(compatible(address))
    assert check.works
    assert server.counts["requests"] == 1


def test_redaction():
    key = KEYS["OPENAI_API_KEY"]
    message = f"bad key {key}, Bearer abc.def, https://x?key=AIzaSyExample123 sk-proj-abcdefgh1234"
    shown = redact(message, key)
    for secret in (key, "abc.def", "AIzaSyExample123", "sk-proj-abcdefgh1234"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "slow down", "rate"),
        (429, "You exceeded your quota: insufficient_quota", "fatal"),
        (400, "Your credit balance is too low", "fatal"),
        (529, "overloaded", "server"),
        (400, "maximum context length is 8192 tokens", "too_long"),
        (400, "blocked by content_filter", "refused"),
        (400, "unknown field", "unsupported"),
        (404, "no such model", "fatal"),
    ],
)
def test_what_a_status_means(status, message, kind):
    assert failure(status, message, {}).kind == kind


def test_waits_that_headers_tell():
    assert retry_after({"retry-after-ms": "1500"}) == 1.5
    assert retry_after({"retry-after": "2"}) == 2
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert failure(429, "'retryDelay': '12s'", {}).retry_after_s == 12
    names = ("limit", "remaining", "reset")
    openai = dict(
        zip((f"x-ratelimit-{n}-requests" for n in names), ("60", "5", "1m2.5s"), strict=True)
    )
    assert rate_limits(openai).reset_s == 62.5
    claude = (f"anthropic-ratelimit-requests-{n}" for n in names)
    values = ("50", "0", "2015-10-21T07:28:00Z")
    assert rate_limits(dict(zip(claude, values, strict=True))).reset_s == 0


def test_the_key_is_in_no_event_and_no_answer():
    watcher, context = Watcher(), memory_context()
    with running(shares={"500": 0.3}) as (_, address):
        score_rows(entry("openai", address), rows(8), SPACE, on_event=watcher, context=context)
    kept = str([*context.cache.records(), *watcher.events])
    assert "number 3" not in kept
    assert "scores" in kept
    assert KEYS["OPENAI_API_KEY"] not in kept
