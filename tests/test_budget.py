import asyncio
import csv
import random
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelfusion.config import CostConfig
from labelfusion.costs import (
    CostWarning,
    Ledger,
    Meter,
    RequestEstimate,
    Usage,
    export_csv,
    open_ledger,
    open_meter,
    summarise,
    to_json,
)
from labelfusion.costs.ledger import Entry
from labelfusion.errors import ConfigError, InputError, LabelFusionError, LimitError

# A dollar per thousand tokens of either kind: sums can be read off.
PRICES = {"m": {"input_per_million": 1000, "output_per_million": 1000}}


def costs(run=None, month=None, prices=PRICES):
    return CostConfig.model_validate(
        {"budget": {"run_usd": run, "month_usd": month}, "prices": prices}
    )


def asked(input_tokens=500, output_tokens=500, **changes):
    values = {"source": "llm", "provider": "compatible", "model": "m", "texts": 8} | changes
    return RequestEstimate(input_tokens=input_tokens, max_output_tokens=output_tokens, **values)


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path)
    yield opened
    opened.close()


def reserve(meter, *arguments, **changes):
    return asyncio.run(meter.reserve(asked(*arguments, **changes)))


def settle(meter, reservation, input_tokens, output_tokens, status="ok"):
    meter.settle(reservation, Usage(input_tokens, output_tokens), status=status, latency_s=0.5)


def test_a_request_is_reserved_at_its_worst_and_settled_at_its_cost(ledger):
    meter = Meter(ledger, "r1", costs(run=10))
    reservation = reserve(meter)
    assert meter.spend().run.reserved == 1
    assert meter.spend().left == 9
    settle(meter, reservation, 400, 100)
    spend = meter.spend()
    assert (spend.run.settled, spend.run.reserved, spend.left) == (
        Decimal("0.5"),
        0,
        Decimal("9.5"),
    )


def test_the_limit_may_be_reached_and_not_passed(ledger):
    meter = Meter(ledger, "r1", costs(run=2))
    for _ in range(2):
        settle(meter, reserve(meter), 500, 500)
    with pytest.raises(LimitError, match=r"run budget.*at most 2.*3.*run_usd") as caught:
        reserve(meter)
    assert (caught.value.value, caught.value.limit) == (3, 2)
    assert meter.spend().run.total == 2


def test_a_request_that_was_not_billed_costs_nothing_but_is_on_record(ledger):
    meter = Meter(ledger, "r1", costs(run=1))
    meter.release(reserve(meter), status="429", latency_s=0.1)
    settle(meter, reserve(meter), 500, 500)
    assert [(row["status"], row["usd"]) for row in ledger.rows()] == [("429", 0), ("ok", 1)]


def test_a_request_that_may_have_been_billed_counts_at_its_worst(ledger):
    meter = Meter(ledger, "r1", costs(run=1))
    meter.forfeit(reserve(meter), status="timeout", latency_s=60)
    assert meter.spend().run.settled == 1
    with pytest.raises(LimitError):
        reserve(meter)


def test_a_reservation_ends_once(ledger):
    meter = Meter(ledger, "r1", costs())
    reservation = reserve(meter)
    settle(meter, reservation, 1, 1)
    for end in (meter.release, meter.forfeit):
        with pytest.raises(ValueError, match="settled before"):
            end(reservation, status="x", latency_s=0)
    assert len(list(ledger.rows())) == 1


def test_a_run_has_its_own_budget_and_the_month_is_shared(tmp_path):
    first = open_meter(tmp_path, "r1", costs(run=2, month=3))
    second = open_meter(tmp_path, "r2", costs(run=2, month=3))
    for meter in (first, second, first):
        settle(meter, reserve(meter), 500, 500)
    with pytest.raises(LimitError, match="month budget"):
        reserve(second)


def test_a_resumed_run_counts_on(tmp_path):
    settle_all = open_meter(tmp_path, "r1", costs(run=2))
    settle(settle_all, reserve(settle_all), 500, 500)
    again = open_meter(tmp_path, "r1", costs(run=2))
    assert again.spend().run.settled == 1


def test_a_month_counts_what_was_sent_in_it(ledger):
    past = Entry(datetime(2020, 1, 31, tzinfo=UTC), "r1", "llm", "compatible", "m", 1)
    ledger.add(past, Usage(1, 1), Decimal(5), latency_s=1, status="ok")
    meter = Meter(ledger, "r1", costs(month=1))
    settle(meter, reserve(meter), 500, 500)
    assert ledger.spend(month="2020-01").settled == 5
    assert meter.spend().month.settled == 1
    assert meter.spend().run.settled == 6


def test_an_unknown_price_with_a_budget_is_refused_with_the_remedy(ledger):
    for limits in ({"run": 1}, {"month": 1}):
        meter = Meter(ledger, "r1", costs(**limits, prices={}))
        with pytest.raises(ConfigError, match=r"costs\.prices\.m\.input_per_million.*own"):
            reserve(meter)


def test_an_unknown_price_without_a_budget_is_on_record_as_unknown(ledger):
    meter = Meter(ledger, "r1", costs(prices={}))
    settle(meter, reserve(meter), 500, 500)
    (row,) = ledger.rows()
    assert row["usd"] is None
    assert meter.spend().run.unpriced == 1
    assert summarise(ledger, "run")[0].unpriced == 1


@pytest.mark.parametrize("provider", ["local", "recorded"])
def test_what_is_free_needs_no_budget(ledger, provider):
    meter = Meter(ledger, "r1", costs(run=0, prices={}))
    settle(meter, reserve(meter, provider=provider), 500, 500)
    assert [row["usd"] for row in ledger.rows()] == [0]


def test_a_request_waits_for_what_is_under_way_before_it_is_refused(ledger):
    meter = Meter(ledger, "r1", costs(run=1))

    async def scenario():
        first = await meter.reserve(asked())
        waiting = asyncio.create_task(meter.reserve(asked(400, 400)))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        settle(meter, first, 100, 100)
        return await asyncio.wait_for(waiting, 5)

    settle(meter, asyncio.run(scenario()), 400, 400)
    assert meter.spend().run.total == 1


def test_a_waiting_request_is_refused_when_the_money_is_gone(ledger):
    meter = Meter(ledger, "r1", costs(run=1))

    async def scenario():
        first = await meter.reserve(asked())
        waiting = asyncio.create_task(meter.reserve(asked()))
        await asyncio.sleep(0.02)
        settle(meter, first, 100, 100)
        await asyncio.wait_for(waiting, 5)

    with pytest.raises(LimitError):
        asyncio.run(scenario())
    assert meter.spend().run.total == Decimal("0.2")


def test_a_waiting_request_can_be_cancelled(ledger):
    meter = Meter(ledger, "r1", costs(run=1))

    async def scenario():
        first = await meter.reserve(asked())
        waiting = asyncio.create_task(meter.reserve(asked()))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        meter.release(first, status="cancelled", latency_s=0)

    asyncio.run(scenario())
    assert meter.spend().run.total == 0


def test_the_money_of_another_process_is_not_waited_for(tmp_path):
    other = open_meter(tmp_path, "r1", costs(month=1))
    reserve(other)
    with pytest.raises(LimitError):
        reserve(open_meter(tmp_path, "r2", costs(month=1)))


def test_a_wrong_bound_is_told_and_learnt_from(ledger):
    meter = Meter(ledger, "r1", costs(run=100))
    reservations = [reserve(meter) for _ in range(3)]
    for reservation in reservations:
        with pytest.warns(CostWarning, match="more than"):
            settle(meter, reservation, 1500, 500)
    reserve(meter)
    assert meter.spend().run.reserved == 2


def test_the_ledger_cannot_be_changed(ledger):
    meter = Meter(ledger, "r1", costs())
    settle(meter, reserve(meter), 500, 500)
    connection = sqlite3.connect(ledger.path)
    for sql in ("UPDATE requests SET usd = '0'", "DELETE FROM requests"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(sql)
    connection.close()
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_a_damaged_ledger_stops_spending_and_says_why(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(LabelFusionError, match="nothing more is spent"):
        Ledger(path)
    assert path.read_bytes() == b"no database" * 1000


def test_a_newer_ledger_is_not_touched(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LabelFusionError, match="newer"):
        Ledger(path)


def fill(ledger):
    for run, model, tokens in (("r1", "m", 1000), ("r1", "n", 3000), ("r2", "m", 500)):
        prices = {model: PRICES["m"]}
        meter = Meter(ledger, run, costs(prices=prices))
        settle(meter, reserve(meter, 9000, 9000, model=model), tokens - 100, 100)
    meter.release(reserve(meter), status="500", latency_s=1.5)
    meter.note_cached("llm", "compatible", "m", 32)
    meter.note_cached("llm", "compatible", "m", 0)


def test_costs_are_summed_by_any_column(ledger):
    fill(ledger)
    by_run = {line.group: line for line in summarise(ledger, "run")}
    assert (by_run["r1"].usd, by_run["r2"].usd) == (4, Decimal("0.5"))
    assert (by_run["r2"].requests, by_run["r2"].texts) == (2, 16)
    assert by_run["r2"].mean_latency_s == 1.0
    by_model = {line.group: line.usd for line in summarise(ledger, "model")}
    assert by_model == {"m": Decimal("1.5"), "n": 3}
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert [line.group for line in summarise(ledger, "day")] == [today]
    assert [line.group for line in summarise(ledger, "month")] == [today[:7]]
    assert [line.group for line in summarise(ledger, "model", run="r2")] == ["m"]
    with pytest.raises(InputError, match="grouped"):
        summarise(ledger, "colour")


def test_the_cache_saved_the_mean_price_of_a_text(ledger):
    fill(ledger)
    by_run = {line.group: line for line in summarise(ledger, "run")}
    # 16 texts of model m cost 1.50 dollars.
    assert by_run["r2"].cached_texts == 32
    assert by_run["r2"].saved_usd == 3
    assert (by_run["r1"].cached_texts, by_run["r1"].saved_usd) == (0, 0)
    assert to_json(by_run["r2"])["saved_usd"] == 3.0


def test_what_was_saved_is_unknown_without_a_price(ledger):
    Meter(ledger, "r1", costs()).note_cached("llm", "openai", "never-asked", 5)
    assert summarise(ledger, "run")[0].saved_usd is None


def test_csv_holds_every_row_and_neither_text_nor_key(ledger, tmp_path):
    fill(ledger)
    file = tmp_path / "costs.csv"
    assert export_csv(ledger, file) == 5
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 5
    assert set(rows[0]) == {
        *("time", "run", "source", "provider", "model", "texts", "input_tokens"),
        *("cached_input_tokens", "cache_write_tokens", "output_tokens", "usd", "latency_s"),
        "status",
    }
    assert sum(Decimal(row["usd"]) for row in rows) == Decimal("4.5")


def test_an_exact_tenth_stays_exact(ledger):
    meter = Meter(ledger, "r1", costs(run=0.3))
    for _ in range(3):
        settle(meter, reserve(meter, 50, 50), 50, 50)
    assert meter.spend().run.settled == Decimal("0.3")
    with pytest.raises(LimitError):
        reserve(meter, 1, 0)


class Provider:
    """Bills at random within the bounds, fails at random, and adds up what it billed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.billed = Decimal(0)
        self.most_under_way = Decimal(0)

    async def ask(self, meter):
        bounds = (self.random.randint(0, 2000), self.random.randint(0, 2000))
        reservation = await meter.reserve(asked(*bounds))
        await asyncio.sleep(0)
        used = Usage(*(self.random.randint(0, bound) for bound in bounds))
        outcome = self.random.random()
        if outcome < 0.15:
            meter.release(reservation, status="500", latency_s=0)
            return
        self.billed += Decimal(used.input_tokens + used.output_tokens) / 1000
        if outcome < 0.25:
            meter.forfeit(reservation, status="timeout", latency_s=0)
        else:
            meter.settle(reservation, used, status="ok", latency_s=0)


async def spend_all(meter, provider, calls, concurrency):
    refused = 0

    async def worker(count):
        nonlocal refused
        for _ in range(count):
            try:
                await provider.ask(meter)
            except LimitError:
                refused += 1
            total = meter.spend()
            assert total.run.total <= total.run_limit
            assert total.month.total <= total.month_limit

    await asyncio.gather(*(worker(calls // concurrency) for _ in range(concurrency)))
    return refused


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(0, 2**32), st.sampled_from([1, 4, 16, 50]), st.floats(0, 900), st.floats(100, 900)
)
def test_the_budget_is_never_exceeded(tmp_path_factory, seed, concurrency, run, month):
    meter = open_meter(tmp_path_factory.mktemp("w"), "r1", costs(run=run, month=month))
    provider = Provider(seed)
    refused = asyncio.run(spend_all(meter, provider, 500, concurrency))
    spend = meter.spend()
    assert provider.billed <= spend.run.settled <= Decimal(str(min(run, month)))
    assert spend.run.reserved == 0
    # What is left is less than one more worst case, or nothing was refused.
    assert refused == 0 or spend.left < 4


CHILD = """
import asyncio, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_budget import Provider, costs, open_meter, spend_all
meter = open_meter(Path(sys.argv[2]), sys.argv[3], costs(run=1000, month=100))
provider = Provider(sys.argv[3])
asyncio.run(spend_all(meter, provider, 150, 10))
print(provider.billed)
"""


def start(tests, workspace, run, code=CHILD):
    command = [sys.executable, "-c", code, str(tests), str(workspace), run]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_month_holds_across_processes(tmp_path, request):
    children = [start(request.path.parent, tmp_path, f"r{i}") for i in range(4)]
    outputs = [child.communicate(timeout=120)[0] for child in children]
    billed = sum(Decimal(output) for output in outputs)
    month = open_meter(tmp_path, "r", costs()).spend().month
    assert billed <= month.settled <= 100
    assert month.settled > 90
    assert month.reserved == 0


READER = """
import sys
from pathlib import Path
from labelfusion.costs import open_ledger
print(sorted({row["run"] for row in open_ledger(Path(sys.argv[2])).rows()}))
"""


def test_opening_it_again_takes_no_lock_from_those_that_hold_it(tmp_path, request):
    kept = [open_ledger(tmp_path) for _ in range(2)]
    tests = request.path.parent
    # The last to close folds the log into the file and deletes it: only the last may think it is,
    # or what the others write goes into a file that has no name any more.
    start(tests, tmp_path, "r1").communicate(timeout=120)
    meter = Meter(kept[1], "r2", costs(run=10))
    settle(meter, reserve(meter), 100, 100)
    assert start(tests, tmp_path, "", READER).communicate()[0].strip() == "['r1', 'r2']"


VICTIM = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_budget import asked, costs, open_meter
meter = open_meter(Path(sys.argv[2]), sys.argv[3], costs(run=10))
asyncio.run(meter.reserve(asked()))
print(asyncio.run(meter.reserve(asked(batch=True))).id, flush=True)
sys.stdin.readline()
"""


def test_what_a_killed_process_had_reserved_stays_spent(tmp_path, request):
    child = start(request.path.parent, tmp_path, "r1", VICTIM)
    batch = int(child.stdout.readline())
    alive = open_meter(tmp_path, "r1", costs(run=10)).spend().run
    assert (alive.settled, alive.reserved) == (0, 2)
    child.kill()
    child.communicate()
    meter = open_meter(tmp_path, "r1", costs(run=10))
    dead = meter.spend().run
    assert (dead.settled, dead.reserved) == (1, 1)
    adopted = meter.adopt(batch, asked(batch=True))
    settle(meter, adopted, 100, 100)
    assert meter.spend().run.total == Decimal("1.2")
    assert meter.adopt(batch, asked(batch=True)) is None
    ledger = open_ledger(tmp_path)
    assert [row["status"] for row in ledger.rows()] == ["unresolved", "ok"]
