"""The guessed layout: right on usual files, and honest where it cannot know."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelfusion.data import Layout, dataset_from_table, guess_layout, read_table

SAMPLES = Path(__file__).parent.parent / "sample_data"
WORDS = "The parcel came a week late and nobody answered"


def guess(header: str, rows: list[str]) -> Layout:
    return guess_layout(read_table("\n".join([header, *rows]).encode(), name="x.csv"))


def test_sample_tickets() -> None:
    table = read_table(SAMPLES / "tickets.csv")
    layout = guess_layout(table)
    config = layout.config
    assert (config.id_column, config.text_columns, config.label_column) == ("id", ["text"], "label")
    assert config.multi_label is False
    assert config.label_delimiter is None
    assert len(layout.reasons) == 4
    assert len(dataset_from_table(table, config).space) == 7


def test_sample_reviews() -> None:
    config = guess_layout(read_table(SAMPLES / "reviews.csv")).config
    assert config.label_columns is not None
    assert len(config.label_columns) == 8
    assert config.multi_label is True
    assert config.label_column is None


def test_indicators_with_one_each_are_multi_class() -> None:
    layout = guess("text,a,b,llm_a", [f"{WORDS} {i},{i % 2},{1 - i % 2},1" for i in range(6)])
    assert layout.config.label_columns == ["a", "b"]
    assert layout.config.multi_label is False
    assert any("exactly one 1" in reason for reason in layout.reasons)


@pytest.mark.parametrize("delimiter", ["|", ";"])
def test_delimited_labels(delimiter: str) -> None:
    cells = ["a", "b", f"a{delimiter}b", f"b{delimiter} c", "c"]
    layout = guess("text,tags", [f"{WORDS} {i},{cells[i % 5]}" for i in range(20)])
    assert layout.config.label_column == "tags"
    assert layout.config.label_delimiter == delimiter
    assert layout.config.multi_label is True


def test_a_comma_inside_label_names_is_no_delimiter() -> None:
    cells = ['"Sci, Tech"', "World", "Sports"]
    layout = guess("text,topic", [f"{WORDS} {i},{cells[i % 3]}" for i in range(12)])
    assert layout.config.label_delimiter is None
    assert layout.config.multi_label is False


def test_split_id_and_title() -> None:
    rows = [
        f"t{i},{i},Late {i},{WORDS} {i},{'ab'[i % 2]},{'train' if i else 'test'}" for i in range(8)
    ]
    config = guess("ticket_id,n,subject,body,category,split", rows).config
    assert config.id_column == "ticket_id"
    assert config.split_column == "split"
    assert config.text_columns == ["subject", "body"]
    assert config.label_column == "category"


def test_ids_that_repeat_are_not_taken() -> None:
    layout = guess("id,text,label", [f"{i // 2},{WORDS} {i},{'ab'[i % 2]}" for i in range(8)])
    assert layout.config.id_column is None
    assert any("not the id" in reason for reason in layout.reasons)


def test_label_known_by_its_values_alone_is_said_to_be_uncertain() -> None:
    layout = guess("ref,what,queue", [f"r{i},{WORDS} {i},{'ab'[i % 2]}" for i in range(12)])
    assert layout.config.text_columns == ["what"]
    assert layout.config.label_column == "queue"
    assert any("please check" in reason for reason in layout.reasons)


def test_several_possible_labels_are_not_chosen_between() -> None:
    layout = guess(
        "text,queue,land", [f"{WORDS} {i},{'ab'[i % 2]},{'de'[i % 2]}" for i in range(12)]
    )
    assert layout.config.label_column is None
    assert any("queue, land" in reason for reason in layout.reasons)


def test_unlabelled_file() -> None:
    layout = guess("id,text,llm_a,llm_b", [f"{i},{WORDS} {i},0,1" for i in range(12)])
    assert layout.config.label_column is None
    assert layout.config.label_columns is None
    assert any("unlabelled" in reason for reason in layout.reasons)


def test_one_column_only() -> None:
    layout = guess("remark", [f"{WORDS} {i}" for i in range(5)])
    assert layout.config.text_columns == ["remark"]
    assert layout.config.label_column is None
