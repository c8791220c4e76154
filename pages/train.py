"""Train: choose data, encoder, LLM scores and fusion; check; start a job."""

from __future__ import annotations

from typing import Any, get_args

import streamlit as st

from labelfusion import jobs
from labelfusion.config import CalibrationName, RunConfig
from labelfusion.datasets import StoredDataset
from labelfusion.errors import LabelFusionError
from labelfusion.ui import llm_form, llm_panels, state, widgets
from labelfusion.ui.charts import system_name

INTRO = "Choose what to train on and how. Training goes on in the background, browser or not."
ENCODERS = {
    "minilm": "MiniLM sentence encoder",
    "tfidf": "TF-IDF words",
    "none": "No encoder",
}
ENCODER_CAPTIONS = (
    "Reads meaning; best for most texts. About a minute for 1,000 texts without a graphics card.",
    "Counts words; takes seconds, needs more labels.",
    "LLM scores alone, calibrated and checked.",
)
METHODS = {
    "auto": "Guarded choice: the best single source, unless a fusion is clearly better",
    "log_pool": "Log-linear pool: one weight for each source",
    "matrix_pool": "Matrix pool: learns your team's conventions from the scores of all labels",
}


def sources(stored: StoredDataset) -> dict[str, Any]:
    """Encoder, recorded LLM scores and LLMs to ask."""
    encoder = st.radio(
        "Text encoder (ML)", list(ENCODERS), format_func=ENCODERS.get, captions=ENCODER_CAPTIONS
    )
    st.subheader("LLM scores", anchor=False)
    recorded = recorded_scores(stored)
    taken = [*(["ml"] if encoder != "none" else []), *(entry["name"] for entry in recorded)]
    asked = llm_form.llm_sources(taken)
    return {
        "ml": {"encoder": encoder},
        "llm": [*recorded, *asked],
        "costs": llm_form.prices_and_budget(asked),
    }


def recorded_scores(stored: StoredDataset) -> list[dict[str, Any]]:
    """The scores attached to the data set as a source, if there are any and they are wanted."""
    recorded, file = stored.scores_config(), stored.scores
    if recorded is None or file is None:
        st.caption("No scores made elsewhere are attached to this data set.")
        st.page_link(
            "pages/data.py",
            label="Attach scores →",
            query_params={"dataset": stored.name, "tab": "LLM scores"},
        )
        return []
    use = st.checkbox(
        f"Fuse with the LLM scores in {file.original_name} "
        f"({file.covered:,} of {file.total:,} texts)",
        value=True,
    )
    return [recorded.model_dump()] if use else []


def fusion_options(names: list[str]) -> dict[str, Any]:
    with st.expander("Fusion"):
        methods = METHODS | {name: f"Only {name}" for name in names}
        method = st.selectbox("Method", list(methods), format_func=methods.__getitem__)
        left, middle, right = st.columns(3)
        calibration = left.selectbox("Calibration", get_args(CalibrationName))
        errors = middle.number_input(
            "Gain asked for, in standard errors",
            0.0,
            5.0,
            1.0,
            0.5,
            help="How much better than the best single source a fusion must be to be chosen.",
        )
        repeats = right.number_input("Repeats of cross-validation", 1, 50, 4)
    return {
        "method": method,
        "calibration": calibration,
        "standard_errors": errors,
        "cv_repeats": int(repeats),
    }


def evaluation_options() -> dict[str, Any]:
    with st.expander("Evaluation"):
        left, right = st.columns(2)
        draws = left.number_input("Bootstrap draws for intervals", 100, 20_000, 2000, 100)
        confidence = right.slider("Confidence of intervals (%)", 80, 99, 95)
    return {"bootstrap_draws": int(draws), "confidence": confidence / 100}


def configuration(stored: StoredDataset) -> RunConfig:
    """The run that the page describes. Raises ConfigError where it makes no sense."""
    title = st.text_input("Name of the run", stored.name, max_chars=60)
    chosen = sources(stored)
    names = [*(["ml"] if chosen["ml"]["encoder"] != "none" else [])]
    names += [entry["name"] for entry in chosen["llm"]]
    return RunConfig.from_dict(
        {
            "name": title,
            "seed": stored.seed,
            "data": stored.config.model_dump(),
            **chosen,
            "fusion": fusion_options(names),
            "evaluation": evaluation_options(),
        }
    )


def as_text(config: RunConfig) -> None:
    with st.expander("The same as a file and a command line"):
        st.markdown("Save this as `run.yaml`:")
        st.code(config.to_yaml(), language="yaml", height=320)
        st.download_button("Download run.yaml", config.to_yaml(), "run.yaml", on_click="ignore")
        st.markdown("Then, in a terminal:")
        workspace = state.workspace().root
        st.code(f'labelfusion train run.yaml --workspace "{workspace}"', language="bash")


def check_and_start(config: RunConfig) -> None:
    """Say what stands in the way; if nothing does, offer Start."""
    try:
        state.check(config)
        refused = llm_panels.budget_refused(config)
    except LabelFusionError as error:
        widgets.show_error(error)
        refused = True
    if refused:
        st.button("Start training", disabled=True, help="Mend what is said above first.")
        return
    names = ", ".join(map(system_name, config.source_names))
    st.success(f"Ready. Sources: {names}. Nothing stands in the way.")
    if st.button("Start training", type="primary"):
        run_id = jobs.start(state.workspace(), config, name=config.name)
        widgets.go_to("pages/jobs.py", run=run_id)


with widgets.page("Train", INTRO):
    known = state.store().list()
    if not known:
        widgets.empty("There is no data to train on yet.", "pages/data.py", "Upload a file")
        st.stop()
    name = state.choose("Data set", "dataset", {one.name: one.name for one in known})
    dataset = state.store().open(name)
    if not dataset.confirmed:
        st.warning("The layout of this data set is a guess that nobody has confirmed yet.")
        st.page_link(
            "pages/data.py",
            label="Confirm the layout →",
            query_params={"dataset": name, "tab": "Columns"},
        )
    run_config = configuration(dataset)
    llm_panels.panels(run_config)
    as_text(run_config)
    check_and_start(run_config)
