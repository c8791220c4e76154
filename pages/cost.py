"""Cost: accuracy against money with the run's operating point, and what was spent so far."""

from __future__ import annotations

from typing import Any, cast

import streamlit as st

from labelfusion import operating_point as operating
from labelfusion.costs import CostLine, GroupBy
from labelfusion.errors import RunError
from labelfusion.evaluation.frontier import AskingCost
from labelfusion.fusion.routing import RoutingPolicy
from labelfusion.operating_point import KnownCost
from labelfusion.runs import Run
from labelfusion.ui import costs, routing_charts, state, tables, widgets
from labelfusion.ui.progress import duration

INTRO = (
    "What asking LLMs has cost, and what it would cost to ask about only the texts where that is "
    "worth it."
)
TABS = ("Operating point", "Ledger")
GROUPS: tuple[GroupBy, ...] = ("run", "provider", "model", "day")


def operating_point(run: Run | None) -> None:
    """The routing frontier of a run, a point on it, and the button that puts it in force."""
    routing = _routing(run)
    if run is None or routing is None:
        return
    known = asking_cost(run)
    points = [operating.priced(point, known.cost) for point in routing["frontier"]]
    with widgets.errors_as_sentences():
        saved = operating.saved_policy(run)
        st.markdown(f"**In force:** {widgets.escape(saved.reason)}.")
        at = operating.nearest_point(points, "threshold", saved.threshold)
        metric = _metric(run)
        chosen = pick_point(points, at)
        figures(points[chosen], points[-1], metric)
        save_button(run, operating.policy_at(points[chosen], routing["rows"]), saved)
        chart = routing_charts.frontier(points, metric, chosen, at, routing["rows"])
        widgets.show_chart(chart, "frontier")
        st.caption(
            "Measured out of fold, on texts that the models had not seen; the interval is a "
            "bootstrap over them. The test texts had no part in it."
        )
        on_test_texts(routing, saved, metric, run.metrics["n"]["test"])
        forecast(points[chosen], known)
        with st.expander("Where the price and the wait of a text come from"):
            price(run, known)


def _routing(run: Run | None) -> dict[str, Any] | None:
    """`routing` of a run that has a frontier; says so where there is none."""
    if run is None or run.status.state != "finished":
        name = "There is no finished run" if run is None else f"This run is {run.status.state}"
        widgets.empty(f"{name}, so there is no operating point yet.", "pages/train.py", "Train one")
        return None
    routing = run.metrics.get("routing")
    if not routing:
        st.info("This run was made before routing was measured. Retry it on the Jobs page.")
        return None
    if not routing["frontier"]:
        st.info(f"There is nothing to route in this run: {widgets.escape(routing['reason'])}.")
        return None
    return routing


def _metric(run: Run) -> tables.Metric:
    shown = [m for m in tables.metrics_of(run.metrics) if m.key in ("accuracy", "macro_f1")]
    names = {metric.key: metric for metric in shown}
    primary = run.metrics["task"]["primary"]
    key = st.segmented_control(
        "Metric", list(names), default=primary, format_func=lambda k: names[k].name, required=True
    )
    return names[key]


def pick_point(points: list[dict[str, Any]], start: int) -> int:
    """The slider over the frontier; the share is in the address."""
    shares = [100 * point["share"] for point in points]
    try:
        wanted = float(st.query_params.get("share", shares[start]))
    except ValueError:
        wanted = shares[start]
    at = min(range(len(shares)), key=lambda i: abs(shares[i] - wanted))
    st.session_state["operating_share"] = at
    return st.select_slider(
        "Share of texts sent to the LLM",
        range(len(points)),
        key="operating_share",
        format_func=lambda i: f"{shares[i]:.1f} %",
        on_change=lambda: st.query_params.update(
            share=f"{shares[st.session_state['operating_share']]:.1f}"
        ),
    )


def figures(point: dict[str, Any], full: dict[str, Any], metric: tables.Metric) -> None:
    share, right, money, wait = widgets.side_by_side(4)
    share.metric("Texts sent", f"{100 * point['share']:.1f} %")
    value = point[metric.key]
    difference = value - full[metric.key]
    gap = metric.show_difference(difference) if difference else None
    right.metric(f"{metric.name}, against sending all", metric.show(value), gap)
    usd, seconds = point["usd_per_1000"], point["seconds"]
    money.metric("Money for 1,000 texts", costs.dollars(usd))
    wait.metric("Mean wait of a text", "unknown" if seconds is None else f"{seconds:.2f} s")
    if usd is None or seconds is None:
        st.caption("What is unknown can be typed in at the end of this page.")


def save_button(run: Run, policy: RoutingPolicy, saved: RoutingPolicy) -> None:
    same = (policy.policy, policy.threshold) == (saved.policy, saved.threshold)
    if st.button("Save as this run's operating point", type="primary", disabled=same):
        operating.save_policy(run, policy)
        widgets.tell("Saved: every later prediction of this run obeys it.")
        st.rerun()
    said = "This point is in force." if same else "Not in force yet."
    st.caption(f"{said} `labelfusion predict` obeys it, unless told `--routing always` or `never`.")


def on_test_texts(
    routing: dict[str, Any], saved: RoutingPolicy, metric: tables.Metric, rows: int
) -> None:
    """What the policy chosen in training does on the test texts, while it is still in force."""
    test = routing.get("test")
    if test is None or saved.threshold != routing["threshold"]:
        return
    low, high = test[f"{metric.key}_interval"]
    st.caption(
        f"In force on the {rows:,} test texts: {100 * test['share']:.0f} % sent, "
        f"{metric.name.lower()} {metric.show(test[metric.key])} ({metric.show(low)} to "
        f"{metric.show(high)})."
    )


def forecast(point: dict[str, Any], known: KnownCost) -> None:
    """Texts, money and time for as many texts as one means to label."""
    st.subheader("Forecast", anchor=False)
    texts = st.number_input("Texts to label", min_value=1, value=10_000, step=1000)
    found = operating.forecast(point, int(texts), known)
    sent, money, time = widgets.side_by_side(3)
    sent.metric("Sent to the LLM", f"{found.sent:,}")
    money.metric("Money", costs.dollars(found.usd))
    time.metric("Time for asking", duration(found.seconds) if found.seconds else "unknown")
    st.caption(
        f"For texts like the labelled ones, none of them in the cache, {known.parallel:,} asked "
        "about at a time. What the encoder needs comes on top."
    )


def asking_cost(run: Run) -> KnownCost:
    """What asking about a text costs: as typed on this page, else as set or measured."""
    by_model = {line.group: line for line in state.cost_lines("model")}
    known = operating.known_cost(run.config, run.usage, by_model)
    typed = st.session_state.get("typed_cost", {}).get(run.id)
    if typed is None:
        return known
    return KnownCost(AskingCost(*typed), "typed in here", "typed in here", known.parallel)


def price(run: Run, known: KnownCost) -> None:
    """How the price and the wait of a text are known, and own figures in their place."""
    usd, seconds = known.cost.usd, known.cost.seconds
    st.markdown(f"Price of asking about a text: **{costs.dollars(usd)}**")
    st.caption(widgets.escape(known.usd_origin))
    waits = "unknown" if seconds is None else f"{seconds:.2f} s"
    st.markdown(f"Wait of a text: **{waits}**")
    st.caption(widgets.escape(known.seconds_origin))
    with st.form("typed"):
        st.markdown("**Try other figures** (on this page only)")
        per_1000 = st.number_input(
            "Dollars for asking about 1,000 texts", 0.0, value=None if usd is None else 1000 * usd
        )
        wait = st.number_input("Seconds a text waits", 0.0, value=seconds)
        if st.form_submit_button("Use these"):
            own = (None if per_1000 is None else per_1000 / 1000, wait)
            st.session_state.setdefault("typed_cost", {})[run.id] = own
            st.rerun()


def ledger(run: Run | None) -> None:
    """Money by group, what the cache saved, and every sum as a table."""
    line = st.container(horizontal=True, gap="large", vertical_alignment="bottom")
    by = line.segmented_control(
        "Sum by", GROUPS, default="run", required=True, key="by", bind="query-params"
    )
    alone = run is not None and line.toggle("Only this run", key="only", bind="query-params")
    lines = state.cost_lines(cast("GroupBy", by), run.id if run is not None and alone else None)
    if not lines:
        st.info("No LLM has been asked yet, so nothing was spent. Recorded scores cost nothing.")
        st.page_link("pages/train.py", label="Train with an LLM →")
        return
    totals(lines)
    table = routing_charts.spend_table(lines, by)
    widgets.show_chart(routing_charts.spend(table, by), f"spend_{by}")


def totals(lines: list[CostLine]) -> None:
    spent, requests, cached, saved = widgets.side_by_side(4)
    spent.metric("Spent", costs.money(sum((line.usd for line in lines), start=costs.NOTHING)))
    requests.metric("Requests", f"{sum(line.requests for line in lines):,}")
    cached.metric("Texts from the cache", f"{sum(line.cached_texts for line in lines):,}")
    known = [line.saved_usd for line in lines if line.saved_usd is not None]
    saved.metric("Saved by the cache, about", costs.money(sum(known, start=costs.NOTHING)))
    st.caption(
        "What a cached text saved is the mean price of a text of the same model. Trials and checks "
        "go by names of their own (try-…, check-…)."
    )


def current_run() -> Run | None:
    """The run in the address, or None while there is none: the ledger is shown all the same."""
    if not state.manager().ids():
        return None
    return widgets.choose_run()


with widgets.page("Cost", INTRO):
    try:
        subject = current_run()
    except RunError as error:
        widgets.show_error(error)
        subject = None
    widgets.tabs(TABS, (operating_point, ledger), subject)
