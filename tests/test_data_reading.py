"""Reading files: what is detected, what is kept, and what each broken file is answered with."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.data import Table, read_table, table_from_frame
from labelfusion.errors import InputError

SAMPLES = Path(__file__).parent.parent / "sample_data"


def written(rows: list[list[str]], delimiter: str = ",", **options) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, **options).writerows(rows)
    return out.getvalue()


def workbook(rows: list[list[object]], sheets: tuple[str, ...] = ("Data",)) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = sheets[0]
    for row in rows:
        book.active.append(row)
    for title in sheets[1:]:
        book.create_sheet(title).append(["other"])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


WORKBOOK = workbook([["id", "text"], [1, "a"], [2, "b"]])


def refused(data: bytes, name: str, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        read_table(data, name=name, **options)
    error = caught.value
    assert error.where is not None
    assert name in error.where
    assert error.expected
    assert error.found
    assert error.remedy
    return error


def test_sample_tickets_are_read_as_they_are() -> None:
    table = read_table(SAMPLES / "tickets.csv")
    assert table.columns == ["id", "text", "label"]
    assert len(table) == 460
    assert table.name == "tickets.csv"
    assert table.row_numbers[[0, -1]].tolist() == [2, 461]
    assert table.notes["encoding"] == "utf-8"
    assert table.frame["id"][0] == "T0000"


cell_texts = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('",;|\t\n'))


@settings(max_examples=150, deadline=None)
@given(
    body=st.lists(st.lists(cell_texts, min_size=3, max_size=3), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_round_trip(body, delimiter, encoding, quoting) -> None:
    body = [*body, ["last", "row", "filled"]]
    text = written([["id", "text", "label"], *body], delimiter, quoting=quoting)
    table = read_table(text.encode(encoding), name="x.csv")
    kept = [(i, row) for i, row in enumerate(body) if any(cell.strip() for cell in row)]
    assert table.frame.to_numpy().tolist() == [row for _, row in kept]
    assert table.row_numbers.tolist() == [i + 2 for i, _ in kept]


@pytest.mark.parametrize(
    ("encoding", "noted"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
        ("latin-1", "cp1252"),
    ],
)
def test_encodings_are_detected(encoding: str, noted: str) -> None:
    rows = [["id", "text"], ["007", "Die Rückgabe dauerte über drei Wochen, très désagréable"]]
    table = read_table((written(rows) * 3).encode(encoding), name="x.csv")
    assert table.frame.iloc[0].tolist() == rows[1]
    assert table.columns == ["id", "text"]
    assert table.notes["encoding"] == noted


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Заказ пришёл повреждённым, и служба поддержки не отвечает"),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy"),
        ("cp932", "配送が遅れていますので確認してください"),
        ("gb18030", "订单还没有送到，请帮我查一下"),
    ],
)
def test_other_code_pages_are_detected(encoding: str, text: str) -> None:
    data = written([["id", "text"], *[[str(i), text] for i in range(20)]]).encode(encoding)
    table = read_table(data, name="x.csv")
    assert table.frame["text"][3] == text
    assert table.notes["encoding"] == encoding


@pytest.mark.parametrize(("sign", "word"), [(",", "comma"), (";", "semicolon"), ("|", "pipe")])
def test_delimiters_are_detected_and_noted(sign: str, word: str) -> None:
    rows = [["id", "text", "label"], ["1", 'a "b", c; d | e\nf', "x"], ["2", "plain", "y"]]
    table = read_table(written(rows, sign).encode(), name="x.csv")
    assert table.frame["text"][0] == rows[1][1]
    assert table.notes["delimiter"] == word
    for name in (sign, word):
        again = read_table(written(rows, sign).encode(), name="x.csv", delimiter=name)
        assert again.frame.equals(table.frame)


def test_one_column_with_commas_is_one_column() -> None:
    table = read_table(b"text\nwell, hello\nyes, no, maybe\nfine\n", name="x.csv")
    assert table.frame["text"].tolist() == ["well, hello", "yes, no, maybe", "fine"]


def test_blank_rows_are_skipped_and_rows_keep_their_numbers() -> None:
    table = read_table(b'\nid,text\n1,"two\nlines"\n\n,,\n2,b,\n', name="x.csv")
    assert table.row_numbers.tolist() == [3, 6]
    assert table.frame["text"].tolist() == ["two\nlines", "b"]
    assert "2" in table.notes["blank rows"]


def test_tab_separated_text_may_hold_single_quotes() -> None:
    table = read_table(b'text\tlabel\n"Hello" he said\tx\n5" pipe\ty\n', name="x.tsv")
    assert table.frame["text"].tolist() == ['"Hello" he said', '5" pipe']
    assert "quotes" in table.notes


def test_cells_longer_than_the_csv_modules_limit() -> None:
    long = "word " * 60_000
    table = read_table(written([["text"], [long]]).encode(), name="x.csv")
    assert table.frame["text"][0] == long


def test_json_lines_and_arrays() -> None:
    records = [
        {"id": 7, "text": 'say "hi"\n', "labels": ["a", "b"], "ok": True, "score": 1.0},
        {"id": "007", "text": None, "extra": {"k": 1}, "score": 0.25},
    ]
    lines = "\n\n".join(json.dumps(record) for record in records)
    table = read_table(lines.encode(), name="x.jsonl")
    assert table.frame["id"].tolist() == ["7", "007"]
    assert table.frame["text"].tolist() == ['say "hi"\n', ""]
    assert table.frame["labels"].tolist() == ["a|b", ""]
    assert table.frame["ok"].tolist() == ["true", ""]
    assert table.frame["score"].tolist() == ["1", "0.25"]
    assert table.frame["extra"].tolist() == ["", '{"k": 1}']
    assert table.row_numbers.tolist() == [1, 3]
    array = read_table(json.dumps(records).encode(), name="x.json")
    assert array.frame.equals(table.frame)


def mixed_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["007", "8"],
            "count": pd.array([7, None], dtype="Int64"),
            "holes": [1.0, np.nan],
            "half": [0.5, 2.0],
            "flag": [True, False],
            "kind": pd.Categorical(["a", None]),
            "day": pd.to_datetime(["2026-01-31", None]),
            "text": ["x", "y"],
        }
    )


def assert_mixed(table: Table) -> None:
    first, second = table.frame.drop(columns="day").to_numpy().tolist()
    assert first == ["007", "7", "1", "0.5", "true", "a", "x"]
    assert second == ["8", "", "", "2", "false", "", "y"]
    assert table.frame["day"][0].startswith("2026-01-31")
    assert table.frame["day"][1] == ""
    assert table.row_numbers.tolist() == [2, 3]
    assert all(str(dtype) == "str" for dtype in table.frame.dtypes)


def test_parquet_xlsx_and_frames_give_the_same_cells() -> None:
    frame = mixed_frame()
    assert_mixed(table_from_frame(frame))
    parquet, xlsx = io.BytesIO(), io.BytesIO()
    frame.to_parquet(parquet)
    frame.to_excel(xlsx, index=False)
    assert_mixed(read_table(parquet.getvalue(), name="x.parquet"))
    assert_mixed(read_table(xlsx.getvalue(), name="x.xlsx"))


def test_frame_with_lists_and_numbered_columns() -> None:
    table = table_from_frame(pd.DataFrame({0: [b"a"], 1: [["x", "y"]]}, index=[9]))
    assert table.columns == ["0", "1"]
    assert table.frame.iloc[0].tolist() == ["a", "x|y"]


def test_xlsx_sheet_blank_rows_and_zero_padded_ids() -> None:
    data = workbook([[], ["id", "text", None], [7, "a"], [], [8, "b"]], ("Data", "Notes"))
    book = openpyxl.load_workbook(io.BytesIO(data))
    book["Data"]["A3"].number_format = "000"
    out = io.BytesIO()
    book.save(out)
    table = read_table(out.getvalue(), name="x.xlsx")
    assert table.frame["id"].tolist() == ["007", "8"]
    assert table.columns == ["id", "text"]
    assert table.row_numbers.tolist() == [3, 5]
    assert table.notes["other sheets"] == "Notes"
    error = refused(data, "x.xlsx", sheet="Dat")
    assert "Data" in str(error.expected)
    assert "Notes" in str(error.expected)
    assert error.remedy == "Did you mean 'Data'?"


def test_ragged_row_is_named() -> None:
    error = refused(b'id,text,label\n1,"a\nb",x\n2,c, d,y\n3,e,z\n', "x.csv")
    assert error.where == "x.csv, row 3"
    assert error.expected == "3 cells separated by comma"
    assert "4 cells" in str(error.found)
    short = refused(b"id,text,label\n1,a,x\n2,b\n3,c\n4,d,y\n5,d,y\n", "x.csv")
    assert short.where == "x.csv, row 3"
    assert "rows 3, 4" in str(short.found)


def test_quote_that_is_not_closed_is_named() -> None:
    error = refused(b'id,text\n1,fine\n2,"open\n3,more\n', "x.csv")
    assert error.where == "x.csv, row 3"
    assert "not closed" in error.problem
    error = refused(b'id,text\n1,fine\n2,"a "b" c"\n', "x.csv")
    assert error.where == "x.csv, row 3"


def test_repeated_column_names() -> None:
    error = refused(b"text,label,text \n1,2,3\n", "x.csv")
    assert error.where == "x.csv, row 1"
    assert "'text'" in str(error.found)
    with pytest.raises(InputError, match="Column names repeat"):
        table_from_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize("data", [b"", b"  \n \n", b"\xef\xbb\xbf", b",,\n,,\n"])
def test_empty_file(data: bytes) -> None:
    assert "empty" in refused(data, "x.csv").problem


def test_header_only() -> None:
    assert refused(b"id,text\n", "x.csv").found == "a header only"
    assert refused(workbook([["id", "text"]]), "x.xlsx").found == "a header only"
    assert "empty" in refused(workbook([]), "x.xlsx").problem
    with pytest.raises(InputError, match="no rows"):
        table_from_frame(pd.DataFrame({"text": []}))


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("text\na\n")
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "ticket.csv")
    assert str(tmp_path / "ticket.csv") in str(caught.value.where)
    assert caught.value.remedy == "Did you mean 'tickets.csv'?"
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path)


def test_unsupported_ending_and_nameless_bytes() -> None:
    assert ".parquet" in str(refused(b"x", "x.docx").expected)
    assert "xlsx" in str(refused(b"x", "x.xls").remedy)
    with pytest.raises(InputError, match="no name"):
        read_table(b"text\na\n")


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.csv", "text\na\n")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "found", "remedy"),
    [
        ("x.csv", workbook([["text"], ["a"]]), "an Excel workbook", "Rename it to end in .xlsx"),
        ("x.csv", zipped(), "a zip archive", "Export it again as .csv"),
        ("x.csv", b"PK\x03\x04broken", "a damaged zip archive or workbook", "Export it again"),
        ("x.jsonl", b"PAR1....", "Parquet", "Rename it to end in .parquet"),
        ("x.csv", b"\x00\x01\x02\x03\xff\xfe" * 50, "binary data", "Export it again as .csv"),
        ("x.csv", b"<!DOCTYPE html><p>Log in", "a web page (HTML)", "Export it again as .csv"),
        ("x.xlsx", b"text,label\na,b\n", "text", "Export it again as .csv"),
        ("x.parquet", b"text,label\na,b\n", "text", "Export it again as .csv"),
        ("x.xlsx", b"\xd0\xcf\x11\xe0....", "an old Excel file", "Export it again as .csv"),
    ],
)
def test_content_that_is_not_what_the_name_says(name, data, found, remedy) -> None:
    error = refused(data, name)
    assert found in str(error.found)
    assert remedy in str(error.remedy)


def test_damaged_parquet_and_workbook() -> None:
    assert "damaged" in refused(b"PAR1 and nothing else", "x.parquet").problem
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("xl/workbook.xml", "<broken")
    assert "damaged" in refused(out.getvalue(), "x.xlsx").problem


def test_workbook_that_would_fill_the_memory_is_not_unpacked(monkeypatch) -> None:
    data = bytearray(workbook([["text"], ["a"]]))
    # The size that the first part of the archive says it unpacks to.
    stated = data.index(b"PK\x01\x02") + 24
    data[stated : stated + 4] = (3_000_000_000).to_bytes(4, "little")
    monkeypatch.delattr(openpyxl, "load_workbook")
    error = refused(bytes(data), "x.xlsx")
    assert error.expected == "at most 2,000 MB unpacked"
    assert str(error.found).startswith("3,000 MB in a file of 0.00")
    assert "csv" in str(error.remedy)


def test_broken_json_names_its_line() -> None:
    error = refused(b'{"text": "a"}\n{"text": \n', "x.jsonl")
    assert error.where == "x.jsonl, row 2"
    assert refused(b'{"text": "a"}\n[1]\n', "x.jsonl").found == "list"
    assert "not valid JSON" in refused(b'[{"text": "a"},\n{]', "x.json").problem


def test_wrong_encoding_and_delimiter_are_explained() -> None:
    data = "id,text\n1,schön\n".encode("cp1252")
    error = refused(data, "x.csv", encoding="utf-8")
    assert error.where == "x.csv, line 2"
    assert "0xf6" in str(error.found)
    assert "not known" in refused(data, "x.csv", encoding="utf-88").problem
    assert "one character" in refused(data, "x.csv", delimiter=",,").problem


def test_missing_column_offers_the_nearest() -> None:
    table = read_table(b"Text,label\na,b\n", name="x.csv")
    with pytest.raises(InputError) as caught:
        table.cells("text", "text column")
    assert "Text, label" in str(caught.value.found)
    assert caught.value.remedy == "Did you mean 'Text'?"


def read_or_explain(data: bytes, name: str) -> Table | InputError:
    try:
        return read_table(data, name=name)
    except InputError as error:
        return error


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=200) | cell_texts.map(lambda text: ("text,a\n" + text).encode()),
    name=st.sampled_from(["x.csv", "x.tsv", "x.jsonl", "x.json", "x.parquet", "x.xlsx"]),
)
def test_any_bytes_give_a_table_or_an_explained_error(data: bytes, name: str) -> None:
    outcome = read_or_explain(data, name)
    if isinstance(outcome, InputError):
        assert outcome.expected
        assert outcome.remedy
    else:
        assert len(outcome) == len(outcome.row_numbers) > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(1, 255))
def test_a_changed_byte_in_a_workbook_is_read_or_explained(position: int, change: int) -> None:
    data = bytearray(WORKBOOK)
    data[position % len(data)] ^= change
    outcome = read_or_explain(bytes(data), "x.xlsx")
    assert outcome.remedy if isinstance(outcome, InputError) else outcome.columns


def test_half_a_character_in_json_is_replaced() -> None:
    table = read_table(b'{"text": "a\\ud800b"}', name="x.jsonl")
    assert table.frame["text"][0] == "a\ufffdb"
