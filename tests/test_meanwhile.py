"""The encoder is trained while LLMs are asked: at once, in good order, and both or neither."""

from __future__ import annotations

import signal as signal_numbers
import threading
import time

import pytest

from labelfusion import pipeline
from labelfusion.classifier import ML_SOURCE
from labelfusion.config import RunConfig
from labelfusion.encoders.tfidf import TfidfEncoder
from labelfusion.errors import LimitError, ModelError, ProviderError
from labelfusion.llm import scoring_session
from labelfusion.pipeline.meanwhile import meanwhile
from labelfusion.types import Event, ignore_event
from labelfusion.ui.progress import stages
from labelfusion.workspace import Workspace
from tests.command_line import PRICES, asking_config
from tests.llm_server import running

PATIENCE_S = 60


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def slow_encoder(monkeypatch):
    """Makes TF-IDF wait in each fit until `condition`, telling how far it is meanwhile."""

    def wait_for(condition) -> None:
        real = TfidfEncoder.fit

        def fit(self, texts, targets, on_event=ignore_event):
            while not condition():
                on_event(Event("ml", "progress", "waiting", 1, 2, "texts"))
                time.sleep(0.01)
            real(self, texts, targets, on_event)

        monkeypatch.setattr(TfidfEncoder, "fit", fit)

    return wait_for


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Fits a run of 40 tickets that asks the server at an address."""

    def fit(address, on_event=ignore_event, store=None, llm=None, **settings):
        monkeypatch.chdir(tmp_path)
        entry = {"texts_per_request": 1, "concurrency": 2} | (llm or {})
        values = asking_config(tmp_path, address, n=40, **entry)
        config = RunConfig.from_dict(values | settings)
        dataset = pipeline.check(config)
        with scoring_session(config, Workspace.at(tmp_path / "ws"), "run") as context:
            return pipeline.fit(dataset, config, on_event=on_event, store=store, context=context)

    return fit


def test_the_encoder_waits_for_answers_that_come_only_if_both_go_on_at_once(ask, slow_encoder):
    store: dict = {}
    stored_by = {}
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        stored_by.setdefault(event.stage, set()).update(store)

    slow_encoder(lambda: "llm" in store)
    with running() as (server, address):
        run = ask(address, watch, store)
    assert set(store) == {"ml", "llm"}
    assert sum(server.texts.values()) == len(server.texts) == 40
    # The signal was kept while the encoder was still at work.
    assert "llm" in stored_by["ml"]
    assert run.signals["llm"].present.all()
    for stage in ("ml", "llm"):
        told = [e.status for e in events if e.stage == stage and e.status != "note"]
        assert (told[0], told[-1]) == ("start", "done")
        assert set(told[1:-1]) <= {"progress"}
    done = [e.stage for e in events if e.status == "done"]
    assert done == ["split", "llm", "ml", "fusion", "evaluate"]


def test_a_provider_that_cannot_be_used_stops_the_encoder(ask, slow_encoder):
    store: dict = {}
    slow_encoder(lambda: False)
    with running(key="another") as (_, address), pytest.raises(ProviderError, match="be asked"):
        ask(address, store=store)
    assert store == {}


def test_a_spent_budget_stops_the_encoder_where_it_is_to_stop_the_run(ask, slow_encoder):
    slow_encoder(lambda: False)
    costs = {"prices": PRICES, "budget": {"run_usd": 0.02, "when_spent": "stop"}}
    with running() as (server, address), pytest.raises(LimitError):
        ask(address, costs=costs)
    assert 0 < server.counts["paid"] < 40


@pytest.mark.parametrize("error", [ModelError("diverged"), KeyboardInterrupt(), SystemExit(143)])
def test_what_ends_the_encoder_ends_the_requests_and_loses_no_answer(
    ask, slow_encoder, monkeypatch, error
):
    def stop(server) -> None:
        until(lambda: server.counts["paid"] >= 4)
        raise error

    with running(latency=0.05) as (server, address):
        monkeypatch.setattr(TfidfEncoder, "fit", lambda *_, **__: stop(server))
        with pytest.raises(type(error)) as raised:
            ask(address)
        assert raised.value is error
        begun = time.monotonic()
        asked = server.counts["requests"]
        time.sleep(0.2)
        assert server.counts["requests"] == asked < 40
        monkeypatch.undo()
        run = ask(address)
    assert run.signals["llm"].present.all()
    # Only what was under way is asked about again.
    assert sum(server.texts.values()) <= 40 + 2
    assert time.monotonic() - begun < PATIENCE_S


def test_a_request_that_hangs_does_not_hold_up_the_end(ask, slow_encoder, monkeypatch):
    with running(shares={"hang": 1.0}) as (server, address):

        def stop(*_, **__) -> None:
            until(lambda: server.counts["hang"] >= 2)
            raise KeyboardInterrupt

        monkeypatch.setattr(TfidfEncoder, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            ask(address, llm={"timeout_s": 10 * PATIENCE_S})


@pytest.fixture
def interruptible():
    """SIGINT raises, also where a shell started the tests in the background, with it ignored."""
    number = signal_numbers.SIGINT
    before = signal_numbers.signal(number, signal_numbers.default_int_handler)
    yield
    signal_numbers.signal(number, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_to_the_process_ends_the_wait_for_the_llm(ask):
    """The encoder is done; SIGINT comes while the main thread only waits."""
    with running(shares={"hang": 1.0}) as (server, address):
        store: dict = {}

        def interrupt() -> None:
            until(lambda: "ml" in store and server.counts["hang"] >= 2)
            signal_numbers.pthread_kill(threading.main_thread().ident or 0, signal_numbers.SIGINT)

        sender = threading.Thread(target=interrupt)
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            ask(address, store=store, llm={"timeout_s": 10 * PATIENCE_S})
        sender.join()
    assert set(store) == {ML_SOURCE}


def test_a_source_in_the_store_is_not_asked_and_the_encoder_goes_on_alone(ask):
    with running() as (_, address):
        store: dict = {}
        first = ask(address, store=store)
    again = ask("http://127.0.0.1:9", store={"llm": store["llm"]})
    assert again.report == first.report


def test_an_event_that_cannot_be_told_ends_both():
    def full(_: Event) -> None:
        raise OSError("no space left on device")

    cancelled = threading.Event()

    def work(told) -> None:
        told(Event("llm", "start"))

    with pytest.raises(OSError, match="no space"), meanwhile(work, cancelled.set, full) as told:
        until(lambda: told(Event("ml", "start")) is None)


def _told(stage: str, status: str, **data: object) -> dict:
    time_ = "2026-01-31T10:00:00+00:00"
    return {"stage": stage, "status": status, "time": time_, "data": data}


@pytest.mark.parametrize(
    ("later", "ml", "llm"),
    [
        ([_told("ml", "start")], "running", "waiting"),
        ([_told("ml", "start"), _told("llm", "start")], "running", "running"),
        ([_told("ml", "start"), _told("llm", "start"), _told("ml", "done")], "done", "running"),
        ([_told("llm", "start"), _told("ml", "start"), _told("llm", "done")], "running", "done"),
        ([_told("ml", "start"), _told("fusion", "start")], "done", "not needed"),
    ],
)
def test_two_stages_at_once_read_as_what_they_are(later, ml, llm):
    order = ["check", "split", "ml", "llm", "fusion", "evaluate", "save"]
    events = [_told("split", "done", stages=order, beside=["ml", "llm"]), *later]
    states = [stage.state for stage in stages(events, "running")]
    assert states[2:4] == [ml, llm]
    alone = [stage.state for stage in stages(later, "running")]
    assert alone[2] == ("done" if len(later) > 1 else "running")
