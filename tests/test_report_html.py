"""The HTML report loads nothing, escapes everything and survives what a run lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from labelfusion import svg
from labelfusion.errors import RunError
from labelfusion.report_html import report_html
from labelfusion.runs import ResultsManager
from tests.command_line import labelfusion
from tests.report_runs import make_old, reviews_run, tickets_run
from tests.run_folders import write_run

EVIL = ('<script>alert("1")</script>', "a & b", "'\"><img src=x onerror=alert(1)>")
VOID = {"meta", "br", "img", "line", "circle", "polyline", "polygon"}


class Reader(HTMLParser):
    """Collects tags and addresses; fails where a tag is closed that was not opened last."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text, self._open = set(), [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        names = ("src", "href", "action", "data", "poster", "xlink:href")
        self.addresses += [value for name, value in attributes if name in names]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    assert not reader._open
    assert not reader.tags & {"script", "link", "iframe", "img", "object", "embed", "base"}
    assert not reader.addresses
    assert "url(" not in html
    assert "@import" not in html
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    return " ".join(reader.text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return ResultsManager(root), {"tickets": tickets_run(root), "reviews": reviews_run(root)}


@pytest.mark.parametrize("kind", ["tickets", "reviews"])
def test_the_report_of_a_real_run_has_its_figures_and_loads_nothing(kind, runs):
    run = runs[0].open(runs[1][kind])
    html = report_html(run)
    text = read(html)
    for part in ("Results", "Calibration", "Why this fusion", "How many texts", "What asking cost"):
        assert part in text
    for label in run.metrics["task"]["labels"]:
        assert label in text
    assert run.metrics["choice"]["reason"] in text
    # A diagram of the fusion and two of each source; intervals, candidates, values and frontier.
    assert html.count("<svg") == 9
    for sentence in (*(v["sentence"] for v in run.metrics["source_values"]), "ml and llm agree on"):
        assert sentence in text
    assert str(runs[0].workspace.root) not in html


def test_an_older_run_has_a_report_too(tmp_path):
    run = ResultsManager(tmp_path).open(tickets_run(tmp_path))
    make_old(run.folder.path)
    text = read(report_html(run))
    assert "How many texts" not in text
    assert "Calibration" in text


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_the_user_named_is_escaped(multi_label, tmp_path):
    folder = write_run(tmp_path, labels=EVIL, multi_label=multi_label)
    status = folder / "status.json"
    status.write_text(status.read_text().replace('"tickets"', '"<b>tick</b>"'))
    run = ResultsManager(tmp_path).open(folder.name)
    text = read(report_html(run))
    for evil in (*EVIL, "<b>tick</b>"):
        assert evil in text


def test_a_hundred_labels_stay_readable(tmp_path):
    labels = tuple(f"label number {i}" for i in range(100))
    folder = write_run(tmp_path, labels=labels, n=1500)
    html = report_html(ResultsManager(tmp_path).open(folder.name))
    assert "the 20 most confused of 100 labels" in read(html)
    assert len(html) < 200_000


def test_a_run_that_is_not_finished_has_none(tmp_path):
    folder = write_run(tmp_path, state="failed")
    with pytest.raises(RunError, match="Only a finished run"):
        report_html(ResultsManager(tmp_path).open(folder.name))


def test_the_command_writes_the_file_and_replaces_none_unasked(tmp_path):
    folder = write_run(tmp_path)
    command = ("report", folder.name, "--out", "r.html", "--workspace", tmp_path)
    labelfusion(*command, cwd=tmp_path)
    read((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "--force" in labelfusion(*command, cwd=tmp_path, check=2).stderr
    labelfusion(*command, "--force", cwd=tmp_path)
    assert (
        "no run"
        in labelfusion(
            "report", "gone", "--out", "x.html", "--workspace", tmp_path, cwd=tmp_path, check=1
        ).stderr
    )


def test_making_a_report_loads_no_model(tmp_path):
    folder = write_run(tmp_path)
    code = (
        "import sys\n"
        "from labelfusion.report_html import report_html\n"
        "from labelfusion.runs import ResultsManager\n"
        f"report_html(ResultsManager({str(tmp_path)!r}).open({folder.name!r}))\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'plotly', 'streamlit'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("low", "high", "percent"), [(0, 1, True), (0.62, 0.63, True), (-3, 7e5, False), (2, 2, False)]
)
def test_ticks_are_round_and_within_the_axis(low, high, percent):
    axis = svg.Axis.around("x", [low, high], percent)
    values = [value for value, _ in axis.ticks()]
    assert 2 <= len(values) <= 11
    assert axis.low - 1e-9 <= min(values)
    assert max(values) <= axis.high + 1e-9
    assert len({text for _, text in axis.ticks()}) == len(values)


def test_points_land_where_they_belong():
    plot = svg.Plot(svg.Axis("x", 0, 10), svg.Axis("y", 0, 1))
    plot.dots([0, 10], [0, 1], "red")
    found = np.array(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot.svg("dots")), dtype=float)
    left, right = svg.LEFT, plot.width - svg.RIGHT
    assert found.tolist() == [[left, plot.height - svg.BOTTOM], [right, svg.TOP]]
