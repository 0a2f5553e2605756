"""Figures of the tables: each dot where the table says, nothing over anything else, the same bytes each time."""

import numpy as np
import pandas as pd
import pytest
from filled import write_filled

from stedm.config import HistoriesOptions
from stedm.figures.differences import plot_differences
from stedm.figures.history import plot_histories
from stedm.figures.panels import read_panels
from stedm.figures.scores import plot_scores
from stedm.figures.style import REFERENCE, arm_colours, wrapped
from stedm.tables import HISTORY


@pytest.mark.parametrize("numbers", [(3,), (2, 8), (2, 4, 8)])
def test_scores_are_plotted_where_they_are(tables, figures, tmp_path, numbers, study_arms, check_layout):
    patients, arms, scores = tables(numbers)
    plot_scores(patients, arms, out=tmp_path / "scores.png")
    (fig,) = figures
    assert [axes.get_title("left") for axes in fig.axes] == [f"{number} annotated patients" for number in numbers]
    for axes, number in zip(fig.axes, numbers, strict=True):
        some = scores[scores["annotated_patients"] == number]
        dots = [np.asarray(item.get_offsets()) for item in axes.collections]
        assert len(dots) == len(study_arms)
        for place, (arm, found) in enumerate(zip(study_arms, dots, strict=True)):
            own = some[some["arm"] == arm]["score"]
            np.testing.assert_allclose(sorted(found[:, 0]), sorted(own))
            assert set(found[:, 1]) == {place}
            means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
            assert means[place] == pytest.approx(own.mean(), abs=1e-5)
    labels = [label.get_text().replace("\n", " ") for label in fig.axes[0].get_yticklabels()]
    assert labels == [arm.label for arm in study_arms.values()]
    check_layout(fig)


@pytest.mark.parametrize("numbers", [(1,), (2, 4, 8)])
def test_differences_are_plotted_where_they_are(tables, figures, tmp_path, numbers, study_arms, texts, check_layout):
    patients, arms, scores = tables(numbers)
    plot_differences(patients, arms, out=tmp_path / "differences.png")
    (fig,) = figures
    for axes, number in zip(fig.axes, numbers, strict=True):
        wide = scores[scores["annotated_patients"] == number].pivot_table(
            index="patient", columns="arm", values="score"
        )
        squares = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "s"]
        expected = [(wide[arm] - wide["real"]).mean() for arm in study_arms if arm != "real"]
        np.testing.assert_allclose(squares, expected, atol=1e-5)
    assert any("p = " in text for text in texts(fig))
    assert any("Difference in Dice from “real only”" in text for text in texts(fig))
    check_layout(fig)


def test_an_arm_that_is_missing_for_one_number_leaves_its_row_empty(tables, figures, tmp_path):
    patients, arms, _ = tables((2, 4))
    for path in (patients, arms):
        table = pd.read_csv(path)
        table[(table["arm"] != "styled") | (table["annotated_patients"] == 4)].to_csv(path, index=False)
    plot_scores(patients, arms, out=tmp_path / "scores.png")
    plot_differences(patients, arms, out=tmp_path / "differences.png")
    rows = [{line.get_ydata()[0] for line in axes.lines if line.get_marker() == "D"} for axes in figures[0].axes]
    assert [len(row) for row in rows] == [4, 5]


def test_one_arm_alone_is_plotted_and_has_no_differences(tables, figures, tmp_path, texts):
    patients, arms, _ = tables((2,))
    table = pd.read_csv(arms)
    table[table["arm"] == "real"].to_csv(arms, index=False)
    plot_scores(patients, arms, out=tmp_path / "scores.png")
    plot_differences(patients, arms, out=tmp_path / "differences.png")
    assert "real only" in texts(figures[0])
    assert texts(figures[1]) == ["There is only one arm, so nothing to compare."]


def test_one_patient_has_dots_and_no_intervals(tables, figures, tmp_path, texts, check_layout):
    patients, arms, _ = tables((2,), patients=1)
    plot_scores(patients, arms, out=tmp_path / "scores.png")
    plot_differences(patients, arms, out=tmp_path / "differences.png")
    for fig in figures:
        assert not [text for text in texts(fig) if "nan" in text]
        check_layout(fig)


def test_a_figure_has_a_png_and_a_pdf_and_the_same_bytes_each_time(tables, tmp_path):
    patients, arms, _ = tables((2,))
    files = []
    for name in ("a", "b"):
        plot_scores(patients, arms, out=tmp_path / name / "scores.png")
        files.append({path.suffix: path.read_bytes() for path in (tmp_path / name).glob("*.*") if path.is_file()})
    assert set(files[0]) == {".png", ".pdf"}
    assert files[0] == files[1]


def test_each_training_has_a_curve(figures, tmp_path, study_arms, check_layout, texts):
    def folder(name, scale):
        steps = np.arange(20, 620, 20)
        path = tmp_path / f"{name}-{scale}"
        path.mkdir()
        write_filled(HISTORY, {"name": name, "step": steps, "loss": scale * np.exp(-steps / 300)}, path / "history.csv")
        return path

    options = HistoriesOptions(arms=study_arms, reference_arm="real")
    networks = [folder(name, scale) for name in study_arms for scale in (0.5, 1.5)]
    plot_histories(options, [folder("stain2", 0.4)], networks, out=tmp_path / "history.png")
    (fig,) = figures
    assert [len(axes.lines) for axes in fig.axes] == [1, 10]
    assert fig.axes[1].lines[0].get_color() == REFERENCE
    legends = [[text.get_text().replace("\n", " ") for text in axes.get_legend().get_texts()] for axes in fig.axes]
    assert legends == [["stain2"], [arm.label for arm in study_arms.values()]]
    np.testing.assert_allclose(fig.axes[1].lines[1].get_ydata()[0], 1.5 * np.exp(-20 / 300))
    check_layout(fig)
    plot_histories(options, [], networks, out=tmp_path / "history.png")
    assert [axes.get_title("left") for axes in figures[1].axes] == ["segmentation networks"]


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
