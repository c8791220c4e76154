"""Fine-tuning in several processes: the result of one, and no process that outlives it."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfusion.config import MLConfig, RunConfig
from labelfusion.encoders import LLMEvidence, finetuned, team
from labelfusion.encoders.checkpoint import Checkpoint
from labelfusion.encoders.joint import JointEncoder
from labelfusion.encoders.launch import ChildError
from labelfusion.encoders.optimisation import Learner
from labelfusion.encoders.team import Team, process_count
from labelfusion.errors import ConfigError, MissingDependencyError, ModelError
from labelfusion.types import Event, LabelSpace
from scripts.screenshots import ROOT
from tests.fine_tuning import SPACE, Interrupted, notes, word_rows

pytestmark = pytest.mark.usefixtures("one_torch_thread")
needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
)
needs_lora = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is not installed"
)


# What follows is sent to the processes, which import it from here.
class KeptEachEpoch(Checkpoint):
    """Writes however little time has passed."""

    @property
    def due(self) -> bool:
        return True


class FailsInSecond(Learner):
    """Fails in the second process, at a step of the third epoch (6 steps each)."""

    steps = 0

    def step(self, rows: np.ndarray, scale: float) -> float:
        self.steps += 1
        if self.team.rank == 1 and self.steps > 14:
            self.fail()
        return super().step(rows, scale)

    def fail(self) -> None:
        raise RuntimeError("shapes differ")


class KilledInSecond(FailsInSecond):
    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class ShortOfMemoryInSecond(Learner):
    """One process has memory for a text at a time, the other for all."""

    def _vectors(self, rows: np.ndarray):
        if self.team.rank == 1 and len(rows) > 1:
            raise RuntimeError("CUDA out of memory.")
        return super()._vectors(rows)


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    assert multiprocessing.active_children() == []
    commands = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
    assert not [command for command in commands if "spawn_main" in command]


@pytest.fixture
def encoder(tiny_encoder, without_dropout):
    """Makes an encoder of the tiny model without dropout; 2 processes unless told otherwise."""

    def make(cache_dir=None, processes=2, **settings):
        return tiny_encoder(cache_dir, folder=without_dropout, processes=processes, **settings)

    return make


def trained_alike(first, second, texts) -> None:
    np.testing.assert_allclose(first.logits(texts), second.logits(texts), atol=1e-5)
    np.testing.assert_allclose(first.embed(texts), second.embed(texts), atol=1e-5)
    for one, other in zip(first.curve, second.curve, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@needs_accelerate
def test_two_processes_come_to_what_one_does(encoder):
    # 24 rows of validation, and batches of 8, 8, …, 1: shares of unequal size, one of them empty.
    texts, targets = word_rows(97)
    settings = {"class_weights": "balanced", "gradient_accumulation": 2, "validation_share": 0.25}
    events: list[Event] = []
    together = encoder(**settings)
    together.fit(texts, targets, events.append)
    alone = encoder(processes=1, **settings)
    alone.fit(texts, targets)
    trained_alike(together, alone, texts)
    assert [event.data["curve"] for event in notes(events, "curve")] == together.curve
    weights, expected = (e._backbone.network.state_dict() for e in (together, alone))
    for name, tensor in expected.items():
        np.testing.assert_allclose(weights[name], tensor, atol=1e-5, err_msg=name)


@needs_accelerate
def test_what_a_failed_process_had_kept_is_taken_up_again(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuned, "Checkpoint", KeptEachEpoch)
    texts, targets = word_rows(24)
    with monkeypatch.context() as patched:
        patched.setattr(finetuned, "Learner", FailsInSecond)
        with pytest.raises(ChildError, match="RuntimeError: shapes differ"):
            encoder(tmp_path).fit(texts, targets)
    events: list[Event] = []
    resumed, through = encoder(tmp_path), encoder(processes=1)
    resumed.fit(texts, targets, events.append)
    assert any("Taken up from a checkpoint after epoch 2" in event.message for event in events)
    through.fit(texts, targets)
    trained_alike(resumed, through, texts)


@needs_accelerate
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_process_ends_the_training_with_its_exit_code(encoder, monkeypatch):
    monkeypatch.setattr(finetuned, "Learner", KilledInSecond)
    with pytest.raises(ModelError, match=r"process 2 of 2: exit code -9 .*processes: 1"):
        encoder().fit(*word_rows(24))


@needs_accelerate
def test_memory_that_is_short_in_one_process_is_said_and_changes_no_result(encoder, monkeypatch):
    space = LabelSpace(("a", "b", "c"), multi_label=True)
    texts, targets = word_rows(20, space)
    alone, events = encoder(processes=1, space=space), []
    alone.fit(texts, targets)
    monkeypatch.setattr(finetuned, "Learner", ShortOfMemoryInSecond)
    together = encoder(space=space)
    together.fit(texts, targets, events.append)
    trained_alike(together, alone, texts)
    assert [event.data["micro_batch"] for event in notes(events, "micro_batch")] == [1]
    assert "in another process" in str(notes(events, "micro_batch")[0].data["error"])


@needs_accelerate
def test_an_interruption_here_ends_the_processes(encoder):
    def interrupt(event: Event) -> None:
        if event.message.startswith("Epoch 1 of"):
            raise Interrupted

    with pytest.raises(Interrupted):
        encoder(epochs=500).fit(*word_rows(24), interrupt)


# Trains for as long as it is let, and names its processes at the end of the first epoch.
ENDLESS = """
import multiprocessing, sys
from labelfusion.config import MLConfig
from labelfusion.encoders import make_encoder
from tests.fine_tuning import SPACE, word_rows

def tell(event):
    if event.message.startswith("Epoch 1 of"):
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)

training = {"epochs": 1000, "patience": 0, "processes": 2}
values = {"encoder": sys.argv[1], "fine_tune": True, "c": 1.0, "training": training}
config = MLConfig.model_validate(values)
make_encoder(config, SPACE, seed=0, cache_dir=None).fit(*word_rows(24), tell)
"""


@needs_accelerate
def test_the_processes_end_with_the_one_that_started_them(tiny):
    command = [sys.executable, "-c", ENDLESS, str(tiny)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        try:
            assert parent.stdout is not None
            children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
            assert len(children) == 2
        finally:
            parent.kill()
        assert psutil.wait_procs(children, timeout=120)[1] == []


@needs_accelerate
@needs_lora
def test_adapters_are_trained_jointly_in_two_processes(without_dropout):
    texts, targets = word_rows(24)
    values = {
        "encoder": str(without_dropout),
        "fine_tune": True,
        "joint": True,
        "c": 1.0,
        "batch_size": 4,
        "lora": {"rank": 4, "alpha": 8},
        "training": {"learning_rate": 1e-2, "head_learning_rate": 1e-2, "processes": 2},
    }
    config = MLConfig.model_validate(values)
    evidence = LLMEvidence(
        ("llm",), np.zeros((24, 1, 2), dtype=np.float32), np.arange(24)[:, None] % 3 > 0
    )
    joint = JointEncoder(config, SPACE, seed=0, cache_dir=None)
    joint.fit_joint(texts, targets, evidence)
    losses = [point["training_loss"] for point in joint.curve]
    assert losses[-1] < losses[0]
    assert not (joint.fusion["fusion.weights2"] == 0).all()


@given(n=st.integers(0, 40), size=st.integers(1, 5))
def test_shares_are_disjoint_complete_and_of_about_one_size(n, size):
    shares = [Team(rank, size).share(np.arange(n)) for rank in range(size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def asked(processes: object, device: str = "cpu") -> MLConfig:
    training = {"processes": processes}
    return MLConfig.model_validate({"fine_tune": True, "device": device, "training": training})


def test_absent_accelerate_is_said_before_anything_is_trained(encoder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'labelfusion\[multi-gpu\]'"):
        encoder()


@pytest.mark.parametrize(("gpus", "expected"), [(0, 1), (1, 1), (4, 4)])
def test_auto_is_a_process_for_each_gpu(gpus, expected, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr(team.importlib.util, "find_spec", lambda name: name)
    assert process_count(asked("auto", device="auto")) == expected
    assert process_count(asked("auto")) == 1


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"at most 2 here.*Found: 3.*processes: auto"):
        process_count(asked(3, device="cuda"))


@pytest.mark.parametrize("processes", [0, "many"])
def test_processes_are_a_number_or_auto(processes):
    with pytest.raises(ConfigError, match=r"ml\.training\.processes"):
        RunConfig.from_dict({"ml": {"fine_tune": True, "training": {"processes": processes}}})
