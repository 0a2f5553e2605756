"""Figures of images: each picture is in its place, which its colour says."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from filled import write_filled
from matplotlib.colors import to_rgb
from PIL import Image

from stedm.config import Annotations, MapsOptions, Patches, SourcesOptions
from stedm.config.evaluation import ScoredClasses
from stedm.errors import UserError
from stedm.evaluation.scoring import write_map
from stedm.figures.closest import plot_closest
from stedm.figures.examples import plot_examples
from stedm.figures.grid import plot_grid
from stedm.figures.maps import plot_maps
from stedm.figures.sources import plot_sources
from stedm.figures.style import coloured, mosaic
from stedm.shards import Generated, write_shard
from stedm.sheet import Slide, write_sheet
from stedm.store import write_patches
from stedm.tables import CONFUSION, IMAGES, MANIFEST, PATIENTS, PLAN, SCORES

NAMES = ["stroma", "tumour"]
MADE_FOR = {"source": "styled", "split": "n1-r0"}


def plain(colour, size=16):
    return np.full((size, size, 3), colour, np.uint8)


def pictures(axes):
    """Images of axes."""
    return [np.asarray(item.get_array()) for item in axes.get_images()]


@pytest.fixture
def plot(classes, tmp_path):
    """Plots a grid of these layouts (labels) by these numbers of style images; colours say which is which."""

    def make(layouts, styles):
        rows, images = [], []
        for patient, count in styles.items():
            some = [(plain((0, 30 * number, 0)), None, (number, 0), 1.0) for number in range(count)]
            write_patches(tmp_path / f"patches/{patient}.h5", some, 16, NAMES, {"slide": patient})
        for row, (slide, label) in enumerate(layouts.items()):
            for column, (patient, count) in enumerate(styles.items()):
                numbers = " ".join(map(str, range(count)))
                rows.append(
                    MADE_FOR | {"image": len(rows), "seed": row, "layout_slide": slide, "style_slide": patient,
                     "style_patient": patient, "style_patches": numbers}
                )  # fmt: skip
                layout = np.full((16, 16), label, np.uint8)
                images.append(Generated(len(images), plain((40 * row, 15 * column, 99)), layout, 0))
        write_filled(PLAN, rows, tmp_path / "grid.csv")
        write_shard(tmp_path / "grid.h5", images, 16, NAMES, MADE_FOR | {"styled": True})
        plot_grid(classes, tmp_path / "grid.csv", tmp_path / "grid.h5", tmp_path / "patches", out=tmp_path / "grid.png")

    return make


def test_the_grid_has_layouts_left_and_styles_above(figures, classes, plot, texts, check_layout):
    layouts, styles = {"P01": 0, "P02": 1, "P03": 255}, {"NA": 1, "001": 4, "c": 5, "d": 3, "e": 1}
    plot(layouts, styles)
    (fig,) = figures
    grid = np.array(fig.axes).reshape(4, 6)
    for row, label in enumerate(layouts.values()):
        wanted = coloured(np.full((16, 16), label, np.uint8), classes.classes)
        np.testing.assert_allclose(pictures(grid[row + 1, 0])[0], wanted)
        for column in range(5):
            assert (pictures(grid[row + 1, column + 1])[0] == (40 * row, 15 * column, 99)).all()
    for axes, count in zip(grid[0, 1:], styles.values(), strict=True):
        corner = pictures(axes)[0][-1, -1]  # of the fourth image where there are four, else of the first
        assert tuple(corner) == (0, 90 if count >= 4 else 0, 0)
    assert not pictures(grid[0, 0])
    assert {*layouts, *styles, "stroma", "tumour"} <= set(texts(fig))
    check_layout(fig)


@pytest.mark.parametrize("columns", [2, 12])
def test_names_of_styles_stay_above_their_column(figures, plot, columns, check_layout):
    plot({"P01": 0}, {f"TCGA-AB-{number:04d}": 4 for number in range(columns)})
    check_layout(figures[0])


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
    """Makes generated images whose grey value is their number, patches whose colour says slide and place; returns
    manifest, shards and patches. The styles of the images are of these patients in turn, each of a slide of its name;
    the layouts are of slide A."""

    def make(patients="BCD", styled=True):
        rows, shards = [], {0: [], 1: []}
        for number, slide in enumerate(["A", *patients]):
            patches = [(plain((50 * number % 256, 10 * n, 0)), None, (n, 0), 1.0) for n in range(6)]
            write_patches(tmp_path / f"patches/{slide}.h5", patches, 16, NAMES, {"slide": slide})
        for image in range(4 * len(patients)):
            patient = patients[image % len(patients)]
            rows.append(
                MADE_FOR | {"image": image, "layout_slide": "A", "layout_patch": image % 6, "style_slide": patient,
                 "style_patient": patient, "style_patches": str(image % 6)}
            )  # fmt: skip
            layout = np.full((16, 16), image % 2, np.uint8)
            shards[image % 2].append(Generated(image, plain(image), layout, 0))
        write_filled(MANIFEST, rows, tmp_path / "manifest.csv")
        for number, images in shards.items():
            write_shard(tmp_path / f"{number}.h5", images, 16, NAMES, MADE_FOR | {"styled": styled})
        return tmp_path / "manifest.csv", [tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "patches"

    return make


def test_examples_stand_with_their_layout_style_and_real_patch(
    figures, classes, tmp_path, synthesis, texts, check_layout
):
    plot_examples(classes, *synthesis(), out=tmp_path / "examples.png")
    (fig,) = figures
    grid = np.array(fig.axes).reshape(4, 3)
    for column in range(3):  # the first image of each of the patients B, C, D has that number
        label = to_rgb(classes.classes[column % 2].color)
        np.testing.assert_allclose(pictures(grid[0, column])[0][0, 0], label)
        assert (pictures(grid[1, column])[0] == column).all()
        assert tuple(pictures(grid[2, column])[0][0, 0]) == (50 * (column + 1), 10 * column, 0)
        assert tuple(pictures(grid[3, column])[0][0, 0]) == (0, 10 * column, 0)
    assert {"B", "C", "D", "A", "generated"} <= set(texts(fig))
    check_layout(fig)


def test_examples_of_a_generator_without_style_have_no_row_of_styles(
    figures, classes, tmp_path, synthesis, texts, check_layout
):
    plot_examples(classes, *synthesis(styled=False), out=tmp_path / "examples.png")
    (fig,) = figures
    grid = np.array(fig.axes).reshape(3, 3)
    for column in range(3):
        assert (pictures(grid[1, column])[0] == column).all()
        assert tuple(pictures(grid[2, column])[0][0, 0]) == (0, 10 * column, 0)
    assert not {"style", "B", "C", "D"} & set(texts(fig))
    check_layout(fig)


def test_scores_of_another_arm_are_not_shown(classes, scored, study_arms):
    one, other, between = (scored / "evaluation" / name for name in ("real", "styled", "between"))
    one.rename(between)
    other.rename(one)
    between.rename(other)
    with pytest.raises(UserError, match="real/n2-r0/seed0: is of arm styled, split n2-r0, seed 0, not of arm real, sp"):
        maps(scored, classes, study_arms)


def test_patients_whose_names_look_like_nothing_are_among_the_examples(figures, classes, tmp_path, synthesis, texts):
    names = ["NA", "None", "001"]
    plot_examples(classes, *synthesis(names), out=tmp_path / "examples.png")
    assert set(names) <= set(texts(figures[0]))


def test_of_many_examples_eight_are_spread_over_the_patients(figures, classes, tmp_path, synthesis):
    plot_examples(classes, *synthesis("BCDEFGHIJKLMNOP"), out=tmp_path / "examples.png")
    grid = np.array(figures[0].axes).reshape(4, 8)
    assert [pictures(axes)[0][0, 0, 0] for axes in grid[1]] == [0, 2, 4, 6, 8, 10, 12, 14]


def test_sources_stand_below_the_same_layouts_and_styles(figures, classes, tmp_path, synthesis, texts, check_layout):
    manifest, shards, patches = synthesis("BCDEFG")
    table = MANIFEST.read(manifest).assign(source="other")
    MANIFEST.write(table, tmp_path / "other.csv")
    images = [
        Generated(image, plain((200, image, 0)), np.zeros((16, 16), np.uint8), 0) for image in table["image"][:-6]
    ]  # the last of each patient is missing
    write_shard(tmp_path / "other.h5", images, 16, NAMES, MADE_FOR | {"source": "other", "styled": True})
    options = SourcesOptions(classes=classes.classes, sources=["some", "other"])
    manifests, all_shards = [manifest, tmp_path / "other.csv"], [*shards, tmp_path / "other.h5"]
    plot_sources(options, manifests, all_shards, patches, out=tmp_path / "sources.png")
    (fig,) = figures
    grid = np.array(fig.axes[:30]).reshape(5, 6)
    for number, (some, other) in enumerate(zip(grid[3], grid[4], strict=True)):
        assert (pictures(some)[0] == number).all()  # the first image in each style
        assert (pictures(other)[0] == (200, number, 0)).all()
    assert {"style", "annotated", "layout", "some", "other", *"BCDEFG"} <= set(texts(fig))
    check_layout(fig)


def test_images_that_the_filter_left_out_are_no_examples(figures, classes, tmp_path, synthesis):
    manifest, shards, patches = synthesis()
    plot_examples(classes, manifest, shards[1:], patches, out=tmp_path / "examples.png")
    grid = np.array(figures[0].axes).reshape(4, 3)
    assert [pictures(axes)[0][0, 0, 0] for axes in grid[1]] == [3, 1, 5]  # the first odd numbers of B, C and D


def test_the_closest_pairs_come_first(figures, tmp_path, synthesis, texts, check_layout):
    _, shards, patches = synthesis()
    rows = [
        MADE_FOR
        | {
            "image": image,
            "closest_slide": "BC"[image % 2],
            "closest_patch": 5 - image % 6,
            "closest_distance": distance,
        }
        for image, distance in enumerate((0.3, 0.1, 0.5, 0.2))
    ]
    write_filled(IMAGES, rows, tmp_path / "images.csv")
    plot_closest(tmp_path, shards, patches, out=tmp_path / "closest.png")
    (fig,) = figures
    grid = np.array(fig.axes).reshape(2, 4)
    for column, image in enumerate((1, 3, 0, 2)):
        assert (pictures(grid[0, column])[0] == image).all()
        assert (pictures(grid[1, column])[0] == (50 * (1 + image % 2), 10 * (5 - image), 0)).all()
    assert {"generated", "closest\ntraining patch", "0.100", "0.500", "B", "C"} <= set(texts(fig))
    check_layout(fig)


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
            write_map(folder / "maps" / f"{patient}.png", labels, classes.classes, 10, 20, 2.0)
            hits = round(1000 * value)
            for true, predicted, pixels in (
                ("stroma", "stroma", 9), ("stroma", "tumour", 1000 - hits),
                ("tumour", "stroma", 1000 - hits), ("tumour", "tumour", hits),
            ):  # fmt: skip
                confusion.append((patient, patient, "test", true, predicted, pixels))
        columns = ["slide", "patient", "role", "true", "predicted", "pixels"]
        run = {"arm": arm, "split": "n2-r0", "seed": 0}
        write_filled(CONFUSION, pd.DataFrame(confusion, columns=columns).assign(**run), folder / "confusion.csv")
    write_filled(PATIENTS, rows, tmp_path / "patients.csv")
    write_filled(SCORES, runs, tmp_path / "scores.csv")
    return tmp_path


def maps(folder, classes, arms):
    options = MapsOptions(
        classes=classes.classes,
        annotations=Annotations(fill="stroma"),
        patches=Patches(size=16, mpp=1.0),
        arms=arms,
        evaluation=ScoredClasses(reference_arm="real"),
    )
    plot_maps(options, folder / "slides.csv", folder, folder / "evaluation", out=folder / "maps.png")


def test_maps_show_the_worst_and_the_median_patient_and_the_best_arm(
    figures, classes, scored, study_arms, texts, check_layout
):
    maps(scored, classes, study_arms)
    (fig,) = figures
    found = texts(fig)
    assert "patient P2" in found and "patient P3" in found and "patient P1" not in found
    assert {"real only\nDice 0.200", "real only\nDice 0.400"} <= set(found)
    assert {"real + styled synthetic\nDice 0.600", "real + styled synthetic\nDice 0.800"} <= set(found)
    grid = np.array(fig.axes).reshape(2, 4)
    for row in grid:
        image, truth, reference, best = (pictures(axes)[0] for axes in row)
        assert image.shape == (30, 40, 3) and (image == (200, 100, 100)).all()
        for picture, label in ((truth, 0), (reference, 1), (best, 0)):
            np.testing.assert_allclose(picture, coloured(np.full((30, 40), label, np.uint8), classes.classes))
    check_layout(fig)


@pytest.mark.parametrize(("names", "columns"), [(("real",), 3), (("real", "all"), 4)])
def test_maps_of_fewer_arms_show_what_there_is(figures, classes, scored, study_arms, names, columns):
    maps(scored, classes, {name: study_arms[name] for name in names})
    assert len(figures[0].axes) == 2 * columns


def test_maps_need_the_reference_arm(classes, scored, study_arms):
    table = pd.read_csv(scored / "patients.csv")
    table[table["arm"] != "real"].to_csv(scored / "patients.csv", index=False)
    with pytest.raises(UserError, match=r"patients\.csv: has no scores for the arm 'real'"):
        maps(scored, classes, study_arms)


def test_a_patient_without_a_map_is_named(classes, scored, study_arms):
    for table in scored.glob("evaluation/*/*/*/confusion.csv"):
        found = pd.read_csv(table)
        found[found["patient"] != "P2"].to_csv(table, index=False)
    with pytest.raises(UserError, match="seed0: has no map of patient 'P2'"):
        maps(scored, classes, study_arms)


def test_patients_whose_names_look_like_nothing_have_maps(figures, classes, tmp_path, study_arms, texts):
    scored = score_patients(tmp_path, classes, ("001", "NA", "None"))
    maps(scored, classes, study_arms)
    assert {"patient NA", "patient None"} <= set(texts(figures[0]))


def test_maps_of_runs_that_the_study_no_longer_has_are_passed_over(figures, classes, scored, study_arms):
    """Of a configuration with other splits, whose folders lie next to theirs and come first by name."""
    for arm in ("real", "styled", "all"):
        old = scored / "evaluation" / arm / "n2-r0"
        shutil.copytree(old, new := scored / "evaluation" / arm / "n2-r3")
        confusion = pd.read_csv(new / "seed0/confusion.csv").assign(split="n2-r3")
        confusion.to_csv(new / "seed0/confusion.csv", index=False)
        for path in (old / "seed0" / "maps").iterdir():
            write_map(path, np.full((30, 40), 1, np.uint8), classes.classes, 0, 0, 1.0)
    table = pd.read_csv(scored / "scores.csv").assign(split="n2-r3")
    table.to_csv(scored / "scores.csv", index=False)
    maps(scored, classes, study_arms)
    best = figures[0].axes[3]
    np.testing.assert_allclose(pictures(best)[0], coloured(np.zeros((30, 40), np.uint8), classes.classes))
