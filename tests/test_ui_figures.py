"""When figures are drawn: after everything else of a page, and at once where there is no page."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import pytest

from labelfusion.ui import widgets
from labelfusion.ui.charts import Chart

CHART = Chart(go.Figure(), "Title", "Reading.", "Alt.", pd.DataFrame({"a": [1]}))


@pytest.fixture
def drawn(monkeypatch):
    order = []
    monkeypatch.setattr(widgets, "_figure", lambda place, chart, key, selectable: order.append(key))
    return order


def test_figures_come_after_the_words_of_a_page(drawn):
    with widgets.figures_last():
        assert widgets.show_chart(CHART, "first") == []
        widgets.show_chart(CHART, "second")
        drawn.append("words")
    assert drawn == ["words", "first", "second"]


def stopped_after_a_figure():
    with widgets.figures_last():
        widgets.show_chart(CHART, "first")
        raise ValueError("stopped")


def test_a_page_that_ends_early_still_draws_what_it_has(drawn):
    with pytest.raises(ValueError, match="stopped"):
        stopped_after_a_figure()
    assert drawn == ["first"]


def test_without_a_page_a_figure_is_drawn_at_once(drawn):
    widgets.show_chart(CHART, "first")
    drawn.append("words")
    assert drawn == ["first", "words"]
