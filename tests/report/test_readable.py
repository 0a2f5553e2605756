"""Tables as people read them."""

import numpy as np
import pandas as pd
import pytest

from stedm.config import Arm
from stedm.report.tables import arms_table, quality_table, with_interval

ARMS = {"real": Arm(label="real only"), "all": Arm(label="all annotations", annotations="all")}


@pytest.fixture
def arms():
    return pd.DataFrame(
        {
            "arm": ["real", "all"],
            "label": ["real only", "all annotations"],
            "annotated_patients": [1, 1],
            "dice_mean": [0.5, 0.7],
            "dice_mean_low": [0.4, np.nan],
            "dice_mean_high": [0.6, np.nan],
            "dice_sd": [0.1, np.nan],
            "dice_min": [0.3, 0.7],
            "difference": [np.nan, 0.2],
            "difference_low": [np.nan, -0.1],
            "difference_high": [np.nan, 0.5],
            "absent_patients": [0, 0],
            "absent_false_positive_rate": [np.nan, np.nan],
        }
    )


def test_arms_have_values_with_intervals_and_dashes_where_nothing_is_known(arms):
    assert arms_table(arms, ARMS, "real").to_numpy().tolist() == [
        ["real only (reference)", "1 patient", "0.500 (0.400–0.600)", "0.100", "0.300", "–"],
        ["all annotations", "all patients", "0.700", "–", "0.700", "+0.200 (−0.100 to +0.500)"],
    ]


def test_false_positives_have_a_column_where_a_class_is_absent(arms):
    text = arms_table(arms.assign(absent_patients=2, absent_false_positive_rate=0.0312), ARMS, "real")
    assert text.columns[-1] == "false positives where the class is absent ↓"
    assert text.iloc[:, -1].tolist() == ["3.1%", "3.1%"]


def test_a_metric_that_is_new_keeps_its_name():
    table = pd.DataFrame({"metric": ["some_new_share"], "source": ["styled"], "images_of": ["generated"]})
    table = table.assign(annotated_patients=2, value=0.5, low=0.4, high=0.6, deviation=0.1, images=9, features="x")
    assert quality_table(table).iloc[0].tolist() == ["some new share", "0.500 (0.400–0.600) ± 0.100", "9"]
    assert with_interval(table, "value").tolist() == ["0.500 (0.400–0.600)"]
