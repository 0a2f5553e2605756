"""Names that look like numbers, or like nothing."""

import numpy as np
import pandas as pd
import pytest

from stedm.tables import read_table


@pytest.mark.parametrize("name", ["NA", "None", "nan", "null", "N/A", "001", "1e3", "True", ""])
def test_a_name_is_read_as_it_was_written(tmp_path, name):
    columns = ["slide", "patient", "style_patches", "class"]
    pd.DataFrame([[name] * len(columns)], columns=columns).to_csv(tmp_path / "table.csv", index=False)
    assert read_table(tmp_path / "table.csv").to_numpy().tolist() == [[name] * len(columns)]


def test_other_columns_are_numbers_and_empty_ones_are_nan(tmp_path):
    (tmp_path / "table.csv").write_text("patient,score,seed,nearer\n001,0.5,3,True\nNA,,4,False\n")
    table = read_table(tmp_path / "table.csv")
    np.testing.assert_array_equal(table["score"], [0.5, np.nan])
    assert table["seed"].dtype == np.int64
    assert table["nearer"].dtype == bool


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    (tmp_path / "table.csv").write_text("patient,score\n")
    assert list(read_table(tmp_path / "table.csv").columns) == ["patient", "score"]
