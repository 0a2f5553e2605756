"""Tables as people read them."""

import numpy as np
import pandas as pd
import pytest

from stedm.config import Arm
from stedm.report.document import aligned
from stedm.report.tables import arms_table, quality_table, with_interval
from stedm.tables import IMAGE_QUALITY

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


def test_the_quality_of_images_has_a_column_for_each_source_and_one_for_real_patches(tmp_path):
    columns = "source,annotated_patients,metric,images_of,value,low,high,deviation,images,features"
    rows = [
        "styled,3,layout_iou,generated,0.75,0.5,1,,20,",
        "styled,3,layout_iou,real,0.9,0.8,1,,20,",
        "plain,3,layout_iou,generated,0.25,0,0.5,,18,",
        "styled,3,kid,generated,0.1,,,0.01,20,segmenter",
    ]
    (tmp_path / "image_quality.csv").write_text("\n".join([columns, *rows]) + "\n")
    text = quality_table(IMAGE_QUALITY.read(tmp_path / "image_quality.csv"))
    assert [list(text), *text.to_numpy().tolist()] == [
        ["what is measured", "real patches", "styled", "plain", "images", "features"],
        [
            *("agreement with the layout, IoU ↑", "0.900 (0.800–1.000)", "0.750 (0.500–1.000)"),
            *("0.250 (0.000–0.500)", "18–20", ""),
        ],
        ["KID ↓ (± SD over subsets)", "–", "0.100 ± 0.010", "–", "20", "segmentation network"],
    ]


def test_a_metric_that_is_new_keeps_its_name():
    table = pd.DataFrame({"metric": ["some_new_share"], "source": ["styled"], "images_of": ["generated"]})
    table = table.assign(annotated_patients=2, value=0.5, low=0.4, high=0.6, deviation=0.1, images=9, features="x")
    assert quality_table(table).iloc[0].tolist() == ["some new share", "0.500 (0.400–0.600) ± 0.100", "9"]
    assert with_interval(table, "value").tolist() == ["0.500 (0.400–0.600)"]


def test_a_table_of_several_numbers_of_annotated_patients_is_texts():
    table = pd.DataFrame({"metric": "layout_iou", "source": "styled", "images_of": "generated"}, index=range(2))
    table = table.assign(annotated_patients=[1, 2], value=0.5, low=0.4, high=0.6, deviation=0.1, images=9, features="x")
    rows = quality_table(table)
    assert rows["annotated patients"].tolist() == ["1", "2"]
    assert "| 1 " in aligned(rows) or " 1 |" in aligned(rows)
