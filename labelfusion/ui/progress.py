"""How far a run is, stage by stage, as its events tell. Knows no Streamlit and no folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from labelfusion.types import STAGES

StageState = Literal["waiting", "running", "done", "stopped", "not needed"]
STAGE_NAMES = {
    "check": "Check the data",
    "split": "Set test texts aside",
    "ml": "Train the encoder",
    "llm": "Get LLM scores",
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
    """The stages in order, as the events of a run in state `run_state` tell them.

    A stage is over once a later one has begun, unless the two go on beside each other.
    """
    by_stage: dict[str, list[Mapping[str, Any]]] = {name: [] for name in STAGES}
    order: Sequence[str] = STAGES
    beside: Sequence[str] = ()
    for event in events:
        by_stage.setdefault(str(event.get("stage")), []).append(event)
        # A run says so once it has divided the rows.
        data = event.get("data") or {}
        order, beside = data.get("stages", order), data.get("beside", beside)
    begun = [name for name in order if by_stage[name]]

    def passed(name: str) -> bool:
        later = order[order.index(name) + 1 :]
        ends = [n for n in later if not (name in beside and n in beside)]
        return run_state == "finished" or any(n in begun for n in ends)

    return [_stage(name, by_stage[name], run_state, passed(name)) for name in order]


def _stage(name: str, events: list[Mapping[str, Any]], run_state: str, passed: bool) -> Stage:
    title = STAGE_NAMES[name]
    if not events:
        idle: StageState = "not needed" if passed else "waiting"
        return Stage(title, idle, "", 0, 0, "", None, None, None)
    state: StageState = "running" if run_state in ("queued", "running") else "stopped"
    # Several LLMs are one stage: the first that is done does not end it.
    told = [event["status"] for event in events if event["status"] != "note"]
    if passed or told[-1:] == ["done"] or run_state == "finished":
        state = "done"
    message = next((e["message"] for e in reversed(events) if e.get("message")), "")
    counted = [event for event in events if event.get("total")]
    last = counted[-1] if counted else {}
    done, total = int(last.get("done", 0)), int(last.get("total", 0))
    seconds = _seconds(events, state)
    rate = _rate(counted)
    left = (total - done) / rate if rate and state == "running" else None
    return Stage(title, state, message, done, total, str(last.get("unit", "")), seconds, rate, left)


@dataclass(frozen=True)
class Scoring:
    """How far the scoring of one LLM source is, in texts; `rate` a second, `left` in seconds."""

    source: str
    done: int
    total: int
    cached: int
    failed: int
    rate: float
    left: float | None

    @property
    def share(self) -> float:
        """Texts that are dealt with, 0..1."""
        return min((self.done + self.failed) / self.total, 1.0) if self.total else 1.0

    def words(self) -> str:
        """The counts as a line."""
        parts = [f"{self.done:,} of {self.total:,} texts", f"{self.cached:,} from the cache"]
        if self.failed:
            parts.append(f"{self.failed:,} without a score")
        if self.rate > 0:
            parts.append(f"{self.rate:.1f} a second")
        if self.left and self.done + self.failed < self.total:
            parts.append(f"{duration(self.left)} left")
        return " · ".join(parts)


def scorings(events: Iterable[Mapping[str, Any]]) -> list[Scoring]:
    """Each LLM source that is or was asked, by its last event; recorded scores tell none."""
    last = {event["data"]["source"]: event for event in _scored(events)}
    return [
        Scoring(
            source,
            data["done"],
            int(event.get("total", 0)),
            data["cached"],
            data["failed"],
            data["rate"],
            data["eta"],
        )
        for source, event in last.items()
        for data in (event["data"],)
    ]


def spent(events: Iterable[Mapping[str, Any]]) -> tuple[Decimal, int] | None:
    """US dollars the run has spent, and requests at an unknown price; None if nobody was asked."""
    counted = [e["data"] for e in _scored(events) if e["data"].get("spent") is not None]
    if not counted:
        return None
    return Decimal(str(counted[-1]["spent"])), int(counted[-1].get("unpriced", 0))


def _scored(events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for event in events:
        if event.get("stage") == "llm" and "rate" in (event.get("data") or {}):
            yield event


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
