import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest

from labelfusion import jobs
from labelfusion.errors import ConfigError, RunError
from labelfusion.processes import is_alive
from labelfusion.queueing import max_running
from labelfusion.runs import ResultsManager
from labelfusion.workspace import Workspace
from tests.run_data import small_config

ROOT = Path(__file__).parent.parent
WAIT_SECONDS = 60.0


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace whose jobs are tests/job_process.py; what is still at work is ended."""
    monkeypatch.setattr(jobs, "LAUNCHER", (sys.executable, str(ROOT / "tests/job_process.py")))
    monkeypatch.setenv("TEST_GATES", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SECRET_API_KEY", "sk-very-secret-value")
    workspace = Workspace.at(tmp_path / "ws")
    yield workspace
    for status in jobs.active(workspace):
        jobs.cancel(workspace, status.id, grace_s=0.5)


def until(condition, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def lines(tmp_path, name):
    path = tmp_path / name
    return path.read_text().splitlines() if path.exists() else []


def until_at_gate(tmp_path, name):
    until(lambda: f"{name} ml" in lines(tmp_path, "computed"), f"{name} at its gate")


def open_gate(tmp_path, name):
    (tmp_path / f"open-{name}").touch()


def results(workspace, run_id):
    run = ResultsManager(workspace).open(run_id)
    return run.predictions, run.metrics


def test_a_job_goes_from_queued_to_finished_and_holds_no_key(workspace, tmp_path):
    run_id = jobs.start(workspace, small_config(tmp_path), name="A name")
    assert jobs.status(workspace, run_id).state in ("queued", "running")
    until_at_gate(tmp_path, "small")
    status = jobs.status(workspace, run_id)
    assert (status.state, status.stage) == ("running", "ml")
    assert os.getsid(status.pid) == status.pid != os.getsid(0)
    before = status.heartbeat
    until(lambda: jobs.status(workspace, run_id).heartbeat > before, "a heartbeat")
    assert jobs.status(workspace, run_id).progress["unit"] == "gates"
    command = " ".join(psutil.Process(status.pid).cmdline())
    open_gate(tmp_path, "small")
    done = jobs.wait(workspace, run_id, timeout_s=WAIT_SECONDS)
    assert done.state == "finished", ResultsManager(workspace).open(run_id).log
    assert jobs.active(workspace) == []
    held = [p.read_bytes() for p in workspace.root.rglob("*") if p.is_file()]
    assert not any(b"sk-very-secret-value" in content for content in [*held, command.encode()])


def test_cancelling_ends_the_job_and_resuming_pays_for_nothing_twice(workspace, tmp_path):
    run_id = jobs.start(workspace, small_config(tmp_path))
    until_at_gate(tmp_path, "small")
    pid = jobs.status(workspace, run_id).pid
    assert jobs.cancel(workspace, run_id).state == "cancelled"
    assert pid is not None
    assert not is_alive(pid, str(jobs.status(workspace, run_id).pid_created))
    with pytest.raises(RunError, match="cancelled"):
        jobs.cancel(workspace, run_id)
    open_gate(tmp_path, "small")
    assert jobs.resume(workspace, run_id) == run_id
    assert jobs.wait(workspace, run_id, timeout_s=WAIT_SECONDS).state == "finished"
    assert lines(tmp_path, "computed") == ["small ml", "small llm"]
    with pytest.raises(RunError, match="finished"):
        jobs.resume(workspace, run_id)


def test_a_killed_job_reads_as_interrupted_and_resumes_to_the_same_result(workspace, tmp_path):
    run_id = jobs.start(workspace, small_config(tmp_path))
    until_at_gate(tmp_path, "small")
    os.killpg(jobs.status(workspace, run_id).pid, signal.SIGKILL)
    until(lambda: jobs.status(workspace, run_id).state == "interrupted", "the death")
    open_gate(tmp_path, "small")
    jobs.resume(workspace, run_id)
    assert jobs.wait(workspace, run_id, timeout_s=WAIT_SECONDS).state == "finished"
    again = jobs.retry(workspace, run_id)
    assert again != run_id
    assert jobs.wait(workspace, again, timeout_s=WAIT_SECONDS).state == "finished"
    (resumed, metrics), (whole, expected) = results(workspace, run_id), results(workspace, again)
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    assert metrics == expected
    assert lines(tmp_path, "computed")[:2] == ["small ml", "small llm"]


def test_a_terminated_job_that_nobody_cancelled_is_interrupted(workspace, tmp_path):
    run_id = jobs.start(workspace, small_config(tmp_path))
    until_at_gate(tmp_path, "small")
    os.kill(jobs.status(workspace, run_id).pid, signal.SIGTERM)
    assert jobs.wait(workspace, run_id, timeout_s=WAIT_SECONDS).state == "interrupted"


def test_jobs_take_turns_in_order_and_a_waiting_one_can_be_cancelled(workspace, tmp_path):
    names = ["one", "two", "three"]
    ids = [jobs.start(workspace, small_config(tmp_path, name=name)) for name in names]
    until_at_gate(tmp_path, "one")
    until(lambda: all(jobs.status(workspace, i).pid for i in ids), "all to have come up")
    assert [s.id for s in jobs.active(workspace)] == ids
    assert [jobs.status(workspace, i).state for i in ids] == ["running", "queued", "queued"]
    assert jobs.cancel(workspace, ids[1]).state == "cancelled"
    assert lines(tmp_path, "started") == ["one"]
    for name in names:
        open_gate(tmp_path, name)
    assert jobs.wait(workspace, ids[2], timeout_s=WAIT_SECONDS).state == "finished"
    assert jobs.status(workspace, ids[0]).state == "finished"
    assert lines(tmp_path, "started") == ["one", "three"]


def test_the_same_settings_and_data_are_not_trained_on_twice_at_once(workspace, tmp_path):
    config = small_config(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        (first,) = set(pool.map(jobs.start, [workspace] * 3, [config] * 3))
    other = jobs.start(workspace, small_config(tmp_path, seed=1))
    assert other != first
    with (tmp_path / "tickets.csv").open("a") as file:
        file.write("T9999,One more question about an invoice,billing\n")
    changed = jobs.start(workspace, config)
    assert [one.id for one in jobs.active(workspace)] == [first, other, changed]
    open_gate(tmp_path, "small")
    assert jobs.wait(workspace, changed, timeout_s=WAIT_SECONDS).state == "finished"
    assert jobs.retry(workspace, changed) not in (first, other, changed)


def test_the_queue_moves_on_when_the_one_at_work_is_killed(workspace, tmp_path):
    ids = [jobs.start(workspace, small_config(tmp_path, name=name)) for name in ("one", "two")]
    until_at_gate(tmp_path, "one")
    os.killpg(jobs.status(workspace, ids[0]).pid, signal.SIGKILL)
    open_gate(tmp_path, "two")
    assert jobs.wait(workspace, ids[1], timeout_s=WAIT_SECONDS).state == "finished"
    assert jobs.status(workspace, ids[0]).state == "interrupted"


def test_more_than_one_may_run_at_once_if_so_set(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_MAX_RUNNING", "2")
    ids = [jobs.start(workspace, small_config(tmp_path, name=name)) for name in ("one", "two")]
    until_at_gate(tmp_path, "one")
    until_at_gate(tmp_path, "two")
    assert [jobs.status(workspace, i).state for i in ids] == ["running", "running"]
    monkeypatch.setenv("LABELFUSION_MAX_RUNNING", "none")
    with pytest.raises(ConfigError, match="LABELFUSION_MAX_RUNNING"):
        max_running()


def test_a_job_that_is_being_done_cannot_be_taken_up_or_deleted(workspace, tmp_path):
    run_id = jobs.start(workspace, small_config(tmp_path))
    until_at_gate(tmp_path, "small")
    manager = ResultsManager(workspace)
    with pytest.raises(RunError, match="running"):
        jobs.resume(workspace, run_id)
    with pytest.raises(RunError, match="running"):
        manager.delete(run_id)
    folder = str(manager.open(run_id).folder.path)
    command = [sys.executable, "-m", "labelfusion", "train", "--resume", folder]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "Another process works on this run" in second.stderr
    assert jobs.status(workspace, run_id).state == "running"
    status = jobs.status(workspace, run_id)
    manager.delete(run_id, force=True)
    assert not Path(folder).exists()
    assert not is_alive(status.pid, status.pid_created)


def test_a_job_whose_data_cannot_be_used_fails_with_the_reason(workspace, tmp_path):
    config = small_config(tmp_path)
    (tmp_path / "tickets.csv").write_text("id,text,label\n1,a,x\n1,b,y\n")
    run_id = jobs.start(workspace, config)
    status = jobs.wait(workspace, run_id, timeout_s=WAIT_SECONDS)
    assert status.state == "failed"
    assert "tickets.csv" in status.error
    # The process says why after it has noted that it failed.
    until(lambda: not is_alive(status.pid, status.pid_created), "the end of the process")
    assert "tickets.csv" in ResultsManager(workspace).open(run_id).log
    assert "Traceback" not in ResultsManager(workspace).open(run_id).log
