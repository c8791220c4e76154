"""A finished run as one HTML file that loads nothing and prints: for whoever has no LabelFusion.

Reads a run. Has no script and no outside resource; every text of the user's is escaped. Parts that
an older run lacks are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

import pandas as pd

from labelfusion import svg
from labelfusion.errors import RunError
from labelfusion.evaluation.source_value import overlap_sentence
from labelfusion.operating_point import known_cost, priced, saved_policy
from labelfusion.runs import Run
from labelfusion.runs.usage import usage_sentence
from labelfusion.ui import calibration_tables as calibration
from labelfusion.ui import tables
from labelfusion.ui.charts import (
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    most_confused,
    source_colours,
    system_name,
)
from labelfusion.ui.routing_charts import read_point
from labelfusion.ui.source_charts import values_table
from labelfusion.ui.tables import FUSION, Metric

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
figure { margin: 1rem 0; display: inline-block; vertical-align: top; max-width: 100%; }
figcaption { max-width: 28rem; color: #444; font-size: .92em; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #bbb; }
.cells td { text-align: center; min-width: 2.2rem; } .note { color: #555; }
.wide { overflow-x: auto; }
@media print { body { margin: 0; max-width: none; } figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; } * { print-color-adjust: exact; } .wide { overflow: visible; } }
"""
LIMITS = """\
<section>
<h2>Limits</h2>
<p>The intervals say how far the figures could move with other texts of the same kind. They say
nothing of texts of another kind, another time or another language, and the labels of the data are
taken as right.</p>
</section>"""
MAX_CELLS = 20


def report_html(run: Run) -> str:
    """The whole document. Raises RunError for a run that is not finished, or is damaged."""
    if run.status.state != "finished":
        raise RunError(
            "Only a finished run has a report",
            where=run.id,
            found=f"a run that is {run.status.state}",
            remedy=f"Finish it with: labelfusion train --resume {run.id}",
        )
    sections = (
        _head(run),
        _results(run),
        _labels(run),
        _confusion(run),
        _choice(run),
        _worth(run),
        _calibration(run),
        _routing(run),
        _usage(run),
        _settings(run),
        LIMITS,
    )
    title = escape(run.status.name)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · LabelFusion</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _head(run: Run) -> str:
    report, status = run.metrics, run.status
    n, task = report["n"], report["task"]
    kind = "any number of" if task["multi_label"] else "exactly one of"
    return (
        f"<h1>{escape(status.name)}</h1>\n"
        f'<p class="note">Run {escape(run.id)}, finished {escape(str(status.finished))}</p>\n'
        f"<p>A text gets {kind} {len(task['labels'])} labels. Trained on {n['train']:,} labelled "
        f"texts; every figure below is on {n['test']:,} other texts unless it says otherwise.</p>"
    )


def _results(run: Run) -> str:
    report = run.metrics
    metric = tables.primary_metric(report)
    confidence = f"{run.config.evaluation.confidence:.0%} interval"
    figure = _forest(tables.metric_table(report, metric), metric, confidence)
    sentences = "".join(f"<li>{escape(s)}</li>" for s in tables.comparison_sentences(report))
    rows = [
        [m.name, *(_with_interval(report["systems"][s], m) for s in _systems(report))]
        for m in tables.metrics_of(report)
    ]
    head = ["Metric", *map(system_name, _systems(report))]
    note = f"In brackets: {confidence}. Lower is better for log loss, Brier score and errors."
    return _section("Results", figure, f"<ul>{sentences}</ul>", _table(head, rows), _note(note))


def _systems(report: Mapping[str, Any]) -> list[str]:
    return [FUSION, *tables.sources_of(report)]


def _forest(values: pd.DataFrame, metric: Metric, confidence: str) -> str:
    colours = source_colours(values["system"].tolist())
    rows = [
        (system_name(r["system"]), r["value"], r["low"], r["high"], colours[r["system"]])
        for r in values.to_dict("records")
    ]
    title = f"{metric.name} on the test texts, {confidence}"
    return _figure(svg.intervals(rows, title, title, percent=metric.share), "")


def _with_interval(system: Mapping[str, Any], metric: Metric) -> str:
    value = system["metrics"].get(metric.key)
    ends = system.get("intervals", {}).get(metric.key)
    if value is None or not ends or ends[0] is None:
        return metric.show(value)
    return f"{metric.show(value)} ({metric.show(ends[0])} to {metric.show(ends[1])})"


def _labels(run: Run) -> str:
    table = tables.per_label_table(run.metrics).sort_values("f1", ignore_index=True)
    names = {"label": "Label", "support": "Test texts", "predicted": "Given"}
    names |= {"precision": "Precision", "recall": "Recall", "f1": "F1", "threshold": "Threshold"}
    names |= {f"f1_{s}": f"F1 of {system_name(s)}" for s in tables.sources_of(run.metrics)}
    rows = [[_cell(name, value) for name, value in r.items()] for r in table.to_dict("records")]
    head = [names.get(str(name), str(name)) for name in table.columns]
    return _section("Label by label, the weakest first", _table(head, rows))


def _cell(name: Any, value: Any) -> str:
    if isinstance(value, float) and name not in ("support", "predicted", "threshold"):
        return "–" if pd.isna(value) else f"{100 * value:.1f} %"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _confusion(run: Run) -> str:
    report = run.metrics
    if report["task"]["multi_label"]:
        table = tables.binary_confusion_table(report, FUSION)
        rows = [[str(value) for value in row] for row in table.to_numpy().tolist()]
        head = [str(name).capitalize() for name in table.columns]
        return _section("What the fusion finds and misses", _table(head, rows))
    cells, labels = tables.confusion_table(report, FUSION), report["task"]["labels"]
    shown = most_confused(cells, labels, MAX_CELLS)
    held = {(r["gold"], r["predicted"]): r for r in cells.to_dict("records")}
    rows = [
        f"<tr><th>{escape(gold)}</th>{''.join(_square(held[gold, p]) for p in shown)}</tr>"
        for gold in shown
    ]
    head = "".join(f"<th>{escape(name)}</th>" for name in shown)
    part = (
        f"the {len(shown)} most confused of {len(labels)} labels; "
        if len(shown) < len(labels)
        else ""
    )
    return _section(
        "Confusion matrix of the fusion",
        f'<div class="wide"><table class="cells"><tr><th></th>{head}</tr>{"".join(rows)}</table>'
        "</div>",
        _note(f"Texts: {part}true label down, predicted label across."),
    )


def _square(cell: Mapping[str, Any]) -> str:
    share = float(cell["share"])
    ink = "#fff" if share > 0.5 else "#222"
    style = f"background: rgba(0, 114, 178, {share:.2f}); color: {ink}"
    return f'<td style="{style}">{int(cell["count"])}</td>'


def _choice(run: Run) -> str:
    choice = run.metrics.get("choice") or {}
    table = tables.candidates_table(run.metrics)
    if table.empty:
        return ""
    rows = [
        (
            tables.weighted_name(r),
            r["log_loss"],
            r["log_loss"] - r["standard_error"],
            r["log_loss"] + r["standard_error"],
            GREEN if r["weight"] else GREY,
        )
        for r in table.to_dict("records")
    ]
    title = "Cross-validated log loss (nats a text), one standard error; lower is better"
    drawn = _figure(svg.intervals(rows, title, title, percent=False), "")
    return _section("Why this fusion", f"<p>{escape(choice.get('reason') or '')}</p>", drawn)


def _worth(run: Run) -> str:
    values = run.metrics.get("source_values") or []
    overlap = run.metrics.get("overlap") or []
    if not values and not overlap:
        return ""
    drawn = _source_values(values, run.config.evaluation.confidence) if values else ""
    said = [entry["sentence"] for entry in values] + [overlap_sentence(e) for e in overlap]
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    return _section("What each source is worth", drawn, f"<ul>{listed}</ul>")


def _source_values(values: Sequence[Mapping[str, Any]], confidence: float) -> str:
    table = values_table(values)
    colours = source_colours(table["source"].tolist())
    rows = [
        (system_name(r["source"]), r["value"], r["low"], r["high"], colours[r["source"]])
        for r in table.to_dict("records")
    ]
    metric = tables.metric_called(values[0]["metric"])
    title = f"{metric.name} lost without each source, {confidence:.0%} interval"
    return _figure(svg.intervals(rows, title, title, percent=metric.share), "")


def _calibration(run: Run) -> str:
    report = run.metrics
    drawn = [
        _figure(_diagram(diagram, name), f"{system_name(name)}, {diagram.name}: {diagram.reading}")
        for name in _systems(report)
        for diagram in calibration.diagrams(report, name, None)
        if diagram.bins
    ]
    said = "".join(
        f"<li>{escape(system_name(s))}: {escape(' '.join(calibration.why(report, s)))}</li>"
        for s in tables.sources_of(report)
    )
    table, names = calibration.quality_table(report), calibration.quality_names(report)
    rows = [
        [system_name(str(row.pop("system"))), str(row.pop("stage")), *map(_number, row.values())]
        for row in table.to_dict("records")
    ]
    head = ["System", "Stage", *(names.get(str(c), str(c)) for c in table.columns[2:])]
    note = (
        "Grey: where the points would lie by chance alone if the probabilities were right. Lower "
        "is better in the table."
    )
    return _section("Calibration", *drawn, _note(note), f"<ul>{said}</ul>", _table(head, rows))


def _diagram(diagram: calibration.Diagram, system: str) -> str:
    stated = [b["mean_predicted"] for b in diagram.bins]
    observed = [b["observed"] for b in diagram.bins]
    colour = source_colours([system])[system]
    axes = [svg.Axis(t, 0.0, 1.0, True) for t in ("Stated probability", "Came true")]
    plot = svg.Plot(*axes, width=400)
    low, high = ([b[f"expected_{end}"] for b in diagram.bins] for end in ("low", "high"))
    plot.band(stated, low, high, GREY)
    plot.line([0, 1], [0, 1], GREY, dashed=True)
    plot.line(stated, observed, colour)
    for b in diagram.bins:
        ends = [(b["mean_predicted"], b[f"observed_{end}"]) for end in ("low", "high")]
        plot.segment(ends[0], ends[1], colour)
    plot.dots(stated, observed, colour)
    return plot.svg(f"Reliability diagram. {diagram.reading}")


def _routing(run: Run) -> str:
    routing = run.metrics.get("routing") or {}
    if not routing.get("frontier"):
        return ""
    report = run.metrics
    metric = next(m for m in tables.metrics_of(report) if m.key == "accuracy")
    cost = known_cost(run.config, run.usage, {})
    points = [priced(point, cost.cost) for point in routing["frontier"]]
    try:
        policy = saved_policy(run)
    except RunError as error:
        return _section("How many texts the LLM is asked about", f"<p>{escape(str(error))}</p>")
    now = min(points, key=lambda p: abs(p["threshold"] - policy.threshold))
    drawn = _figure(_frontier(points, now, metric), read_point(now, metric, routing["rows"]))
    legend = (
        "Green: the least sure texts are sent first, with its interval. Orange: the same share at "
        "random. Red: in force."
    )
    return _section(
        "How many texts the LLM is asked about",
        f"<p>In force: {escape(policy.reason)}.</p>",
        drawn,
        _note(legend),
    )


def _frontier(points: Sequence[Mapping[str, Any]], now: Mapping[str, Any], metric: Metric) -> str:
    shares = [p["share"] for p in points]
    low, high = ([p["accuracy_interval"][i] for p in points] for i in (0, 1))
    random = [p["random_accuracy"] for p in points]
    up = svg.Axis.around(metric.name, [*low, *high, *random], percent=True)
    plot = svg.Plot(svg.Axis("Texts sent to the LLM", 0.0, 1.0, True), up, width=640)
    plot.band(shares, low, high, GREEN)
    plot.line(shares, random, ORANGE, dashed=True)
    plot.line(shares, [p["accuracy"] for p in points], GREEN)
    plot.dots([now["share"]], [now["accuracy"]], VERMILION, 6)
    return plot.svg(f"{metric.name} over the share of texts sent to the LLM")


def _usage(run: Run) -> str:
    said = "".join(f"<li>{escape(usage_sentence(record))}</li>" for record in run.usage)
    return _section("What asking cost", f"<ul>{said}</ul>") if said else ""


def _settings(run: Run) -> str:
    config, data = run.config, run.status.data
    # The file's name alone: where it lies is nobody's business who is sent the report.
    name = PurePath(config.data.path or "given from Python").name
    rows = [
        ["Data", f"{name}, {data.get('rows') or '?'} rows"],
        ["SHA-256 of the data", str(data.get("sha256", "–"))],
        ["Encoder", config.ml.encoder],
        *([f"LLM source {e.name}", f"{e.provider} {e.model or ''}"] for e in config.llm),
        ["Fusion, calibration", f"{config.fusion.method}, {config.fusion.calibration}"],
        ["Seed", str(config.seed)],
    ]
    return _section("How it was made", _table(["Setting", "Value"], rows))


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _figure(drawn: str, caption: str) -> str:
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{drawn}{said}</figure>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _number(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows
    )
    return f'<div class="wide"><table>\n<tr>{top}</tr>\n{body}</table></div>'
