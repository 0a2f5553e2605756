"""Figures of the tables: each dot where the table says, nothing over anything else, the same bytes each time."""

import numpy as np
import pandas as pd
import pytest

from stedm.figures.differences import draw_differences
from stedm.figures.history import draw_histories
from stedm.figures.panels import read_panels
from stedm.figures.scores import draw_scores
from stedm.figures.style import REFERENCE, arm_colours, wrapped
from stedm.figures.tables import readable


@pytest.mark.parametrize("numbers", [(3,), (2, 8), (2, 4, 8)])
def test_scores_are_drawn_where_they_are(tables, drawn, tmp_path, numbers, study_arms, check_layout):
    patients, arms, scores = tables(numbers)
    draw_scores(patients, arms, tmp_path / "scores.png")
    (figure,) = drawn
    assert [axes.get_title("left") for axes in figure.axes] == [f"{number} annotated patients" for number in numbers]
    for axes, number in zip(figure.axes, numbers, strict=True):
        some = scores[scores["annotated_patients"] == number]
        dots = [np.asarray(item.get_offsets()) for item in axes.collections]
        assert len(dots) == len(study_arms)
        for place, (arm, found) in enumerate(zip(study_arms, dots, strict=True)):
            own = some[some["arm"] == arm]["score"]
            np.testing.assert_allclose(sorted(found[:, 0]), sorted(own))
            assert set(found[:, 1]) == {place}
            means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
            assert means[place] == pytest.approx(own.mean(), abs=1e-5)
    labels = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert labels == [arm.label for arm in study_arms.values()]
    check_layout(figure)


@pytest.mark.parametrize("numbers", [(1,), (2, 4, 8)])
def test_differences_are_drawn_where_they_are(tables, drawn, tmp_path, numbers, study_arms, texts, check_layout):
    patients, arms, scores = tables(numbers)
    draw_differences(patients, arms, tmp_path / "differences.png")
    (figure,) = drawn
    for axes, number in zip(figure.axes, numbers, strict=True):
        wide = scores[scores["annotated_patients"] == number].pivot_table(
            index="patient", columns="arm", values="score"
        )
        squares = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "s"]
        expected = [(wide[arm] - wide["real"]).mean() for arm in study_arms if arm != "real"]
        np.testing.assert_allclose(squares, expected, atol=1e-5)
    assert any("p = " in text for text in texts(figure))
    assert any("Difference in Dice to “real only”" in text for text in texts(figure))
    check_layout(figure)


def test_an_arm_that_is_missing_for_one_number_leaves_its_row_empty(tables, drawn, tmp_path):
    patients, arms, _ = tables((2, 4))
    for path in (patients, arms):
        table = pd.read_csv(path)
        table[(table["arm"] != "styled") | (table["annotated_patients"] == 4)].to_csv(path, index=False)
    draw_scores(patients, arms, tmp_path / "scores.png")
    draw_differences(patients, arms, tmp_path / "differences.png")
    rows = [{line.get_ydata()[0] for line in axes.lines if line.get_marker() == "D"} for axes in drawn[0].axes]
    assert [len(row) for row in rows] == [4, 5]


def test_one_arm_alone_is_drawn_and_has_no_differences(tables, drawn, tmp_path, texts):
    patients, arms, _ = tables((2,))
    table = pd.read_csv(arms)
    table[table["arm"] == "real"].to_csv(arms, index=False)
    draw_scores(patients, arms, tmp_path / "scores.png")
    draw_differences(patients, arms, tmp_path / "differences.png")
    assert "real only" in texts(drawn[0])
    assert texts(drawn[1]) == ["There is one arm only: nothing to compare it with."]


def test_one_patient_has_dots_and_no_intervals(tables, drawn, tmp_path, texts, check_layout):
    patients, arms, _ = tables((2,), patients=1)
    draw_scores(patients, arms, tmp_path / "scores.png")
    draw_differences(patients, arms, tmp_path / "differences.png")
    for figure in drawn:
        assert not [text for text in texts(figure) if "nan" in text]
        check_layout(figure)


def test_a_figure_has_a_png_and_a_pdf_and_the_same_bytes_each_time(tables, tmp_path):
    patients, arms, _ = tables((2,))
    files = []
    for name in ("a", "b"):
        draw_scores(patients, arms, tmp_path / name / "scores.png")
        files.append({path.suffix: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert set(files[0]) == {".png", ".pdf"}
    assert files[0] == files[1]


def test_curves_are_drawn_one_for_each_run(drawn, tmp_path, study_arms, check_layout):
    def history(name, scale):
        steps = np.arange(20, 620, 20)
        path = tmp_path / f"{name}.csv"
        pd.DataFrame({"step": steps, "loss": scale * np.exp(-steps / 300)}).to_csv(path, index=False)
        return path

    networks = {
        arm.label: [history(f"{name}{seed}", 0.5 + seed) for seed in (0, 1)] for name, arm in study_arms.items()
    }
    generators = {"styled": [history("g", 0.4)]}
    draw_histories({"generators": generators, "segmentation": networks}, "real only", tmp_path / "history.png")
    (figure,) = drawn
    assert [len(axes.lines) for axes in figure.axes] == [1, 10]
    assert figure.axes[1].lines[0].get_color() == REFERENCE
    assert [len(axes.get_legend().get_texts()) for axes in figure.axes] == [1, 5]
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata()[0], 1.5 * np.exp(-20 / 300))
    check_layout(figure)


def test_arms_have_colours_of_their_own_and_the_reference_is_grey(study_arms):
    colours = arm_colours(list(study_arms), "real")
    assert len(set(colours.values())) == len(study_arms)
    assert colours["real"] == REFERENCE


def test_labels_are_broken_into_even_lines():
    assert wrapped("real + synthetic without style") == "real + synthetic\nwithout style"
    assert wrapped("real only") == "real only"
    assert wrapped("Donaudampfschifffahrtsgesellschaft") == "Donaudampfschifffahrtsgesellschaft"


@pytest.mark.parametrize("name", ["NA", "001"])
def test_names_that_look_like_nothing_or_like_numbers_are_in_tables_and_panels(tables, tmp_path, name):
    patients, arms, _ = tables((2,), patients=3)
    for path in (patients, arms):
        table = pd.read_csv(path).replace({"P1": name, "stain": name, "real + stain augmentation": name})
        table.to_csv(path, index=False)
    (panel,), labels, reference = read_panels(patients, arms)
    assert sorted(panel.scores.index) == sorted(["P0", name, "P2"])
    assert name in panel.scores.columns and name in panel.arms
    assert labels[name] == name
    assert reference == "real"
    assert readable(arms)["arm"].tolist() == list(labels.values())
