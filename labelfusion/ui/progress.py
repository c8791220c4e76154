"""How far a run is, stage by stage, as its events tell. Knows no Streamlit and no folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from labelfusion.types import STAGES

StageState = Literal["waiting", "running", "done", "stopped", "not needed"]
STAGE_NAMES = {
    "check": "Check the data",
    "split": "Set test texts aside",
    "ml": "Train the encoder",
    "llm": "Read LLM scores",
    "fusion": "Choose the fusion",
    "evaluate": "Evaluate on test texts",
    "save": "Save the run",
}


@dataclass(frozen=True)
class Stage:
    """One stage of a run. `seconds` it has taken; `rate` in units per second; `left` in seconds."""

    name: str
    state: StageState
    message: str
    done: int
    total: int
    unit: str
    seconds: float | None
    rate: float | None
    left: float | None

    @property
    def share(self) -> float | None:
        """Done of total, 0..1; None where there is nothing to count."""
        return min(self.done / self.total, 1.0) if self.total else None


def stages(events: Iterable[Mapping[str, Any]], run_state: str) -> list[Stage]:
    """The stages in order, as the events of a run in state `run_state` tell them."""
    by_stage: dict[str, list[Mapping[str, Any]]] = {name: [] for name in STAGES}
    for event in events:
        by_stage.setdefault(str(event.get("stage")), []).append(event)
    begun = [i for i, name in enumerate(STAGES) if by_stage[name]]
    reached = len(STAGES) if run_state == "finished" else max(begun, default=0)
    return [_stage(name, by_stage[name], run_state, i < reached) for i, name in enumerate(STAGES)]


def _stage(name: str, events: list[Mapping[str, Any]], run_state: str, passed: bool) -> Stage:
    title = STAGE_NAMES[name]
    if not events:
        idle: StageState = "not needed" if passed else "waiting"
        return Stage(title, idle, "", 0, 0, "", None, None, None)
    state: StageState = "running" if run_state in ("queued", "running") else "stopped"
    if any(event["status"] == "done" for event in events) or run_state == "finished":
        state = "done"
    message = next((e["message"] for e in reversed(events) if e.get("message")), "")
    counted = [event for event in events if event.get("total")]
    last = counted[-1] if counted else {}
    done, total = int(last.get("done", 0)), int(last.get("total", 0))
    seconds = _seconds(events, state)
    rate = _rate(counted)
    left = (total - done) / rate if rate and state == "running" else None
    return Stage(title, state, message, done, total, str(last.get("unit", "")), seconds, rate, left)


def _rate(counted: list[Mapping[str, Any]]) -> float | None:
    if len(counted) < 2:
        return None
    first, last = counted[0], counted[-1]
    seconds = (_time(last) - _time(first)).total_seconds()
    done = int(last["done"]) - int(first["done"])
    return done / seconds if seconds > 0 and done > 0 else None


def _seconds(events: list[Mapping[str, Any]], state: StageState) -> float:
    end = datetime.now(UTC) if state == "running" else _time(events[-1])
    return max((end - _time(events[0])).total_seconds(), 0.0)


def _time(event: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(event["time"]))


def duration(seconds: float | None) -> str:
    """Seconds for people: "8 s", "3 min 20 s", "2 h 5 min"."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
