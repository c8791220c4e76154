"""The pages Calibration and Cost and the figures of Results, driven without a browser."""

from __future__ import annotations

import json
import shutil

import pytest

from labelfusion.fusion.routing import RoutingPolicy
from labelfusion.operating_point import saved_rule
from labelfusion.runs import ResultsManager
from labelfusion.workspace import Workspace
from tests.report_runs import asking_run, make_old, reviews_run, tickets_run
from tests.run_folders import write_run
from tests.test_app_pages import RUN, open_page, press, text_of

CALIBRATION, COST, RESULTS = (f"pages/{n}.py" for n in ("calibration", "cost", "results"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with a run of each kind, made once; {kind: run id}."""
    root = tmp_path_factory.mktemp("made")
    makers = {"tickets": tickets_run, "reviews": reviews_run, "asking": asking_run}
    return root, {kind: make(root) for kind, make in makers.items()}


@pytest.fixture
def workspace(made, tmp_path, monkeypatch):
    """A copy of that workspace, for a test to change."""
    root = shutil.copytree(made[0], tmp_path / "workspace")
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(root))
    return Workspace.at(root)


@pytest.fixture
def ids(made):
    return made[1]


@pytest.fixture
def empty_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFUSION_WORKSPACE", str(tmp_path))
    return Workspace.at(tmp_path)


def metric(page, label):
    return next(m.value for m in page.metric if m.label.startswith(label))


@pytest.mark.parametrize("kind", ["tickets", "reviews"])
@pytest.mark.parametrize("tab", ["Diagrams", "Every label", "Metrics"])
def test_every_tab_of_calibration_opens_cold(kind, tab, workspace, ids):
    for source in ("fusion", "ml", "llm"):
        page = open_page(CALIBRATION, run=ids[kind], tab=tab, source=source)
        assert not page.error


def test_calibration_reads_both_diagrams_and_says_which_calibrator_and_why(workspace, ids):
    page = open_page(CALIBRATION, run=ids["tickets"], source="llm")
    readings = [c.value for c in page.caption if "confidence it is right" in c.value]
    assert len(readings) == 2
    report = ResultsManager(workspace).open(ids["tickets"]).metrics
    said = text_of(page).replace("\\", "")
    assert f"Chosen: {report['calibration']['llm']['chosen']}" in said
    assert report["calibration"]["llm"]["reason"] in said


def test_calibration_of_a_label_is_in_the_address(workspace, ids):
    page = open_page(CALIBRATION, run=ids["tickets"], label="billing")
    assert [s.value for s in page.selectbox] == [ids["tickets"], "fusion", "billing"]
    page.selectbox[2].select("delivery")
    page.run()
    assert page.query_params["label"] in ("delivery", ["delivery"])


@pytest.mark.parametrize("query", [{"label": "biling"}, {"source": "llmm"}])
def test_calibration_of_what_the_run_does_not_have_is_a_sentence(query, workspace, ids):
    page = open_page(CALIBRATION, run=ids["tickets"], **query)
    assert "Did you mean" in page.error[0].value


def test_an_older_run_shows_what_it_kept(workspace, ids):
    make_old(workspace.runs / ids["tickets"])
    page = open_page(CALIBRATION, run=ids["tickets"], source="llm")
    assert not page.error
    assert "before diagrams of the raw scores were kept" in text_of(page)
    page = open_page(CALIBRATION, run=ids["tickets"], tab="Metrics")
    assert "ece_smooth" not in page.dataframe[0].value.columns
    page = open_page(COST, run=ids["tickets"])
    assert "before routing was measured" in text_of(page)


def test_a_run_that_kept_no_diagram_says_so(empty_workspace):
    write_run(empty_workspace.root)
    for tab in ("Diagrams", "Every label"):
        page = open_page(CALIBRATION, run=RUN, tab=tab)
        assert "no test texts" in text_of(page)


@pytest.mark.parametrize("path", [CALIBRATION, COST])
def test_an_unfinished_and_a_damaged_run_are_sentences(path, empty_workspace):
    folder = write_run(empty_workspace.root, state="failed")
    assert "failed, so there" in text_of(open_page(path, run=RUN))
    shutil.rmtree(folder)
    folder = write_run(empty_workspace.root)
    (folder / "metrics.json").write_text("{")
    assert "damaged" in open_page(path, run=RUN).error[0].value


def test_cost_shows_a_ledger_without_any_run(workspace):
    shutil.rmtree(workspace.runs)
    page = open_page(COST, tab="Ledger")
    assert metric(page, "Spent").startswith("$0.0")
    assert "Train one" in [link.label[:9] for link in open_page(COST).get("page_link")]


@pytest.mark.parametrize("by", ["run", "provider", "model", "day"])
def test_cost_sums_the_ledger_by(by, workspace, ids):
    page = open_page(COST, run=ids["asking"], tab="Ledger", by=by)
    assert not page.dataframe
    page.session_state[f"spend_{by}_fold"] = True
    page.run()
    assert not page.exception
    table = page.dataframe[0].value
    (usage,) = ResultsManager(workspace).open(ids["asking"]).usage
    assert table["money ($)"].sum() == pytest.approx(usage["usd"])
    assert table["requests"].sum() == usage["requests"]


def test_cost_takes_price_and_wait_from_what_the_run_measured(workspace, ids):
    (usage,) = ResultsManager(workspace).open(ids["asking"]).usage
    page = open_page(COST, run=ids["asking"])
    assert "mean of the 60 texts this run asked about" in text_of(page)
    page.number_input[0].set_value(60)
    page.run()
    paid = float(metric(page, "Money").removeprefix("$")) / 1000 * 60
    assert paid == pytest.approx(usage["usd"], rel=0.1)


def test_cost_takes_a_price_that_is_typed_in(workspace, ids):
    page = open_page(COST, run=ids["tickets"])
    assert metric(page, "Money for") == "unknown price"
    field = next(n for n in page.number_input if n.label.startswith("Dollars"))
    field.set_value(2.5)
    press(page, "Use these")
    assert metric(page, "Money for") == "$2.50"


def test_saving_an_operating_point_writes_what_predictions_obey(workspace, ids):
    run = ResultsManager(workspace).open(ids["tickets"])
    page = open_page(COST, run=run.id, share="40")
    point = min(run.metrics["routing"]["frontier"], key=lambda p: abs(p["share"] - 0.4))
    assert metric(page, "Texts sent") == f"{100 * point['share']:.1f} %"
    press(page, "Save as this run")
    saved = RoutingPolicy.load(run.folder.model)
    assert (saved.policy, saved.threshold) == ("margin", point["threshold"])
    assert run.model().routing == saved
    assert "Chosen by hand" in text_of(page)
    button = next(b for b in page.button if b.label.startswith("Save"))
    assert button.disabled


@pytest.mark.parametrize(("share", "policy"), [("0", "never"), ("100", "always")])
def test_both_ends_of_the_slider_are_policies_of_their_own(share, policy, workspace, ids):
    run = ResultsManager(workspace).open(ids["tickets"])
    RoutingPolicy("margin", 0.3, 0.5, "before").save(run.folder.model)
    press(open_page(COST, run=run.id, share=share), "Save as this run")
    assert RoutingPolicy.load(run.folder.model).policy == policy


def test_a_damaged_policy_or_a_missing_model_is_a_sentence(workspace, ids):
    run = ResultsManager(workspace).open(ids["tickets"])
    (run.folder.model / "routing.json").write_text("{")
    assert "cannot be read" in open_page(COST, run=run.id).error[0].value
    shutil.rmtree(run.folder.model)
    assert "no model" in open_page(COST, run=run.id).error[0].value


def test_a_run_without_anything_to_route_says_why(workspace, ids):
    path = workspace.runs / ids["tickets"] / "metrics.json"
    report = json.loads(path.read_text())
    report["routing"] |= {"frontier": [], "reason": "There is no LLM source to ask"}
    path.write_text(json.dumps(report))
    assert "no LLM source to ask" in text_of(open_page(COST, run=ids["tickets"]))


def test_curves_of_a_label_and_of_all(workspace, ids):
    for kind in ("tickets", "reviews"):
        page = open_page(RESULTS, run=ids[kind], tab="Curves")
        assert "Average precision" in text_of(page)
        report = ResultsManager(workspace).open(ids[kind]).metrics
        label = report["task"]["labels"][0]
        page = open_page(RESULTS, run=ids[kind], tab="Curves", label=label)
        assert page.selectbox[1].value == label
    page = open_page(RESULTS, run=ids["tickets"], tab="Curves", label="biling")
    assert "Did you mean" in page.error[0].value


def test_a_threshold_is_tried_saved_and_taken_back(workspace, ids):
    run = ResultsManager(workspace).open(ids["reviews"])
    label = run.metrics["task"]["labels"][0]
    trained = saved_rule(run).probabilities
    page = open_page(RESULTS, run=run.id, tab="Thresholds", label=label)
    assert page.slider[0].value == pytest.approx(trained[0], abs=0.006)
    assert {m.label for m in page.metric} == {
        "Precision", "Recall", "F1", "Exact match", "Macro-F1",
    }  # fmt: skip
    recall = metric(page, "Recall")
    page.slider[0].set_value(0.95)
    page.run()
    assert float(metric(page, "Recall").split()[0]) < float(recall.split()[0])
    assert saved_rule(run).probabilities == pytest.approx(trained)
    press(page, "Save 1 changed")
    assert saved_rule(run).probabilities == pytest.approx([0.95, *trained[1:]])
    press(page, "Back to the trained ones")
    assert saved_rule(run).probabilities == pytest.approx(trained)


def test_thresholds_are_for_multi_label_runs(workspace, ids):
    page = open_page(RESULTS, run=ids["tickets"], tab="Thresholds")
    assert "exactly one label" in text_of(page)


def test_a_hundred_labels_open_on_every_page(empty_workspace):
    labels = tuple(f"label {i}" for i in range(100))
    write_run(empty_workspace.root, labels=labels, n=1500)
    for path, tab in ((RESULTS, "Curves"), (RESULTS, "Export"), (CALIBRATION, "Every label")):
        assert not open_page(path, run=RUN, tab=tab).error
