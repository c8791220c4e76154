"""Tables and arrays to Datasets: every label layout, ids, splits, and each broken cell's answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelfusion.config import DataConfig
from labelfusion.data import (
    Table,
    dataset_from_arrays,
    dataset_from_table,
    load_dataset,
    read_rows,
    read_table,
    table_from_frame,
)
from labelfusion.errors import InputError
from labelfusion.types import Dataset

SAMPLES = Path(__file__).parent.parent / "sample_data"


def table(text: str) -> Table:
    return read_table(text.encode(), name="x.csv")


def dataset(text: str, **settings) -> Dataset:
    return dataset_from_table(table(text), DataConfig(**settings))


def refused(text: str, **settings) -> InputError:
    with pytest.raises(InputError) as caught:
        dataset(text, **settings)
    error = caught.value
    assert str(error.where).startswith("x.csv")
    assert error.expected
    assert error.found
    assert error.remedy
    return error


def test_sample_tickets() -> None:
    config = DataConfig(path=str(SAMPLES / "tickets.csv"), id_column="id", label_column="label")
    data = load_dataset(config)
    assert len(data) == 460
    assert not data.space.multi_label
    assert data.space.names == tuple(sorted(data.space.names))
    assert data.targets.dtype == np.int8
    assert (data.targets.sum(axis=1) == 1).all()
    assert data.labelled.all()
    assert data.ids[0] == "T0000"
    assert data.split is None
    assert data.name == "tickets.csv"


def test_sample_reviews_keep_the_order_of_the_columns() -> None:
    names = ["setup", "comfort", "durability", "app_experience", "content", "value", "results"]
    config = DataConfig(path=str(SAMPLES / "reviews.csv"), label_columns=names)
    data = load_dataset(config)
    assert data.space.names == tuple(names)
    assert data.space.multi_label
    frame = pd.read_csv(SAMPLES / "reviews.csv")
    assert (data.targets == frame[names].to_numpy()).all()
    assert list(data.metadata.columns) == ["id", "support"]


def test_label_column_with_unlabelled_rows_and_numbers_as_names() -> None:
    data = dataset("text,label,kind\na, 2,k\nb,,\nc,10,k\n", label_column="label")
    assert data.space.names == ("10", "2")
    assert data.labelled.tolist() == [True, False, True]
    assert data.targets.tolist() == [[0, 1], [0, 0], [1, 0]]
    assert data.ids.tolist() == ["row-2", "row-3", "row-4"]
    assert data.metadata["kind"].tolist() == ["k", "", "k"]


def test_delimited_labels_decide_multi_label_from_the_data() -> None:
    text = "text,labels\na,x; y\nb,y\nc,\nd,;\n"
    data = dataset(text, label_column="labels", label_delimiter=";")
    assert data.space.multi_label
    assert data.space.names == ("x", "y")
    assert data.targets.tolist() == [[1, 1], [0, 1], [0, 0], [0, 0]]
    assert data.labelled.tolist() == [True, True, False, True]
    single = dataset("text,labels\na,x\nb,y\n", label_column="labels", label_delimiter=";")
    assert not single.space.multi_label


def test_indicator_spellings_and_the_decision() -> None:
    text = "text,a,b\n1st,1,0.0\n2nd,No,YES\n3rd,true,False\n4th,,\n"
    data = dataset(text, label_columns=["b", "a"])
    assert data.targets.tolist() == [[0, 1], [1, 0], [0, 1], [0, 0]]
    assert data.labelled.tolist() == [True, True, True, False]
    assert not data.space.multi_label
    assert dataset(text, label_columns=["a", "b"], multi_label=True).space.multi_label
    assert dataset("text,a,b\n1st,0,0\n2nd,0,1\n", label_columns=["a", "b"]).space.multi_label


def test_texts_are_joined_and_rows_without_text_are_not_labelled() -> None:
    text = "title,body,label\nHi,there,x\n,only,y\n , ,x\n"
    data = dataset(text, text_columns=["title", "body"], label_column="label")
    assert data.texts == ("Hi\nthere", "only", "")
    assert data.labelled.tolist() == [True, True, False]
    assert data.targets[2].sum() == 0


def test_own_split_and_what_validation_means() -> None:
    text = "text,label,split\na,x,Train\nb,y,VAL\nc,x,test\nd,y,\n"
    settings = {"label_column": "label", "split_column": "split"}
    split = dataset(text, **settings).split
    assert split is not None
    assert split.tolist() == ["train", "train", "test", ""]
    alone = dataset(text.replace("test", "train"), **settings).split
    assert alone is not None
    assert alone.tolist() == ["train", "test", "train", ""]


def test_unlabelled_file_takes_the_labels_of_the_config() -> None:
    data = dataset("text\na\nb\n", labels={"y": "why", "x": "ex"})
    assert data.space.names == ("y", "x")
    assert not data.labelled.any()
    assert data.targets.shape == (2, 2)
    assert data.space.descriptions["y"] == "why"
    assert "label column" in refused("text\na\n").problem
    assert "No row has a label" in refused("text,label\na,\n", label_column="label").problem


def test_take_keeps_rows_together() -> None:
    data = dataset("text,label,k\na,x,1\nb,y,2\nc,x,3\n", label_column="label")
    part = data.take(np.array([2, 0]))
    assert part.texts == ("c", "a")
    assert part.row_numbers.tolist() == [4, 2]
    assert part.metadata["k"].tolist() == ["3", "1"]


def test_missing_columns_are_named() -> None:
    error = refused("txt,label\na,x\n", label_column="label")
    assert "text column 'text'" in error.problem
    assert "txt, label" in str(error.found)
    assert error.remedy == "Did you mean 'txt'?"
    error = refused("text,label\na,x\n", label_column="labels")
    assert error.remedy == "Did you mean 'label'?"
    assert "label column" in refused("text,a\na,1\n", label_columns=["a", "b"]).problem
    assert "id column" in refused("text,label\na,x\n", label_column="label", id_column="k").problem
    assert "split column" in (
        refused("text,label\na,x\n", label_column="label", split_column="s").problem
    )


def test_cell_that_is_no_indicator() -> None:
    error = refused("text,a,b\nt,1,0\nu,0,maybe\n", label_columns=["a", "b"])
    assert error.where == "x.csv, row 3, column 'b'"
    assert error.found == "'maybe'"


def test_row_with_some_labels_empty() -> None:
    error = refused("text,a,b\nt,1,0\nu,,1\nv,,\n", label_columns=["a", "b"])
    assert error.where == "x.csv, row 3, column 'a'"
    assert "row 3" in str(error.found)


@pytest.mark.parametrize(("cells", "found"), [("1,1", "a, b"), ("0,0", "no label")])
def test_multi_class_row_without_exactly_one_label(cells: str, found: str) -> None:
    error = refused(f"text,a,b\nt,1,0\nu,{cells}\n", label_columns=["a", "b"], multi_label=False)
    assert error.where == "x.csv, row 3"
    assert error.found == found


def test_multi_class_cell_with_two_labels() -> None:
    error = refused(
        "text,label\nt,x\nu,x|y\n", label_column="label", label_delimiter="|", multi_label=False
    )
    assert error.where == "x.csv, row 3, column 'label'"
    assert error.found == "x, y"


def test_ids_that_repeat_or_are_empty() -> None:
    error = refused("id,text,l\n7,a,x\n8,b,x\n7,c,y\n", id_column="id", label_column="l")
    assert error.where == "x.csv, row 2, column 'id'"
    assert "'7' in rows 2, 4" in str(error.found)
    error = refused("id,text,l\n7,a,x\n,b,x\n", id_column="id", label_column="l")
    assert error.where == "x.csv, row 3, column 'id'"


def test_description_of_an_unknown_label() -> None:
    error = refused("text,l\na,billing\n", label_column="l", labels={"biling": "money"})
    assert "'biling'" in error.problem
    assert error.remedy == "Did you mean 'billing'?"


def test_split_cell_that_is_not_understood() -> None:
    error = refused("text,l,s\na,x,train\nb,y,later\n", label_column="l", split_column="s")
    assert error.where == "x.csv, row 3, column 's'"
    assert error.found == "'later'"


def test_repeated_label_columns() -> None:
    with pytest.raises(InputError, match="repeat"):
        dataset("text,a\nt,1\n", label_columns=["a", "a"])


def test_frame_labels_of_any_dtype() -> None:
    frame = pd.DataFrame(
        {"text": ["a", "b", "c"], "spam": [True, False, None], "ham": [0.0, 1, None]}
    )
    data = dataset_from_table(table_from_frame(frame), DataConfig(label_columns=["spam", "ham"]))
    assert data.targets.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert data.labelled.tolist() == [True, True, False]


def test_arrays_of_labels() -> None:
    data = dataset_from_arrays(["a", "b", "c"], np.array([2, 1, 2]))
    assert data.space.names == ("1", "2")
    assert data.targets.argmax(axis=1).tolist() == [1, 0, 1]
    assert data.row_numbers.tolist() == [1, 2, 3]
    data = dataset_from_arrays(pd.Series(["a", "b", "c"]), ["x", None, float("nan")])
    assert data.labelled.tolist() == [True, False, False]


def test_arrays_of_label_lists() -> None:
    data = dataset_from_arrays(["a", "b", "c"], [["y", "x"], [], None])
    assert data.space.multi_label
    assert data.space.names == ("x", "y")
    assert data.labelled.tolist() == [True, True, False]


@pytest.mark.parametrize("rows", [[[1, 0], [1, 1]], np.array([[1, 0], [1, 1]])])
def test_arrays_of_indicators(rows) -> None:
    data = dataset_from_arrays(["a", "b"], rows, config=DataConfig(label_columns=["q", "p"]))
    assert data.space.names == ("q", "p")
    assert data.targets.tolist() == [[1, 0], [1, 1]]
    named = dataset_from_arrays(["a", "b"], pd.DataFrame(rows, columns=["r", "s"]))
    assert named.space.names == ("r", "s")
    with pytest.raises(InputError, match="does not fit"):
        dataset_from_arrays(["a", "b"], rows, config=DataConfig(label_columns=["q"]))


def test_arrays_that_do_not_pair_up() -> None:
    with pytest.raises(InputError, match="2 texts and 1 labels"):
        dataset_from_arrays(["a", "b"], ["x"])
    with pytest.raises(InputError, match="no texts"):
        dataset_from_arrays([], [])
    with pytest.raises(InputError, match=r"texts, row 2, column '0'.*'5'"):
        dataset_from_arrays(["a", "b"], np.array([[1, 0], [5, 0]]))
    with pytest.raises(InputError, match="texts, item 2"):
        dataset_from_arrays(["a", "b"], [["x"], ["x", "y"]], config=DataConfig(multi_label=False))


def test_rows_to_predict_need_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("id;text\n007;hello\n8;\n", encoding="utf-8")
    config = DataConfig(id_column="id", label_column="label", delimiter=",")
    found, rows = read_rows(path, config)
    assert list(rows.ids) == ["007", "8"]
    assert list(rows.texts) == ["hello", ""]
    assert len(found) == 2
    _, rows = read_rows(b"text\nhello\n", config, name="new.csv")
    assert list(rows.ids) == ["row-2"]
    with pytest.raises(InputError, match="no text column 'text'"):
        read_rows(b"body\nhello\n", config, name="new.csv")


def test_config_without_a_path() -> None:
    with pytest.raises(InputError, match=r"data\.path"):
        load_dataset(DataConfig(label_column="label"))
