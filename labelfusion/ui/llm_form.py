"""The form for LLM sources, prices and budget. Draws; what it returns is plain config values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from labelfusion.config import CostConfig, ExamplesConfig, LLMConfig, PriceConfig
from labelfusion.ui import costs, widgets
from labelfusion.ui.budget import LIMITS, WHEN_SPENT

MAX_SOURCES = 4
WHEN_KEY = "budget_spent"
EXAMPLES = {
    "none": "None",
    "static": "The first training texts",
    "stratified": "Training texts of every label",
    "knn": "For each text, the most similar training texts",
}


def _kept(draw: Callable[..., Any], label: str, key: str, default: Any, **options: Any) -> Any:
    """A widget whose value outlasts a visit to another page, where Streamlit would forget it."""
    if key not in st.session_state:
        st.session_state[key] = st.session_state.get(f"kept {key}", default)
    value = draw(label, key=key, **options)
    st.session_state[f"kept {key}"] = value
    return value


def llm_sources(taken: Sequence[str]) -> list[dict[str, Any]]:
    """LLMs to ask, as entries of the config; `taken` are the names of the other sources."""
    numbers: list[int] = st.session_state.setdefault("llm_numbers", [])
    entries = []
    for number in list(numbers):
        with st.container(border=True):
            entries.append(_source(number, taken))
    if len(numbers) + len(taken) < MAX_SOURCES:
        st.button("Add an LLM to ask", on_click=_add, icon=":material/add:")
    return entries


def _add() -> None:
    counter = st.session_state.get("llm_counter", 0) + 1
    st.session_state["llm_counter"] = counter
    st.session_state["llm_numbers"].append(counter)


def _source(number: int, taken: Sequence[str]) -> dict[str, Any]:
    key = f"llm_{number}"
    provider, model, name, remove = st.columns([3, 3, 2, 1], vertical_alignment="bottom")
    values: dict[str, Any] = {
        "provider": _kept(
            provider.selectbox,
            "Provider",
            f"{key}_provider",
            "openai",
            options=list(costs.PROVIDERS),
            format_func=costs.PROVIDERS.__getitem__,
        )
    }
    values["name"] = _kept(name.text_input, "Name", f"{key}_name", _default_name(number, taken))
    values["model"] = _model(model, key, values["provider"])
    remove.button(
        "",
        icon=":material/delete:",
        help="Do not ask this LLM.",
        key=f"{key}_remove",
        on_click=_remove,
        args=(number,),
    )
    if values["provider"] == "compatible":
        values |= _server(key)
    st.caption(costs.key_words(values))
    with st.expander("Prompt, examples and requests"):
        values |= _prompt(key) | _requests(key)
    return values


def _remove(number: int) -> None:
    numbers: list[int] = st.session_state["llm_numbers"]
    # Not `remove`, which a second press on the same button would find gone.
    st.session_state["llm_numbers"] = [other for other in numbers if other != number]


def _default_name(number: int, taken: Sequence[str]) -> str:
    return "llm" if number == 1 and "llm" not in taken else f"llm{number + taken.count('llm')}"


def _model(place: Any, key: str, provider: str) -> str | None:
    label = "Model folder" if provider == "local" else "Model"
    default = costs.default_model(provider)
    hint = default or ("/path/to/model" if provider == "local" else "as the server calls it")
    written = _kept(place.text_input, label, f"{key}_model", "", placeholder=hint)
    return written.strip() or None


def _server(key: str) -> dict[str, Any]:
    address, variable = st.columns(2)
    url = _kept(
        address.text_input,
        "Address (base_url)",
        f"{key}_url",
        "",
        placeholder="http://localhost:8000/v1",
    )
    # Chosen, never typed: nobody can paste a key where it would be shown and stored.
    name = _kept(
        variable.selectbox,
        "Environment variable with its key",
        f"{key}_variable",
        None,
        options=costs.key_variables(),
        index=None,
        placeholder="none: the server needs no key",
        help=f"Variables whose names end in {costs.KEY_ENDING} are listed.",
    )
    return {"base_url": url.strip() or None, "api_key_env": name}


def _prompt(key: str) -> dict[str, Any]:
    task = _kept(
        st.text_area,
        "Task, in a sentence",
        f"{key}_task",
        "",
        placeholder="Tickets to the support desk of a web shop.",
        height=68,
    )
    conventions = _kept(
        st.text_area,
        "Conventions of your team",
        f"{key}_conventions",
        "",
        placeholder="A ticket about a late refund is 'returns', not 'billing'.",
        help="Descriptions of single labels are written on the Data page, tab Labels.",
        height=100,
    )
    left, right = st.columns([3, 1])
    strategy = _kept(
        left.selectbox,
        "Examples in the prompt (few-shot)",
        f"{key}_examples",
        "none",
        options=list(EXAMPLES),
        format_func=EXAMPLES.__getitem__,
    )
    count = _kept(
        right.number_input,
        "How many",
        f"{key}_count",
        ExamplesConfig().count,
        min_value=1,
        max_value=64,
        disabled=strategy == "none",
    )
    examples = {"strategy": strategy, "count": int(count)}
    return {"prompt": {"task": task, "conventions": conventions, "examples": examples}}


def _requests(key: str) -> dict[str, Any]:
    fields = LLMConfig.model_fields
    left, right = st.columns(2)
    texts = _kept(
        left.number_input,
        "Texts per request",
        f"{key}_texts",
        fields["texts_per_request"].default,
        min_value=1,
        max_value=64,
        help="1 where texts come from people who gain by steering the answers.",
    )
    concurrency = _kept(
        right.number_input,
        "Requests at a time",
        f"{key}_concurrency",
        fields["concurrency"].default,
        min_value=1,
        max_value=256,
    )
    return {"texts_per_request": int(texts), "concurrency": int(concurrency)}


def prices_and_budget(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Budget and own prices for the models of `entries`, as the config's section `costs`."""
    models = [model for _, model, _ in costs.billed_models(entries)]
    if not models:
        return {}
    with st.expander("Prices and budget", expanded=True):
        budget = _budget()
        shown = st.container()
        prices = {model: price for model in models if (price := _own_price(model))}
        values = {"budget": budget, "prices": prices}
        with shown:
            _prices(entries, CostConfig.model_validate(values))
    return values


def _budget() -> dict[str, Any]:
    run, month, spent = st.columns([1, 1, 2])
    options = {"min_value": 0.0, "value": None, "placeholder": "no limit", "format": "%.2f"}
    limits = {
        name: _kept(place.number_input, f"{label}, $", _limit_key(name), None, **options)
        for place, (name, label) in zip((run, month), LIMITS.items(), strict=True)
    }
    when = _kept(
        spent.radio,
        "When it is spent",
        WHEN_KEY,
        None,
        options=list(WHEN_SPENT),
        format_func=WHEN_SPENT.__getitem__,
        index=None,
    )
    st.caption("A limit is never exceeded: a request that might not fit is not sent.")
    return limits | ({"when_spent": when} if when else {})


def _limit_key(name: str) -> str:
    return f"budget_{name}"


def when_spent() -> str | None:
    """What is to happen when the budget is spent, or None while nobody has said."""
    return st.session_state.get(WHEN_KEY)


def say_when_spent(way: str) -> None:
    """Choose that from elsewhere on the page, before the form is drawn."""
    st.session_state[WHEN_KEY] = way


def raise_limit(name: str, usd: float) -> None:
    """Set a limit from elsewhere on the page, before the form is drawn."""
    st.session_state[_limit_key(name)] = usd


def _prices(entries: list[dict[str, Any]], config: CostConfig) -> None:
    table = costs.price_table(entries, config)
    st.caption(f"US dollars per million tokens. Price list: {costs.price_list_date()}.")
    st.dataframe(table, hide_index=True, width="stretch")
    unknown = table.loc[table["price"] == "unknown", "model"].tolist()
    if unknown:
        st.warning(
            f"The price of {widgets.escape(', '.join(unknown))} is unknown, which does not mean "
            "free. Give it below (0 for a server of your own); a budget needs it."
        )


def _own_price(model: str) -> dict[str, float] | None:
    left, middle, right = st.columns(3)
    options = {"min_value": 0.0, "value": None, "placeholder": "price list", "format": "%.4f"}
    labels = {
        "input_per_million": (left, "Own price: input"),
        "cached_input_per_million": (middle, "Own price: cached input"),
        "output_per_million": (right, "Own price: output"),
    }
    assert labels.keys() == PriceConfig.model_fields.keys()
    given = {
        name: _kept(place.number_input, f"{label}, {model}", f"{name} {model}", None, **options)
        for name, (place, label) in labels.items()
    }
    needed = (given["input_per_million"], given["output_per_million"])
    if None not in needed:
        return given
    if any(price is not None for price in given.values()):
        st.caption("Own prices count once both input and output are given.")
    return None
