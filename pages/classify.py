"""Classify: one text taken apart source by source, or a file in the background."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from labelfusion import jobs
from labelfusion.config import LLMConfig
from labelfusion.errors import LabelFusionError
from labelfusion.evaluation.words import NO_REFERENCE
from labelfusion.prediction_job import (
    INPUTS,
    PredictionFolder,
    Request,
    list_predictions,
)
from labelfusion.runs import Run
from labelfusion.ui import classify_charts, costs, job_panel, state, widgets
from labelfusion.ui.charts import system_name
from labelfusion.ui.progress import duration
from labelfusion.ui.tables import FUSION, safe_csv

if TYPE_CHECKING:
    from labelfusion.classify_text import Answer

INTRO = "Label new texts with a finished run, and see why. An LLM is asked only when you say so."
ROUTINGS: dict[Literal["saved", "always", "never"], str] = {
    "saved": "As the run says",
    "always": "Ask about every text",
    "never": "Ask nobody",
}


def one_text(run: Run) -> None:
    """A text, what its sources say, what is fused of it, and why."""
    with st.form("one_text", border=False):
        text = st.text_area("Text", height=120, key="text_to_classify")
        asked = st.form_submit_button("Classify", type="primary")
    if asked:
        st.session_state["sitting"] = None
        begin(run, text)
    sitting = st.session_state.get("sitting")
    if sitting and sitting["run"] == run.id:
        sources(run, sitting)
        result(run, sitting)
        snippets(run, sitting["rows"].texts[0])


def begin(run: Run, text: str) -> None:
    """Take what costs nothing: the encoder, recorded scores, and answers in the cache."""
    from labelfusion import classify_text

    data = state.open_dataset(run.config.data) if state.data_is_there(run) else None
    rows = classify_text.as_rows(text, data)
    classifier = state.classifier(run)
    with st.spinner("Reading the text"):
        answers = classify_text.encoder_answer(classifier, rows)
        for entry in run.config.llm:
            if entry.provider == "recorded":
                found = classify_text.recorded_answer(run, classifier, entry, rows)
                answers |= {entry.name: found} if found else {}
    st.session_state["sitting"] = {"run": run.id, "rows": rows, "answers": answers}
    for entry in run.config.llm:
        if entry.provider != "recorded" and offer(run, entry).cached:
            ask(run, entry)


def offer(run: Run, entry: LLMConfig) -> Any:
    from labelfusion import classify_text

    rows = st.session_state["sitting"]["rows"]
    return classify_text.offer(run, state.classifier(run), entry, rows, state.workspace())


def ask(run: Run, entry: LLMConfig) -> None:
    """Ask an LLM, for money unless the answer is in the cache; an error becomes a sentence."""
    from labelfusion import classify_text

    sitting = st.session_state["sitting"]
    with widgets.errors_as_sentences(), st.spinner(f"Asking {entry.name}"):
        answer = classify_text.ask(
            run, state.classifier(run), entry, sitting["rows"], state.workspace()
        )
        sitting["answers"][entry.name] = answer


def sources(run: Run, sitting: dict[str, Any]) -> None:
    """Each source: used or left out, missing, or still to be asked and for how much."""
    st.subheader("Sources", anchor=False)
    entries = {entry.name: entry for entry in run.config.llm}
    for name in run.config.source_names:
        with st.container(horizontal=True, vertical_alignment="center"):
            # Asked for before it is drawn, so that the answer is drawn at once.
            if name not in sitting["answers"] and name in entries:
                missing_source(run, entries[name])
            if name in sitting["answers"]:
                answered(name, sitting["answers"][name])


def missing_source(run: Run, entry: LLMConfig) -> None:
    name = f"**{widgets.escape(system_name(entry.name))}**"
    if entry.provider == "recorded":
        from labelfusion.classify_text import NOT_RECORDED

        st.markdown(f"{name}: {NOT_RECORDED}")
        return
    cost = offer(run, entry)
    st.markdown(
        f"{name}: not asked. Expected cost {widgets.escape(costs.money(cost.expected))}, at most "
        f"{widgets.escape(costs.money(cost.at_most))}, about {duration(cost.seconds)}."
    )
    if st.button(f"Ask {entry.name}", key=f"ask_{entry.name}"):
        ask(run, entry)


def answered(name: str, answer: Answer) -> None:
    st.checkbox(f"Use {system_name(name)}", value=True, key=f"use_{name}")
    if not answer.signal.present.all():
        st.caption("It gave no usable answer, so the source is missing.")
        return
    st.caption(f"{widgets.escape(answer.signal.origin)} · {price(answer)}")


def price(answer: Answer) -> str:
    """What the answer cost and how long it took."""
    took = f"{answer.seconds:.2f} s"
    if answer.cost is None or not answer.cost.requests:
        return f"free · {took}"
    if answer.cost.unpriced:
        return f"at an unknown price · {took}"
    return f"{widgets.escape(costs.money(answer.cost.usd))} · {took}"


def result(run: Run, sitting: dict[str, Any]) -> None:
    """Fused and single probabilities, the waterfall, and the text beside the training texts."""
    from labelfusion import classify_text

    classifier, answers = state.classifier(run), sitting["answers"]
    used = {name for name in answers if st.session_state.get(f"use_{name}", True)}
    prediction = classify_text.what_if(classifier, answers, used)
    names = classifier.space.names
    given = ", ".join(prediction.labels()[0]) or "no label"
    st.subheader(f"Label: {given}", anchor=False)
    if not prediction.present.any():
        st.warning("No source says anything, so this is how frequent the labels are.")
    systems = {FUSION: prediction.probabilities[0]}
    for name in sorted(used):
        if answers[name].signal.present.all():
            alone = classifier.fusion.predict_alone(answers[name].signal)
            systems[name] = alone.probabilities[0]
    left, right = widgets.figures("text", 2)
    with left:
        widgets.show_chart(classify_charts.probabilities(systems, names), "probabilities")
    with right:
        best = int(prediction.probabilities[0].argmax())
        label = st.selectbox("Contributions to", names, best)
        prior = classifier.fusion.prior_log_odds()
        widgets.show_chart(classify_charts.waterfall(prediction, prior, label), "waterfall")
    beside_training(run, sitting, prediction)


def beside_training(run: Run, sitting: dict[str, Any], prediction: Any) -> None:
    """Whether the text is unlike the training texts, and which of them are nearest."""
    from labelfusion.shift import nearest_training

    classifier = state.classifier(run)
    st.subheader("Beside the training texts", anchor=False)
    signals = {name: answer.signal for name, answer in sitting["answers"].items()}
    compared = classifier.compare(sitting["rows"], signals, prediction)
    if compared is None or classifier.reference is None:
        st.info(NO_REFERENCE)
        return
    unlike, _ = compared
    if unlike.flagged[0]:
        st.warning(f"Unlike the training texts: {unlike.reasons[0]}. Do not rely on its label.")
    else:
        st.caption("Nothing speaks against it being a text like the training texts.")
    nearest = nearest_training(classifier.reference, unlike, 0)
    if state.data_is_there(run):
        dataset = state.open_dataset(run.config.data)
        texts = dict(zip(dataset.ids.tolist(), dataset.texts, strict=True))
        nearest["text"] = [texts.get(i, "") for i in nearest["id"]]
    widgets.table(nearest, "nearest")


def snippets(run: Run, text: str) -> None:
    from labelfusion.classify_text import python_snippet

    with st.expander("The same from Python and the command line"):
        st.code(python_snippet(run, text), language="python")
        root = shlex.quote(str(state.workspace().root))
        st.code(
            f"labelfusion predict {run.id} texts.csv --out labelled.csv --workspace {root}\n"
            f"labelfusion explain {run.id} texts.csv --workspace {root}",
            language="bash",
        )


def a_file(run: Run) -> None:
    """A file to be labelled in the background, and what became of the last ones."""
    kinds = [suffix.removeprefix(".") for suffix in INPUTS]
    given = st.file_uploader("File with texts", type=kinds, key="file_to_label")
    st.caption(f"Its text column: {widgets.escape(', '.join(run.config.data.text_columns))}")
    if given is not None:
        prepare(run, given.name, given.getvalue())
    known = {one.id: f"{one.name} · {one.state}" for one in list_predictions(state.workspace())}
    if not known:
        st.caption("No file has been labelled yet.")
        return
    st.divider()
    chosen = state.choose("Labelled file", "prediction", known)
    job_panel.show(chosen, outcome)


def prepare(run: Run, name: str, content: bytes) -> None:
    """Estimate, budget and start."""
    options = list(ROUTINGS)
    routing = st.radio("LLM sources", options, format_func=ROUTINGS.get, horizontal=True)
    contributions = st.checkbox("Add the contributions of every source")
    billed = routing != "never" and any(e.provider != "recorded" for e in run.config.llm)
    budget = None
    if billed:
        budget = st.number_input("Budget for this file, $", 0.0, value=None, key="file_budget")
    try:
        refused = show_estimate(run, name, content, budget) if billed else False
    except LabelFusionError as error:
        widgets.show_error(error)
        refused = True
    if st.button("Label the file", type="primary", disabled=refused):
        request = Request(run.id, Path(name).name, routing, contributions, budget)
        made = jobs.start_prediction(state.workspace(), request, content)
        state.set_param("prediction", made)
        st.rerun()


def show_estimate(run: Run, name: str, content: bytes, budget: float | None) -> bool:
    """What it costs if every text is asked about; returns whether the budget forbids to start."""
    from labelfusion.costing import estimate_file

    with tempfile.TemporaryDirectory() as folder:
        # Under its own name, which is what an error says.
        file = Path(folder) / Path(name).name
        file.write_bytes(content)
        found = estimate_file(run, file, state.workspace(), budget_usd=budget)
    expected = widgets.escape(costs.money(found.estimate.expected.usd))
    at_most = widgets.escape(costs.money(found.estimate.at_most.usd))
    st.markdown(f"**{found.rows:,} texts.** Expected cost {expected}, at most {at_most}.")
    share = (run.metrics.get("routing") or {}).get("share", 1.0)
    if share < 1:
        st.caption(f"That is for all texts; the run's routing sends about {share:.0%} of them.")
    widgets.table(costs.estimate_table(found), "file_estimate")
    fits = found.budget.verdict not in ("price unknown", "runs out")
    (st.info if fits else st.error)(widgets.escape(found.budget.sentence))
    return not fits


def outcome(prediction_id: str) -> None:
    """The result of a finished file, with its drift and a download."""
    import pandas as pd

    folder = jobs.folder_of(state.workspace(), prediction_id)
    if not isinstance(folder, PredictionFolder) or not folder.summary.is_file():
        return
    summary = folder.read_summary()
    drift = summary["drift"]
    said = widgets.escape(drift["sentence"] if drift else NO_REFERENCE)
    calm = drift is None or drift["verdict"] in ("alike", "too few")
    (st.info if calm else st.warning)(said)
    present = ", ".join(f"{system_name(n)} {count:,}" for n, count in summary["present"].items())
    st.caption(f"{summary['rows']:,} texts; sources present on: {widgets.escape(present)}")
    st.download_button(
        "Download the labelled file (CSV)",
        lambda: safe_csv(pd.read_csv(folder.result, dtype=str, keep_default_na=False)),
        f"{prediction_id}.csv",
        on_click="ignore",
    )


with widgets.page("Classify", INTRO):
    runs = state.manager().list()
    finished = runs.loc[runs["state"] == "finished", :]
    if finished.empty:
        widgets.empty("There is no model yet.", "pages/train.py", "Train one")
        st.stop()
    names = {
        run["id"]: f"{run['name']} · {run['id']}" for run in finished.to_dict(orient="records")
    }
    chosen_run = state.open_run(state.choose("Model", "run", names))
    if chosen_run.status.state != "finished":
        st.info(f"This run is {chosen_run.status.state}, so it has no model yet.")
        st.stop()
    widgets.tabs(("One text", "A file"), (one_text, a_file), chosen_run)
