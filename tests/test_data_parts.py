"""Files read in parts: the same rows, row numbers and errors as files read whole."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.config import DataConfig
from labelfusion.data import open_rows, open_table, read_rows, read_table
from labelfusion.errors import InputError

CELLS = ["a", "", "two\nlines", 'a "quote"', "é, ü; ñ", "0007", "  ", "=1+1"]


def rows_of(n):
    return [{"id": f"i{i}", "text": f"text {i} {CELLS[i % len(CELLS)]}"} for i in range(n)]


def write(path: Path, n=23) -> Path:
    frame = pd.DataFrame(rows_of(n))
    writers = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".json": lambda: frame.to_json(path, orient="records"),
        ".parquet": lambda: frame.to_parquet(path, row_group_size=5),
        ".xlsx": lambda: frame.to_excel(path, index=False),
    }
    writers[path.suffix]()
    return path


def in_parts(place, size):
    tables = list(open_table(place).tables(size))
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return frame, np.concatenate([table.row_numbers for table in tables])


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx"])
def test_parts_are_the_whole(tmp_path, suffix, size):
    path = write(tmp_path / f"data{suffix}")
    whole = read_table(path)
    frame, numbers = in_parts(path, size)
    pd.testing.assert_frame_equal(frame, whole.frame)
    assert numbers.tolist() == whole.row_numbers.tolist()
    assert open_table(path).rows == len(whole)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.text(max_size=5), st.sampled_from(CELLS)), min_size=1, max_size=12),
    size=st.integers(1, 5),
)
def test_blank_rows_and_unnamed_columns_are_dropped_alike(tmp_path_factory, rows, size):
    path = tmp_path_factory.mktemp("parts") / "data.csv"
    cells = [(a.replace("\x00", ""), b, "") for a, b in rows] + [("", "", ""), ("x", "y", "")]
    # pandas alone leaves a carriage return unquoted, which ends a record.
    pd.DataFrame(cells, columns=["a", "b", ""]).to_csv(
        path, index=False, encoding="utf-8", errors="replace", quoting=csv.QUOTE_ALL
    )
    whole = read_table(path, encoding="utf-8", delimiter=",")
    tables = list(open_table(path, encoding="utf-8", delimiter=",").tables(size))
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    pd.testing.assert_frame_equal(frame, whole.frame)
    assert "" not in frame.columns
    assert open_table(path, encoding="utf-8", delimiter=",").notes == whole.notes


def test_keys_that_come_late_are_columns_from_the_start(tmp_path):
    path = tmp_path / "data.jsonl"
    records = [{"text": str(i)} | ({"late": "x"} if i == 8 else {}) for i in range(9)]
    path.write_text("\n".join(map(json.dumps, records)))
    frame, _ = in_parts(path, 2)
    assert list(frame.columns) == ["text", "late"]
    assert frame["late"].tolist() == [""] * 8 + ["x"]


BROKEN = {
    "ragged.csv": b"id,text\n" + b"".join(b"%d,t\n" % i for i in range(30)) + b"31,a,b\n32,c,d\n",
    "open.csv": b"id,text\n" + b"1,t\n" * 30 + b'2,"never closed\n',
    "late.csv": b"id,text\n" + b"1,t\n" * 30 + b"2,caf\xe9\n",
    "broken.jsonl": b'{"text": "a"}\n' * 30 + b"{\n",
    "list.jsonl": b'{"text": "a"}\n' * 30 + b"[1]\n",
    "header.csv": b"id,text\n",
    "twice.csv": b"a,a\n1,2\n",
    "nul.csv": b"a,b\n" + b"1,2\n" * 500 + b"\x00,1\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_errors_are_those_of_the_whole_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    options = {"encoding": "utf-8"} if name == "late.csv" else {}
    with pytest.raises(InputError) as whole:
        read_table(path, **options)
    with pytest.raises(InputError) as parts:
        open_table(path, **options)
    assert str(parts.value) == str(whole.value)


def test_the_encoding_of_a_late_line_is_seen(tmp_path):
    path = tmp_path / "late.csv"
    path.write_bytes(
        b"id,text\n" + b"1,plain words\n" * 40_000 + "2,café au lait\n".encode("cp1252")
    )
    last = list(open_table(path).tables(10_000))[-1]
    assert last.frame["text"].iloc[-1] == "café au lait"


def test_an_address_is_read_like_a_path(tmp_path):
    for suffix in (".csv", ".parquet"):
        path = write(tmp_path / f"data{suffix}")
        frame, _ = in_parts(path.as_uri(), 6)
        pd.testing.assert_frame_equal(frame, read_table(path).frame)
    with pytest.raises(InputError, match="does not exist"):
        open_table((tmp_path / "absent.csv").as_uri())
    with pytest.raises(InputError, match="address cannot be opened"):
        open_table("nowhere://bucket/file.csv")


@pytest.mark.parametrize("bad", ["empty", "repeated", "both"])
def test_ids_are_checked_over_all_chunks(tmp_path, bad):
    frame = pd.DataFrame({"id": [f"i{i}" for i in range(300)], "text": "t"})
    if bad != "repeated":
        frame.loc[[40, 250], "id"] = ""
    if bad != "empty":
        frame.loc[[5, 299], "id"] = "same"
    path = tmp_path / "data.csv"
    frame.to_csv(path, index=False)
    config = DataConfig(id_column="id")
    with pytest.raises(InputError) as whole:
        read_rows(path, config)
    with pytest.raises(InputError) as chunks:
        open_rows(path, config)
    assert str(chunks.value) == str(whole.value)


def test_chunks_hold_the_rows_of_the_whole_file(tmp_path):
    path = write(tmp_path / "data.csv")
    config = DataConfig(id_column="id")
    _, whole = read_rows(path, config)
    opened = open_rows(path, config)
    rows = [rows for _, rows in opened.chunks(4)]
    assert [i for part in rows for i in part.ids] == list(whole.ids)
    assert [t for part in rows for t in part.texts] == list(whole.texts)
    assert len(opened) == len(whole)
    with pytest.raises(InputError, match="text column"):
        open_rows(path, DataConfig(text_columns=["body"]))
