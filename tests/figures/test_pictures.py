"""Figures of images: each picture at its place, told by its colour."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from stedm.config import Annotations, Evaluation, Patches
from stedm.errors import UserError
from stedm.evaluation.scoring import write_map
from stedm.figures.examples import draw_examples
from stedm.figures.grid import draw_grid, read_grid
from stedm.figures.maps import draw_maps
from stedm.figures.style import coloured, mosaic
from stedm.sheet import Slide, write_sheet
from stedm.store import write_patches

NAMES = ["stroma", "tumour"]


def plain(colour, size=16):
    return np.full((size, size, 3), colour, np.uint8)


def pictures(axes):
    """Images of axes, as drawn."""
    return [np.asarray(item.get_array()) for item in axes.get_images()]


def test_the_grid_has_layouts_beside_and_styles_above(drawn, classes, tmp_path, texts, check_layout):
    rows, columns = 3, 5
    images = np.stack([[plain((40 * row, 30 * column, 99)) for column in range(columns)] for row in range(rows)])
    layouts = np.stack([np.full((16, 16), label, np.uint8) for label in (0, 1, 255)])
    styles = [plain((0, 30 * column, 0))[None] for column in range(columns)]
    draw_grid(
        layouts, styles, images, classes, ["P01", "P02", "P03"], [f"patient {n}" for n in range(columns)],
        tmp_path / "grid.png",
    )  # fmt: skip
    (figure,) = drawn
    grid = np.array(figure.axes).reshape(rows + 1, columns + 1)
    for row in range(rows):
        np.testing.assert_allclose(pictures(grid[row + 1, 0])[0], coloured(layouts[row], classes))
        for column in range(columns):
            np.testing.assert_array_equal(pictures(grid[row + 1, column + 1])[0], images[row, column])
    for column in range(columns):
        np.testing.assert_array_equal(pictures(grid[0, column + 1])[0], styles[column][0])
    assert not pictures(grid[0, 0])
    assert {"P01", "P02", "P03", "patient 0", "patient 4", "stroma", "tumour"} <= set(texts(figure))
    check_layout(figure)


@pytest.mark.parametrize("columns", [2, 12])
def test_names_of_styles_stay_above_their_column(drawn, classes, tmp_path, columns, check_layout):
    images = np.zeros((1, columns, 16, 16, 3), np.uint8)
    draw_grid(
        np.zeros((1, 16, 16), np.uint8), [np.zeros((4, 16, 16, 3), np.uint8)] * columns, images, classes, ["P01"],
        [f"TCGA-AB-{n:04d}" for n in range(columns)], tmp_path / "grid.png",
    )  # fmt: skip
    check_layout(drawn[0])


def test_layouts_take_the_classes_colours_and_white():
    from stedm.config import TissueClass

    found = coloured(np.array([[0, 255]], np.uint8), [TissueClass(name="a", color="#336699")])
    np.testing.assert_allclose(found, [[[0.2, 0.4, 0.6], [1, 1, 1]]])


def test_four_style_images_become_one_and_fewer_show_the_first():
    images = np.stack([plain((n, n, n)) for n in range(5)])
    whole = mosaic(images)
    assert whole.shape == (33, 33, 3)
    assert [whole[y, x, 0] for y, x in ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))] == [0, 1, 2, 3, 255]
    np.testing.assert_array_equal(mosaic(images[:3]), images[0])


@pytest.fixture
def synthesis(tmp_path):
    """Drawn images whose grey value is their number; patches whose colour tells slide and place."""
    for number, slide in enumerate(("A", "B", "C", "D")):
        patches = [(plain((50 * number, 10 * n, 0)), np.zeros((16, 16), np.uint8), (n, 0), 1.0) for n in range(6)]
        write_patches(tmp_path / "patches" / f"{slide}.h5", patches, 16, NAMES, {"slide": slide})
    return synthesised(tmp_path)


def synthesised(tmp_path, patients="BCD", attributes=None):
    """Manifest, shards and patches of twelve images whose styles are of these patients, each of a slide of its name."""
    rows, shards = [], {0: [], 1: []}
    for image in range(12):
        patient = patients[image % 3]
        rows.append(
            {"image": image, "layout_slide": "A", "layout_patch": image % 6, "style_slide": patient,
             "style_patient": patient, "style_patches": str(image % 6)}
        )  # fmt: skip
        shards[image % 2].append((plain(image), np.full((16, 16), image % 2, np.uint8), (image, 0), 1.0))
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    for number, images in shards.items():
        write_patches(tmp_path / f"{number}.h5", images, 16, NAMES, {"slide": str(number)} | (attributes or {}))
    return tmp_path / "manifest.csv", [tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "patches"


def test_examples_stand_with_their_layout_style_and_real_patch(
    drawn, classes, tmp_path, synthesis, texts, check_layout
):
    draw_examples(*synthesis, classes, tmp_path / "examples.png")
    (figure,) = drawn
    grid = np.array(figure.axes).reshape(4, 3)
    for column in range(3):  # the first image of each of the patients B, C, D has that number
        label = to_rgb(classes[column % 2].color)
        np.testing.assert_allclose(pictures(grid[0, column])[0][0, 0], label)
        assert (pictures(grid[1, column])[0] == column).all()
        assert tuple(pictures(grid[2, column])[0][0, 0]) == (50 * (column + 1), 10 * column, 0)
        assert tuple(pictures(grid[3, column])[0][0, 0]) == (0, 10 * column, 0)
    assert {"B", "C", "D", "A"} <= set(texts(figure))
    check_layout(figure)


def test_examples_of_a_generator_without_style_have_no_row_of_styles(
    drawn, classes, tmp_path, synthesis, texts, check_layout
):
    manifest, shards, patches = synthesised(tmp_path, attributes={"styled": False})
    draw_examples(manifest, shards, patches, classes, tmp_path / "examples.png")
    (figure,) = drawn
    grid = np.array(figure.axes).reshape(3, 3)
    for column in range(3):
        assert (pictures(grid[1, column])[0] == column).all()
        assert tuple(pictures(grid[2, column])[0][0, 0]) == (0, 10 * column, 0)
    assert not {"style", "B", "C", "D"} & set(texts(figure))
    check_layout(figure)


@pytest.mark.parametrize("figure", ["examples", "grid"])
def test_patients_whose_names_look_like_nothing_are_in_the_figures_of_images(
    drawn, classes, tmp_path, synthesis, texts, figure
):
    names = ["NA", "None", "001"]
    for name in names:
        write_patches(tmp_path / "patches" / f"{name}.h5", [(plain(9), None, (n, 0), 1.0) for n in range(6)], 16, NAMES,
                      {"slide": name})  # fmt: skip
    manifest, shards, patches = synthesised(tmp_path, names)
    if figure == "examples":
        draw_examples(manifest, shards, patches, classes, tmp_path / "examples.png")
    else:
        table = pd.read_csv(manifest, dtype=str, keep_default_na=False)[:6].assign(seed=[0, 0, 0, 1, 1, 1])
        table["layout_slide"] = "NA"
        table.to_csv(tmp_path / "grid.csv", index=False)
        images = [(plain(n), np.zeros((16, 16), np.uint8), (n, 0), 1.0) for n in range(6)]
        write_patches(tmp_path / "grid.h5", images, 16, NAMES, {"slide": "grid"})
        draw_grid(
            classes=classes, out=tmp_path / "x.png", **read_grid(tmp_path / "grid.csv", tmp_path / "grid.h5", patches)
        )
    assert set(names) <= set(texts(drawn[0]))


def test_no_more_examples_than_asked_are_spread_over_the_patients(drawn, classes, tmp_path, synthesis):
    draw_examples(*synthesis, classes, tmp_path / "examples.png", count=2)
    grid = np.array(drawn[0].axes).reshape(4, 2)
    assert [pictures(axes)[0][0, 0, 0] for axes in grid[1]] == [0, 2]  # B and D


@pytest.fixture
def scored(tmp_path, classes):
    """Three test patients, scored by three arms; the maps of an arm are all tumour or all stroma."""
    return score_patients(tmp_path, classes, ("P1", "P2", "P3"))


def score_patients(tmp_path, classes, patients):
    scores = {"real": (0.6, 0.2, 0.4), "styled": (0.7, 0.6, 0.8), "all": (0.9, 0.95, 0.99)}
    slides, rows, runs = [], [], []
    for patient in patients:
        Image.fromarray(plain((200, 100, 100), 100)).save(tmp_path / f"{patient}.png")
        box = [[[10, 20], [90, 20], [90, 80], [10, 80], [10, 20]]]
        feature = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": box},
            "properties": {"classification": {"name": "Region*"}},
        }
        (tmp_path / f"{patient}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
        slides.append(Slide(patient, patient, tmp_path / f"{patient}.png", tmp_path / f"{patient}.geojson", "", 0.5))
    write_sheet(tmp_path / "slides.csv", slides)
    for arm, values in scores.items():
        folder = tmp_path / "evaluation" / arm / "n2-r0" / "seed0"
        (folder / "maps").mkdir(parents=True)
        confusion = []
        for patient, value in zip(patients, values, strict=True):
            runs.append({"arm": arm, "split": "n2-r0", "annotated_patients": 2, "seed": 0, "role": "test",
                         "patient": patient})  # fmt: skip
            rows.append({"annotated_patients": 2, "arm": arm, "patient": patient, "score": value})
            labels = np.full((30, 40), int(arm == "real"), np.uint8)
            write_map(folder / "maps" / f"{patient}.png", labels, classes, 10, 20, 2.0)
            hits = round(1000 * value)
            for true, predicted, pixels in (
                ("stroma", "stroma", 9), ("stroma", "tumour", 1000 - hits),
                ("tumour", "stroma", 1000 - hits), ("tumour", "tumour", hits),
            ):  # fmt: skip
                confusion.append((patient, patient, "test", true, predicted, pixels))
        columns = ["slide", "patient", "role", "true", "predicted", "pixels"]
        pd.DataFrame(confusion, columns=columns).to_csv(folder / "confusion.csv", index=False)
    pd.DataFrame(rows).to_csv(tmp_path / "patients.csv", index=False)
    pd.DataFrame(runs).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path


def maps(folder, classes, arms):
    draw_maps(
        Evaluation(),
        arms,
        classes,
        Annotations(fill="stroma"),
        Patches(size=16, mpp=1.0),
        folder / "slides.csv",
        folder,
        folder / "evaluation",
        folder / "maps.png",
    )


def test_maps_show_the_worst_and_the_median_patient_and_the_best_arm(
    drawn, classes, scored, study_arms, texts, check_layout
):
    maps(scored, classes, study_arms)
    (figure,) = drawn
    found = texts(figure)
    assert "patient P2" in found and "patient P3" in found and "patient P1" not in found
    assert {"real only\nDice 0.200", "real only\nDice 0.400"} <= set(found)
    assert {"real + styled synthetic\nDice 0.600", "real + styled synthetic\nDice 0.800"} <= set(found)
    grid = np.array(figure.axes).reshape(2, 4)
    for row in grid:
        image, truth, reference, best = (pictures(axes)[0] for axes in row)
        assert image.shape == (30, 40, 3) and (image == (200, 100, 100)).all()
        for picture, label in ((truth, 0), (reference, 1), (best, 0)):
            np.testing.assert_allclose(picture, coloured(np.full((30, 40), label, np.uint8), classes))
    check_layout(figure)


@pytest.mark.parametrize(("names", "columns"), [(("real",), 3), (("real", "all"), 4)])
def test_maps_of_fewer_arms_show_what_there_is(drawn, classes, scored, study_arms, names, columns):
    maps(scored, classes, {name: study_arms[name] for name in names})
    assert len(drawn[0].axes) == 2 * columns


def test_maps_need_the_reference_arm(classes, scored, study_arms):
    table = pd.read_csv(scored / "patients.csv")
    table[table["arm"] != "real"].to_csv(scored / "patients.csv", index=False)
    with pytest.raises(UserError, match=r"patients\.csv: has no scores of the arm 'real'"):
        maps(scored, classes, study_arms)


def test_a_patient_without_a_map_is_named(classes, scored, study_arms):
    for table in scored.glob("evaluation/*/*/*/confusion.csv"):
        found = pd.read_csv(table)
        found[found["patient"] != "P2"].to_csv(table, index=False)
    with pytest.raises(UserError, match="seed0: has no map of patient 'P2'"):
        maps(scored, classes, study_arms)


def test_patients_whose_names_look_like_nothing_have_maps(drawn, classes, tmp_path, study_arms, texts):
    scored = score_patients(tmp_path, classes, ("001", "NA", "None"))
    maps(scored, classes, study_arms)
    assert {"patient NA", "patient None"} <= set(texts(drawn[0]))


def test_maps_of_runs_that_the_study_no_longer_has_are_passed_over(drawn, classes, scored, study_arms):
    """Of a configuration with other splits, whose folders lie beside and come first by name."""
    for arm in ("real", "styled", "all"):
        old = scored / "evaluation" / arm / "n2-r0"
        shutil.copytree(old, scored / "evaluation" / arm / "n2-r3")
        for path in (old / "seed0" / "maps").iterdir():
            write_map(path, np.full((30, 40), 1, np.uint8), classes, 0, 0, 1.0)
    table = pd.read_csv(scored / "scores.csv").assign(split="n2-r3")
    table.to_csv(scored / "scores.csv", index=False)
    maps(scored, classes, study_arms)
    best = drawn[0].axes[3]
    np.testing.assert_allclose(pictures(best)[0], coloured(np.zeros((30, 40), np.uint8), classes))
