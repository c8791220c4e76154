"""Writes run folders as docs/architecture.md describes them, from simulated scores, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from labelfusion.config import RunConfig
from labelfusion.files import sha256
from labelfusion.types import STAGES

SYSTEMS = ("ml", "llm", "fusion")
STRENGTH = {"ml": 1.2, "llm": 2.2, "fusion": 3.0}


def write_run(
    workspace: Path,
    run_id: str = "20260131-142501-tickets",
    *,
    labels: tuple[str, ...] = ("billing", "delivery", "returns"),
    multi_label: bool = False,
    n: int = 240,
    state: str = "finished",
    seed: int = 0,
    config: dict | None = None,
) -> Path:
    """A run folder of `n` simulated texts, half of them tested; returns the folder."""
    rng = np.random.default_rng(seed)
    gold = _gold(rng, n, len(labels), multi_label)
    scores = {name: _scores(rng, gold, STRENGTH[name], multi_label) for name in SYSTEMS}
    folder = workspace / "runs" / run_id
    folder.mkdir(parents=True)
    data = _write_data(workspace, run_id, gold, labels, multi_label)
    _write_config(folder, data, labels, multi_label, config or {})
    if state == "finished":
        test = np.arange(n) % 2 == 1
        report = _report(gold[test], {k: v[test] for k, v in scores.items()}, labels, multi_label)
        report["n"] = {"train": n - int(test.sum()), "test": int(test.sum())}
        report["n"] |= {"unlabelled": 0, "dropped": 0}
        (folder / "metrics.json").write_text(json.dumps(report))
        _write_predictions(folder, gold, scores, test, labels, multi_label)
        (folder / "README.md").write_text("# Model card\n")
        (folder / "findings.json").write_text("[]")
    _write_events(folder, state, n)
    _write_status(folder, run_id, state, n, data)
    return folder


def _gold(rng: np.random.Generator, n: int, k: int, multi_label: bool) -> np.ndarray:
    if multi_label:
        return (rng.random((n, k)) < 0.3).astype(int)
    return np.eye(k, dtype=int)[rng.integers(0, k, n)]


def _scores(
    rng: np.random.Generator, gold: np.ndarray, strength: float, multi_label: bool
) -> np.ndarray:
    z = strength * (2 * gold - 1) + rng.normal(0, 1.6, gold.shape)
    if multi_label:
        return 1 / (1 + np.exp(-z))
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True)


def _decide(p: np.ndarray, multi_label: bool) -> np.ndarray:
    return (p > 0.5) if multi_label else np.eye(p.shape[1], dtype=bool)[p.argmax(axis=1)]


def _names(rows: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    return ["|".join(np.asarray(labels)[row.astype(bool)]) for row in rows]


def _write_data(
    workspace: Path, run_id: str, gold: np.ndarray, labels: tuple[str, ...], multi_label: bool
) -> Path:
    path = workspace / f"{run_id}.csv"
    frame = pd.DataFrame({"id": [f"T{i:04}" for i in range(len(gold))]})
    frame["text"] = [f"text number {i}" for i in range(len(gold))]
    if multi_label:
        frame[list(labels)] = gold
    else:
        frame["label"] = _names(gold, labels)
    frame.to_csv(path, index=False)
    return path


def _write_config(
    folder: Path, data: Path, labels: tuple[str, ...], multi_label: bool, more: dict
) -> None:
    layout = {"label_columns": list(labels)} if multi_label else {"label_column": "label"}
    values = {
        "name": folder.name.split("-", 2)[2],
        "data": {"path": str(data), "id_column": "id", "multi_label": multi_label} | layout,
        "llm": [{"provider": "recorded", "path": str(folder / "scores.csv")}],
    }
    config = RunConfig.from_dict(values | more)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))


def _report(
    gold: np.ndarray, scores: dict[str, np.ndarray], labels: tuple[str, ...], multi_label: bool
) -> dict:
    systems = {name: _system(gold, scores[name], labels, multi_label) for name in SYSTEMS}
    primary = "macro_f1" if multi_label else "accuracy"
    comparisons = {
        name: {
            "metric": primary,
            "difference": systems["fusion"]["metrics"][primary] - systems[name]["metrics"][primary],
            "interval": [0.0, 0.1],
            "only_fusion_right": 9,
            "only_source_right": 2,
            "p_value": 0.03,
            "sentence": f"Fusion is right on 9 texts where {name} is wrong.",
        }
        for name in ("ml", "llm")
    }
    candidates = [
        {"name": name, "kind": "pool", "log_loss": loss, "standard_error": 0.02}
        | {"gain": 0.1, "gain_se": 0.02, "accuracy": 0.9}
        for name, loss in (("ml", 0.61), ("llm", 0.41), ("log_pool", 0.32), ("matrix_pool", 0.3))
    ]
    return {
        "format": 1,
        "task": {"multi_label": multi_label, "labels": list(labels), "primary": primary},
        "systems": systems,
        "comparisons": comparisons,
        "choice": {
            "chosen": "log_pool",
            "method": "auto",
            "reason": "log_pool beats the best source by more than one standard error.",
            "standard_errors": 1.0,
            "candidates": candidates,
        },
        "calibration": {},
    }


def _system(gold: np.ndarray, p: np.ndarray, labels: tuple[str, ...], multi_label: bool) -> dict:
    decided = _decide(p, multi_label)
    per_label = [_label_row(gold[:, i], decided[:, i], name) for i, name in enumerate(labels)]
    accuracy = float((decided == gold).all(axis=1).mean())
    macro = float(np.mean([row["f1"] for row in per_label]))
    metrics = {"accuracy": accuracy, "macro_f1": macro, "nll": 0.4, "brier": 0.2}
    if multi_label:
        confusion = [_binary(gold[:, i], decided[:, i]) for i in range(len(labels))]
    else:
        confusion = (gold.T @ decided).tolist()
    intervals = {key: [value - 0.04, min(value + 0.03, 1.0)] for key, value in metrics.items()}
    return {
        "metrics": metrics,
        "intervals": intervals,
        "per_label": per_label,
        "confusion": confusion,
        "reliability": {"overall": [], "labels": {}},
        "coverage": 1.0,
    }


def _label_row(gold: np.ndarray, decided: np.ndarray, label: str) -> dict:
    tp = int((gold * decided).sum())
    precision, recall = tp / max(int(decided.sum()), 1), tp / max(int(gold.sum()), 1)
    f1 = 2 * tp / max(int(gold.sum() + decided.sum()), 1)
    counts = {"support": int(gold.sum()), "predicted": int(decided.sum()), "threshold": None}
    return {"label": label, "precision": precision, "recall": recall, "f1": f1} | counts


def _binary(gold: np.ndarray, decided: np.ndarray) -> list[int]:
    cells = ((0, False), (0, True), (1, False), (1, True))
    return [int(((gold == g) & (decided == d)).sum()) for g, d in cells]


def _write_predictions(
    folder: Path,
    gold: np.ndarray,
    scores: dict[str, np.ndarray],
    test: np.ndarray,
    labels: tuple[str, ...],
    multi_label: bool,
) -> None:
    decided = _decide(scores["fusion"], multi_label)
    table = {
        "id": [f"T{i:04}" for i in range(len(gold))],
        "row": np.arange(len(gold)) + 2,
        "split": np.where(test, "test", "train"),
        "gold": _names(gold, labels),
        "prediction": _names(decided, labels),
    }
    table |= {f"p_{label}": scores["fusion"][:, i] for i, label in enumerate(labels)}
    table |= {f"{name}_present": np.ones(len(gold), dtype=bool) for name in ("ml", "llm")}
    table |= {
        f"contribution_{name}_{label}": scores[name][:, i]
        for name in ("ml", "llm")
        for i, label in enumerate(labels)
    }
    pd.DataFrame(table).to_parquet(folder / "predictions.parquet")


def _write_events(folder: Path, state: str, n: int) -> None:
    stages = STAGES if state == "finished" else STAGES[:3]
    lines = []
    for minute, stage in enumerate(stages):
        for second, status in ((0, "start"), (30, "progress"), (50, "done")):
            if stage == "ml" and status == "done" and state != "finished":
                continue
            event = {"time": f"2026-01-31T14:{minute:02}:{second:02}+00:00", "stage": stage}
            event |= {"status": status, "message": f"{stage} {status}", "total": n, "unit": "texts"}
            lines.append(json.dumps(event | {"done": n * second // 50, "data": {}}))
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def _write_status(folder: Path, run_id: str, state: str, n: int, data: Path) -> None:
    status = {
        "format": 1,
        "id": run_id,
        "name": run_id.split("-", 2)[2],
        "state": state,
        "stage": "save" if state == "finished" else "ml",
        "progress": {"done": n, "total": n, "unit": "texts"},
        "message": "",
        "created": "2026-01-31T14:25:01+00:00",
        "started": "2026-01-31T14:25:02+00:00",
        "finished": "2026-01-31T14:26:02+00:00" if state == "finished" else None,
        "heartbeat": "2026-01-31T14:26:02+00:00",
        "pid": None,
        "pid_created": None,
        "error": "The encoder ran out of memory" if state == "failed" else None,
        "command": "labelfusion train",
        "data": {"path": str(data), "sha256": sha256(data), "rows": n},
    }
    (folder / "status.json").write_text(json.dumps(status))
