"""Names that look like numbers, or like nothing."""

import csv

import numpy as np
import pandas as pd
import pytest

from stedm.errors import UserError
from stedm.files import written_whole
from stedm.tables import COUNT, FLAG, NUMBER, TEXT, WHOLE, Table

TABLE = Table("stedm make", {"patient": TEXT, "score": NUMBER, "seed": WHOLE, "redraws": COUNT, "nearer": FLAG})


@pytest.mark.parametrize("name", ["NA", "None", "nan", "null", "N/A", "001", "1e3", "True", ""])
def test_a_name_is_read_as_it_was_written(tmp_path, name):
    table = pd.DataFrame({"patient": [name], "score": 0.5, "seed": 1, "redraws": 0, "nearer": True})
    TABLE.write(table, tmp_path / "table.csv")
    assert TABLE.read(tmp_path / "table.csv")["patient"].tolist() == [name]


def test_each_column_has_its_type_and_empty_fields_are_missing(tmp_path):
    (tmp_path / "table.csv").write_text("patient,score,seed,redraws,nearer,more\n001,0.5,3,2,True,1.5\nNA,,4,,,\n")
    table = TABLE.read(tmp_path / "table.csv")
    np.testing.assert_array_equal(table["score"], [0.5, np.nan])
    assert table["seed"].tolist() == [3, 4]
    assert table["redraws"].tolist() == [2, pd.NA]
    assert table["nearer"].tolist() == [True, pd.NA]
    np.testing.assert_array_equal(table["more"], [1.5, np.nan])


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    (tmp_path / "table.csv").write_text("patient,score,seed,redraws,nearer\n")
    assert list(TABLE.read(tmp_path / "table.csv").columns) == list(TABLE.columns)


def test_columns_are_written_in_order_and_others_after_them(tmp_path):
    columns = {"more": [1], "nearer": [True], "redraws": [0], "seed": [1], "score": [1 / 3], "patient": ["P"]}
    TABLE.write(pd.DataFrame(columns), tmp_path / "table.csv", digits=3)
    assert (tmp_path / "table.csv").read_text() == "patient,score,seed,redraws,nearer,more\nP,0.333,1,0,True,1\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient,score\n", "line 1: has no column seed, redraws, nearer; make it with `stedm make`"),
        ("", "cannot be read as a table"),
        ("patient,score,seed,redraws,nearer\nP,0.5,x,,\n", "cannot be read as a table"),
    ],
)
def test_another_table_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(UserError, match=r"table\.csv.*" + message):
        TABLE.read(tmp_path / "table.csv")


FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://x")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "'=1",
    "''-1",
    "'quoted'",
    "a=b",
    "'",
    "=",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula_and_each_is_read_as_it_was_written(tmp_path, text):
    table = pd.DataFrame(
        {"patient": [text, "b"], "score": -0.5, "seed": -1, "redraws": 0, "nearer": True, "more": text}
    )
    TABLE.write(table, tmp_path / "table.csv")
    fields = next(csv.DictReader((tmp_path / "table.csv").open(newline="")))
    assert fields["patient"][0] not in "=+-@\t\r" and fields["more"][0] not in "=+-@\t\r"
    assert (fields["score"], fields["seed"]) == ("-0.5", "-1")
    found = TABLE.read(tmp_path / "table.csv")
    assert found["patient"].tolist() == [text, "b"]
    assert found["more"].tolist() == [text, text]
    assert found["score"].tolist() == [-0.5, -0.5]


@pytest.mark.parametrize("part", [0, 0.3, 0.5, 0.9])
def test_a_table_that_was_cut_between_rows_is_named(tmp_path, part):
    """What is left is a table."""
    path = tmp_path / "table.csv"
    rows = {"patient": list("abcdefghij"), "score": 0.5, "seed": 1, "redraws": 0, "nearer": True}
    with written_whole(path) as temporary:
        TABLE.write(pd.DataFrame(rows), temporary)
    assert len(TABLE.read(path)) == 10
    header, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *lines[: int(part * 10)]]))
    with pytest.raises(UserError, match=f"{path}: is not what was written"):
        TABLE.read(path)


def test_a_table_of_a_stranger_s_million_columns_is_not_parsed(tmp_path):
    (tmp_path / "table.csv").write_text(",".join(f"c{number}" for number in range(10**6)) + "\n")
    with pytest.raises(UserError, match=r"table\.csv: cannot be read as a table \(its first line has more than"):
        TABLE.read(tmp_path / "table.csv")
