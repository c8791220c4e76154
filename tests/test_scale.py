"""Files labelled in chunks: the same as in one piece, whatever stops them, never mixed."""

from __future__ import annotations

import json
import threading

import numpy as np
import pandas as pd
import pytest

from labelfusion.config import RunConfig
from labelfusion.errors import InputError, LimitError
from labelfusion.fusion.routing import RoutingPolicy
from labelfusion.llm.rate import KeptPaces
from labelfusion.predict_file import Wishes, label_rows, result_table
from labelfusion.runs import ResultsManager, create_run
from labelfusion.scale import Manner, predict, score
from labelfusion.scale.stream import ahead, duration, local_engine
from labelfusion.worker import work
from labelfusion.workspace import Workspace
from tests.command_line import PRICES, asking_config, labelfusion
from tests.llm_server import running
from tests.run_data import SAMPLE, small_config

TICKETS = pd.read_csv(SAMPLE / "tickets.csv").drop(columns="label")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    workspace = Workspace.at(folder / "ws")
    run = create_run(workspace, small_config(folder))
    work(run, workspace)
    return ResultsManager(workspace).open(run.id), workspace


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """The tickets, and what the model says of them in one piece."""
    run, workspace = made
    path = tmp_path_factory.mktemp("whole") / "tickets.csv"
    TICKETS.head(100).to_csv(path, index=False)
    wishes = Wishes(contributions=False)
    labelled = label_rows(run, path, wishes, workspace=workspace)
    return path, result_table(labelled), labelled.drift


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    options = {"sep": "\t" if path.suffix == ".tsv" else ",", "keep_default_na": False}
    return pd.read_csv(path, **options)


def same(found, expected):
    assert list(found.columns) == list(expected.columns)
    for name in expected.columns:
        if pd.api.types.is_float_dtype(expected[name]):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-12)
        else:
            assert found[name].astype(str).tolist() == expected[name].astype(str).tolist()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_chunks_come_out_as_the_whole_in_order(made, whole, tmp_path, suffix):
    run, workspace = made
    path, expected, drift = whole
    out = tmp_path / f"out{suffix}"
    found = predict(run, path, out, manner=Manner(workspace, chunk_rows=7))
    same(read(out), expected)
    assert found.outcome.rows == 100
    assert found.outcome.present == {name: int(expected[f"{name}_present"].sum())
                                     for name in ("ml", "llm")}  # fmt: skip
    assert found.drift.verdict == drift.verdict
    assert (found.drift.flagged, found.drift.label) == (drift.flagged, drift.label)
    assert found.drift.distance_p == pytest.approx(drift.distance_p)
    assert found.drift.confidence_interval == pytest.approx(drift.confidence_interval)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def stopping(after):
    """The local engine, killed after some parts."""

    def engine(job, rows, skip, manner):
        for i, part in enumerate(local_engine(job, rows, skip, manner)):
            if i == after:
                raise KeyboardInterrupt
            yield part

    return engine


def test_a_job_that_was_stopped_goes_on_where_it_was(made, whole, tmp_path):
    run, workspace = made
    path, expected, drift = whole
    out = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        predict(run, path, out, manner=Manner(workspace, stopping(3), chunk_rows=8))
    assert not out.exists()
    told = []
    found = predict(run, path, out, manner=Manner(workspace, chunk_rows=8, on_event=told.append))
    assert found.outcome.resumed == 24
    assert "24 rows are there already" in {event.message for event in told}
    assert told[-1].done == told[-1].total == 100
    same(read(out), expected)
    assert found.drift.distance_p == pytest.approx(drift.distance_p)


def test_parts_of_something_else_are_never_mixed_in(made, whole, tmp_path):
    run, workspace = made
    given, expected, _ = whole
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_bytes(given.read_bytes())
    begun = Manner(workspace, stopping(2), chunk_rows=9)
    with pytest.raises(KeyboardInterrupt):
        predict(run, path, out, manner=begun)
    manner = Manner(workspace, chunk_rows=9)
    policy = RoutingPolicy.load(run.folder.model)
    with pytest.raises(InputError, match=r"another routing.*--fresh"):
        predict(run, path, out, Wishes("never", contributions=False), manner)
    with pytest.raises(InputError, match="another chunk size"):
        predict(run, path, out, manner=Manner(workspace, chunk_rows=10))
    try:
        RoutingPolicy("never", -3.0, 0.0, "for this test").save(run.folder.model)
        with pytest.raises(InputError, match="another model"):
            predict(run, path, out, manner=manner)
    finally:
        policy.save(run.folder.model)
    path.write_text(path.read_text().replace("T0001", "T9991", 1))
    with pytest.raises(InputError, match="another input"):
        predict(run, path, out, manner=manner)
    found = predict(run, path, out, manner=Manner(workspace, chunk_rows=9, fresh=True))
    assert found.outcome.resumed == 0
    assert read(out)["prediction"].tolist() == expected["prediction"].tolist()


def test_an_output_is_written_by_one_process_at_a_time(made, whole, tmp_path):
    run, workspace = made
    path, _, _ = whole
    held, go_on = threading.Event(), threading.Event()

    def waiting(job, rows, skip, manner):
        held.set()
        go_on.wait(60)
        yield from local_engine(job, rows, skip, manner)

    place = (run, path, tmp_path / "o.csv")
    first = threading.Thread(
        target=predict, args=place, kwargs={"manner": Manner(workspace, waiting)}
    )
    first.start()
    assert held.wait(60)
    with pytest.raises(InputError, match="Another process"):
        predict(run, path, tmp_path / "o.csv", manner=Manner(workspace))
    go_on.set()
    first.join(60)
    assert len(read(tmp_path / "o.csv")) == 100


def test_what_is_wrong_is_said_before_anything_is_done(made, tmp_path):
    run, workspace = made
    late = TICKETS.head(60).assign(p_billing="x")
    late.to_csv(tmp_path / "clash.csv", index=False)
    with pytest.raises(InputError, match="p_billing"):
        predict(run, tmp_path / "clash.csv", tmp_path / "o.csv", manner=Manner(workspace))
    twice = pd.concat([TICKETS.head(50), TICKETS.head(1)])
    twice.to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(InputError, match=r"rows 2, 52"):
        predict(run, tmp_path / "twice.csv", tmp_path / "o.csv",
                manner=Manner(workspace, chunk_rows=5))  # fmt: skip
    other = TICKETS.head(20).assign(id=[f"other {i}" for i in range(20)], text="unknown")
    other.to_csv(tmp_path / "other.csv", index=False)
    scores = Wishes(scores=SAMPLE / "tickets_llm_scores.csv", contributions=False)
    with pytest.raises(InputError, match="No row of the data"):
        predict(run, tmp_path / "other.csv", tmp_path / "o.csv", scores,
                Manner(workspace, chunk_rows=5))  # fmt: skip
    assert not list(tmp_path.glob(".*parts/*.json"))


def test_formulas_are_made_harmless_if_asked(made, tmp_path):
    run, workspace = made
    pd.DataFrame({"id": ["a", "b"], "text": ["=1+1", "plain"]}).to_csv(tmp_path / "in.csv")
    for safe in (False, True):
        out = tmp_path / f"{safe}.csv"
        predict(run, tmp_path / "in.csv", out, manner=Manner(workspace, excel_safe=safe))
        assert read(out)["text"].tolist() == ["'=1+1" if safe else "=1+1", "plain"]


def test_addresses_are_read_and_written(made, whole, tmp_path):
    run, workspace = made
    path, expected, _ = whole
    out = tmp_path / "out.parquet"
    predict(run, path.as_uri(), out.as_uri(), manner=Manner(workspace, chunk_rows=40))
    same(read(out), expected)
    with pytest.raises(InputError, match="--force"):
        predict(run, path.as_uri(), out.as_uri(), manner=Manner(workspace))


def test_the_command_tells_what_it_did(made, whole, tmp_path):
    run, workspace = made
    path, expected, _ = whole
    command = ["predict", run.id, path, "--out", "out.jsonl", "--workspace", workspace.root]
    done = labelfusion(*command, "--chunk-rows", 30, "--cache", "none", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (told["rows"], told["resumed_rows"], told["out"]) == (100, 0, "out.jsonl")
    assert told["drift"]["texts"] == 100
    assert "rows/s" in done.stderr
    same(read(tmp_path / "out.jsonl"), expected)
    alone = ("--force", "--address", "auto")
    assert "--engine ray" in labelfusion(*command, *alone, cwd=tmp_path, check=2).stderr


@pytest.fixture(scope="module")
def server():
    with running() as found:
        yield found


def asking(folder, address, **costs):
    values = asking_config(folder, address, n=40) | {"costs": {"prices": PRICES} | costs}
    values["data"]["path"] = str(folder / "tickets.csv")
    return RunConfig.from_dict(values)


def test_scores_are_paid_once_and_a_budget_holds_over_chunks(server, tmp_path):
    running_server, address = server
    workspace = Workspace.at(tmp_path / "ws")
    out = tmp_path / "scores.csv"
    broke = asking(tmp_path, address, budget={"run_usd": 0.0165, "when_spent": "stop"})
    rich = broke.model_copy(deep=True)
    rich.costs.budget.run_usd = 5.0
    manner = Manner(workspace, chunk_rows=10)
    with pytest.raises(LimitError):
        score(broke, tmp_path / "tickets.csv", out, manner)
    found = score(rich, tmp_path / "tickets.csv", out, manner)
    assert found.outcome.present == {"llm": 40}
    # One name in the ledger, so that a budget is not begun anew by going on.
    assert found.cost.texts == 40
    assert 0 < found.outcome.resumed < 40
    paid = running_server.counts["paid"]
    score(rich, tmp_path / "tickets.csv", tmp_path / "again.csv", manner)
    assert running_server.counts["paid"] == paid
    same(read(tmp_path / "again.csv"), read(out))


def test_what_was_learnt_of_a_rate_outlives_a_chunk():
    import asyncio

    paces = KeptPaces()

    async def refused():
        pace = paces("llm")
        sent = await pace.turn()
        pace.refused(sent, 0.0)
        return pace.rate

    low = asyncio.run(refused())
    assert paces("llm").rate == low
    assert paces("other").rate > low


def test_the_next_item_is_made_while_one_is_used():
    made, used = [], []
    second = threading.Event()

    def items():
        for i in range(4):
            made.append(i)
            if i == 1:
                second.set()
            yield i

    for item in ahead(items()):
        assert item or second.wait(10)
        used.append(item)
    assert used == made == [0, 1, 2, 3]
    assert list(ahead(iter([]))) == []
    assert [duration(s) for s in (5, 600, 7200)] == ["5 s", "10 min", "2.0 h"]
