"""The model card: a run's README.md, so that its folder explains itself to whoever is handed it.

Knows the dicts of metrics.json and config.yaml. Reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from labelfusion.evaluation.reliability import describe_reliability
from labelfusion.evaluation.source_value import overlap_sentence
from labelfusion.evaluation.words import NO_METRICS

METRIC_TITLES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "weighted_f1": "Weighted F1",
    "samples_f1": "Samples F1",
    "nll": "NLL (nats a text)",
    "brier": "Brier score",
    "ece_classwise": "ECE, classwise",
    "ece_mass": "ECE, equal mass",
    "ece_smooth": "ECE, smooth",
}
COUNT_TITLES = {
    "train": "labelled texts to learn from",
    "test": "labelled texts held out for this report",
    "predicted": "texts without a label that this run labelled",
    "unlabelled": "texts without a label",
    "dropped": "texts left out (empty or duplicate)",
}
# Below this many texts, one text moves a label's recall by 5 points or more.
THIN_SUPPORT = 20


def model_card(
    report: Mapping[str, Any], config: Mapping[str, Any], data_info: Mapping[str, Any]
) -> str:
    """Markdown of a run's model card.

    Args:
        report: metrics.json; `choice` and `calibration` may be absent.
        config: `RunConfig.to_dict()`.
        data_info: what else is known of the data; all keys are optional: `name`, `path`, `sha256`,
            `rows`, and `origins` ({source: `Signal.origin`}).
    """
    sections = [
        _opening(report, config, data_info),
        _data(report, data_info),
        _sources(config, report, data_info.get("origins", {})),
        _choice(report.get("choice")),
        *_measured(report, config),
        _contributions(report.get("contributions")),
        _worth(report),
        _limits(report, config),
        USAGE,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


USAGE = """\
## How to use it

From the command line, in the folder that holds this file:

```
labelfusion predict . new_texts.csv --out labelled.csv
```

From Python, without asking any LLM (a source that is missing is left out, not guessed):

```python
from labelfusion.classifier import FusedClassifier
from labelfusion.types import Rows

classifier = FusedClassifier.load("model")
prediction = classifier.predict(Rows(ids=["1"], texts=["A new text"]))
print(prediction.labels(), prediction.probabilities)
```

`labelfusion train --config config.yaml` repeats the run."""


def _opening(
    report: Mapping[str, Any], config: Mapping[str, Any], data_info: Mapping[str, Any]
) -> str:
    task, name = report["task"], config.get("name") or data_info.get("name") or "Text classifier"
    kind = "any number of" if task["multi_label"] else "exactly one of"
    labels = ", ".join(f"`{label}`" for label in task["labels"])
    told = config["data"]["labels"]
    lines = [f"- `{label}`: {told[label]}" for label in task["labels"] if told.get(label)]
    text = (
        f"# {name}\n\nA text classifier made by LabelFusion. It gives a text {kind} these "
        f"{len(task['labels'])} labels: {labels}. Its probabilities come from the sources below, "
        "each calibrated and then fused."
    )
    return "\n\n".join([text, *(["\n".join(lines)] if lines else [])])


def _data(report: Mapping[str, Any], data_info: Mapping[str, Any]) -> str:
    file = PurePath(data_info.get("path") or data_info.get("name") or "given from Python").name
    rows = [f"{data_info['rows']:,} rows"] if data_info.get("rows") is not None else []
    digest = [f"SHA-256 `{data_info['sha256']}`"] if data_info.get("sha256") else []
    lines = ["## Data", "", "- " + ", ".join([file, *rows, *digest])]
    counts = report["n"]
    lines += [f"- {counts[k]:,} {title}" for k, title in COUNT_TITLES.items() if k in counts]
    return "\n".join(lines)


def _sources(
    config: Mapping[str, Any], report: Mapping[str, Any], origins: Mapping[str, str]
) -> str:
    encoder = f"encoder `{config['ml']['encoder']}`"
    described = {"ml": encoder, "joint": f"{encoder} and FusionMLP, trained jointly"}
    described |= {entry["name"]: _llm_words(entry) for entry in config["llm"]} | dict(origins)
    tested = report["n"]["test"] > 0
    rows = [
        (f"`{name}`", described.get(name, ""), _percent(part["coverage"] if tested else None))
        for name, part in report["systems"].items()
        if name != "fusion"
    ]
    return "## Sources\n\n" + _table(("Source", "What it is", "Test texts it answered"), rows)


def _llm_words(entry: Mapping[str, Any]) -> str:
    if entry["provider"] == "recorded":
        return f"scores recorded in `{PurePath(entry['path']).name}`"
    model = f", model `{entry['model']}`" if entry.get("model") else ""
    return f"LLM by {entry['provider']}{model}"


def _choice(choice: Mapping[str, Any] | None) -> str:
    if not choice:
        return ""
    rows = [
        (
            f"**{c['name']}**" if c["name"] == choice["chosen"] else c["name"],
            _plus_minus(c.get("log_loss"), c.get("standard_error")),
            _plus_minus(c.get("gain"), c.get("gain_se")),
            _number(c.get("accuracy")),
            f"{c['weight']:.0%}" if c.get("weight") else "–",
        )
        for c in choice["candidates"]
    ]
    told = f"## How the sources are combined\n\nChosen: **{choice['chosen']}**. {choice['reason']}"
    if not rows:
        return told
    head = (
        "Candidate",
        "Log-loss ± SE",
        "Gain over the best single source ± SE",
        "Accuracy",
        "Share",
    )
    return (
        f"{told}\n\nThe choice was made on the training texts by cross-validation, never on the "
        f"test texts.\n\n{_table(head, rows)}"
    )


def _measured(report: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """What the test texts show; without any, that they show nothing."""
    if not report["n"]["test"]:
        return [f"## Results\n\n{NO_METRICS}"]
    return [_results(report, config), _labels(report), _calibration(report)]


def _contributions(part: Mapping[str, Any] | None) -> str:
    if not part or not part["rows"]:
        return ""
    rows = [
        (
            f"`{name}`",
            f"{source['rows']:,}",
            _percent(source["decides"]),
            _number(source["mean_absolute"]),
            _strongest(source["labels"]),
        )
        for name, source in part["sources"].items()
    ]
    head = ("Source", "Texts", "Texts it decides", "Mean size of its contribution", "Most on")
    return (
        f"## Which source decides\n\nContributions on {part['rows']:,} texts, in log-odds (exact "
        "Shapley values: with the log-odds of the label frequencies they add up to the fused "
        f"ones).\n\n{_table(head, rows)}"
    )


def _worth(report: Mapping[str, Any]) -> str:
    lines = [f"- {entry['sentence']}" for entry in report.get("source_values", [])]
    lines += [f"- {overlap_sentence(entry)}" for entry in report.get("overlap", [])]
    if not lines:
        return ""
    return "## What each source is worth\n\n" + "\n".join(lines)


def _strongest(labels: Mapping[str, Mapping[str, float | None]]) -> str:
    known = {name: e["mean_absolute"] for name, e in labels.items() if e["mean_absolute"]}
    return f"`{max(known, key=lambda name: known[name])}`" if known else "–"


def _results(report: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    systems = report["systems"]
    rows = [
        (title, *(_with_interval(part, metric) for part in systems.values()))
        for metric, title in METRIC_TITLES.items()
    ]
    exactly = " Accuracy counts a text as right only if all of its labels are."
    exactly = exactly if report["task"]["multi_label"] else ""
    percent = f"{100 * config['evaluation']['confidence']:g} %"
    sentences = [f"- {entry['sentence']}" for entry in report["comparisons"].values()]
    return "\n\n".join(
        [
            f"## Results on {report['n']['test']:,} test texts",
            _table(("Metric", *systems), rows),
            f"In brackets: {percent} bootstrap intervals over test texts. Lower is better for NLL, "
            f"Brier score and ECE (expected calibration error).{exactly}",
            *(["\n".join(sentences)] if sentences else []),
        ]
    )


def _labels(report: Mapping[str, Any]) -> str:
    final = report["systems"].get("fusion")
    if not final:
        return ""
    rows = [
        (
            entry["label"],
            *(_number(entry[key]) for key in ("precision", "recall", "f1")),
            f"{entry['support']:,}",
            f"{entry['predicted']:,}",
            _number(entry["threshold"]),
        )
        for entry in final["per_label"]
    ]
    head = ("Label", "Precision", "Recall", "F1", "Texts with it", "Texts given it", "Threshold")
    return "## Fusion, label by label\n\n" + _table(head, rows)


def _calibration(report: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{name}`",
            entry["chosen"],
            *(
                f"{_number(entry['before'][m])} → {_number(entry['after'][m])}"
                for m in BEFORE_AFTER
            ),
        )
        for name, entry in report.get("calibration", {}).items()
    ]
    head = ("Source", "Calibrator", *(f"{METRIC_TITLES[m]}" for m in BEFORE_AFTER))
    readings = [
        f"- {name}: {describe_reliability(part['reliability']['overall'])}"
        for name, part in report["systems"].items()
    ]
    parts = ["## Calibration", *([_table(head, rows)] if rows else []), "\n".join(readings)]
    return "\n\n".join(parts)


BEFORE_AFTER = ("nll", "brier", "ece_mass")


def _limits(report: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    n = report["n"]["test"]
    rest = [
        f"- The figures rest on {n:,} test text{'s' * (n != 1)}. The intervals say how far they "
        "could move with other texts of the same kind; they say nothing of texts of another kind, "
        "another time or another language.",
        "- The labels of the data are taken as right. Where they are not, neither are the figures.",
    ]
    lines = [*rest, *_thin_labels(report)] if n else ["- Nothing has been measured."]
    if any(entry["provider"] != "recorded" for entry in config["llm"]):
        lines.append(
            "- An LLM behind an API can change without notice: check a sample again now and then."
        )
    return "## Limits\n\n" + "\n".join(lines)


def _thin_labels(report: Mapping[str, Any]) -> list[str]:
    final = report["systems"].get("fusion", {"per_label": []})
    thin = [e["label"] for e in final["per_label"] if e["support"] < THIN_SUPPORT]
    if not thin:
        return []
    return [
        f"- Fewer than {THIN_SUPPORT} test texts have {', '.join(f'`{t}`' for t in thin)}: read "
        "the figures of these labels as a hint only."
    ]


def _with_interval(part: Mapping[str, Any], metric: str) -> str:
    value, interval = part["metrics"][metric], part["intervals"].get(metric)
    if value is None or not interval:
        return _number(value)
    return f"{_number(value)} [{_number(interval[0])}, {_number(interval[1])}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plus_minus(value: float | None, error: float | None) -> str:
    return _number(value) if error is None else f"{_number(value)} ± {_number(error)}"


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot end its table cell: labels and names are the user's."""
    return " ".join(text.split()).replace("|", "\\|")
