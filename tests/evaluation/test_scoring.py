"""Scores of whole annotated regions: slide, annotation and map at one place and resolution."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scn import write_scn
from tiny import dataset

from stedm.config import Annotations, NetworkRun, Patches, ScoreOptions, TissueClass, Windows
from stedm.errors import UserError
from stedm.evaluation import scoring
from stedm.evaluation.scoring import region, score_slide, score_slides
from stedm.segmentation import application as applying
from stedm.segmentation.network import TrainedNetwork
from stedm.sheet import Slide, write_sheet
from stedm.slides import OpenedSlide
from stedm.style.moments import moments_over

CLASSES = [TissueClass(name="stroma", color="#e8a0bf"), TissueClass(name="tumour", color="#6a3d9a")]
WINDOWS = Windows(overlap=0.5, batch_size=7)
RUN = NetworkRun(study="s", split="n1-r0", annotated_patients=1, repeat=0, arm="real", seed=0)
BLUE = (40, 40, 200)


def box(x, y, w, h):
    return [[[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]]


def feature(name, coordinates):
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": coordinates},
        "properties": {"classification": {"name": name}},
    }


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Red slides with a blue square; the network is replaced by one that calls blue pixels tumour."""

    def predict(network, images):
        assert images.shape[1:] == (32, 32, 3)
        tumour = (images[..., 2] > images[..., 0]).astype(np.float32)
        return np.stack([1 - tumour, tumour], 1)

    monkeypatch.setattr(scoring, "load_network", lambda folder, _: TrainedNetwork(torch.nn.Identity(), reference))
    monkeypatch.setattr(applying, "predict_probabilities", predict)
    slides, rows = [], []
    red = np.random.default_rng(0).integers((160, 0, 0), (240, 80, 80), (9, 32, 32, 3)).astype(np.uint8)
    reference = dataset(Patches(size=32, mpp=0.5, tissue=None), reference=moments_over(red))

    def add(name, patient, role, size, square, features, labelled=True):
        image = np.full((size[1], size[0], 3), (200, 40, 40), np.uint8)
        x, y, w, h = square
        image[y : y + h, x : x + w] = BLUE
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        annotation = tmp_path / f"{name}.geojson"
        annotation.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        slides.append(Slide(name, patient, tmp_path / f"{name}.png", annotation, "", 0.5))
        rows.append((name, patient, "", role, labelled))

    def score(patches, application="as_is"):
        write_sheet(tmp_path / "slides.csv", slides)
        split = pd.DataFrame(rows, columns=["slide", "patient", "group", "role", "labelled"])
        split.to_csv(tmp_path / "split.csv", index=False)
        fill = Annotations(fill="stroma")
        out = tmp_path / "out"
        options = ScoreOptions(
            classes=CLASSES,
            annotations=fill,
            patches=patches,
            windows=WINDOWS,
            application=application,
            trained_arm=RUN.arm,
            run=RUN,
        )
        score_slides(options, tmp_path, tmp_path / "split.csv", tmp_path / "slides.csv", out=out)
        table = pd.read_csv(out / "confusion.csv")
        return table, {name: Image.open(out / "maps" / f"{name}.png") for name in table["slide"].unique()}

    return add, score


def counts(table, slide):
    found = table[table["slide"] == slide].set_index(["true", "predicted"])["pixels"]
    return {key: int(value) for key, value in found.items()}


def test_a_perfect_network_makes_no_errors_wherever_the_square_lies(study):
    add, score = study
    features = [feature("Region*", box(37, 21, 150, 110)), feature("tumour", box(60, 50, 40, 30))]
    add("S1", "A", "test", (240, 170), (60, 50, 40, 30), features)
    table, maps = score(Patches(size=32, mpp=0.5))
    assert counts(table, "S1") == {
        ("stroma", "stroma"): 150 * 110 - 40 * 30,
        ("stroma", "tumour"): 0,
        ("tumour", "stroma"): 0,
        ("tumour", "tumour"): 40 * 30,
    }
    assert set(table["role"]) == {"test"}
    drawn = maps["S1"]
    assert (drawn.text["level0_x"], drawn.text["level0_y"], drawn.text["downsample"]) == ("37", "21", "1.0")
    expected = np.zeros((110, 150), np.uint8)
    expected[29:59, 23:63] = 1
    np.testing.assert_array_equal(np.asarray(drawn), expected)
    assert drawn.convert("RGB").getpixel((25, 30)) == (0x6A, 0x3D, 0x9A)


def test_errors_are_counted_where_annotation_and_prediction_differ(study):
    add, score = study
    features = [feature("Region*", box(0, 0, 100, 100)), feature("tumour", box(20, 20, 40, 40))]
    add("S1", "A", "test", (100, 100), (30, 10, 40, 40), features)
    table, _ = score(Patches(size=32, mpp=0.5))
    overlap = 30 * 30
    assert counts(table, "S1") == {
        ("stroma", "stroma"): 100 * 100 - 2 * 1600 + overlap,
        ("stroma", "tumour"): 1600 - overlap,
        ("tumour", "stroma"): 1600 - overlap,
        ("tumour", "tumour"): overlap,
    }


def test_the_patches_resolution_is_used(study):
    add, score = study
    features = [feature("Region*", box(8, 4, 160, 120)), feature("tumour", box(40, 40, 64, 32))]
    add("S1", "A", "test", (200, 160), (40, 40, 64, 32), features)
    table, maps = score(Patches(size=32, mpp=1.0))
    assert maps["S1"].size == (80, 60)
    assert counts(table, "S1")["tumour", "tumour"] == 32 * 16
    assert sum(counts(table, "S1").values()) == 80 * 60
    assert maps["S1"].text["downsample"] == "2.0"


def test_a_slide_of_other_colours_is_recoloured_first_where_the_arm_asks_for_it(study, tmp_path):
    """The network calls tumour what is bluer than red: of a blue slide everything, as it is."""
    add, score = study
    add("S1", "A", "test", (320, 320), (0, 0, 1, 1), [feature("Region*", box(0, 0, 320, 320))])
    image = np.random.default_rng(1).integers((0, 0, 160), (80, 80, 240), (320, 320, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "S1.png")
    patches = Patches(size=32, mpp=0.5, tissue=None)
    for application, tumour in (("as_is", 320 * 320), ("normalise", 0)):
        table, _ = score(patches, application)
        assert counts(table, "S1")["stroma", "tumour"] == tumour


def test_an_image_smaller_than_a_window_is_padded(study):
    add, score = study
    features = [feature("Region*", box(0, 0, 20, 24)), feature("tumour", box(5, 5, 10, 10))]
    add("S1", "A", "test", (20, 24), (5, 5, 10, 10), features)
    table, _ = score(Patches(size=32, level=0))
    assert counts(table, "S1") == {
        ("stroma", "stroma"): 380, ("stroma", "tumour"): 0, ("tumour", "stroma"): 0, ("tumour", "tumour"): 100,
    }  # fmt: skip


def test_far_from_annotations_nothing_is_predicted(study):
    add, score = study
    features = [feature("Region*", box(0, 0, 40, 40)), feature("Region*", box(260, 260, 40, 40))]
    add("S1", "A", "test", (300, 300), (10, 10, 5, 5), features)
    table, maps = score(Patches(size=32, mpp=0.5))
    labels = np.asarray(maps["S1"])
    assert (labels[100:200, 100:200] == 255).all()
    assert sum(counts(table, "S1").values()) == 2 * 1600


def test_what_is_broken_is_not_scored_and_told(study, monkeypatch, caplog):
    add, score = study
    intact = OpenedSlide.read_readable

    def read(self, x0, y0, w, h, downsample):
        image, broken = intact(self, x0, y0, w, h, downsample)
        broken[40, 40] = True
        return image, broken

    monkeypatch.setattr(OpenedSlide, "read_readable", read)
    add("S1", "A", "test", (96, 96), (5, 5, 10, 10), [feature("Region*", box(0, 0, 96, 96))])
    table, _ = score(Patches(size=32, mpp=0.5))
    lost = 16 * 16  # what no window sees that is not broken
    assert sum(counts(table, "S1").values()) == 96 * 96 - lost
    assert f"{lost} annotated pixels are not scored" in caplog.text


def test_training_slides_and_slides_without_labels_are_not_scored(study, caplog):
    add, score = study
    features = [feature("Region*", box(0, 0, 40, 40))]
    add("S1", "A", "test", (64, 64), (5, 5, 10, 10), features)
    add("S2", "B", "annotated", (64, 64), (5, 5, 10, 10), features)
    add("S3", "C", "validation", (64, 64), (5, 5, 10, 10), features)
    add("S4", "D", "test", (64, 64), (5, 5, 10, 10), features, labelled=False)
    table, maps = score(Patches(size=32, mpp=0.5))
    assert set(zip(table["slide"], table["role"], strict=True)) == {("S1", "test"), ("S3", "validation")}
    assert set(maps) == {"S1", "S3"}
    assert "S4 is not scored: it has no annotated pixels" in caplog.text


def test_a_split_without_annotated_test_slides_is_refused(study, tmp_path):
    add, score = study
    add("S1", "A", "test", (64, 64), (5, 5, 10, 10), [feature("Region*", box(0, 0, 40, 40))], labelled=False)
    with pytest.raises(UserError, match=r"split\.csv: has no annotated test slide"):
        score(Patches(size=32, mpp=0.5))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("bounds", "dimensions", "downsample", "expected"),
    [
        ((10.5, 20.2, 200.1, 100.9), (1000, 1000), 1.0, (10, 20, 191, 81)),
        ((990.0, 500.0, 998.0, 700.0), (1000, 1000), 1.0, (936, 500, 64, 200)),  # moved inwards at the border
        ((-5.0, 0.0, 1003.0, 900.0), (1000, 1000), 2.0, (0, 0, 500, 450)),  # shapes may reach over the slide
        ((0.0, 0.0, 30.0, 30.0), (30, 300), 1.0, (0, 0, 64, 64)),  # narrower than a window: padded
        ((0.0, 0.0, 1000.0, 1000.0), (1000, 1000), 3.0, (0, 0, 333, 333)),  # no pixel half off the slide
    ],
)
def test_the_region_holds_the_annotation_and_stays_on_the_slide(bounds, dimensions, downsample, expected):
    assert region(bounds, dimensions, downsample, 64) == expected


def test_a_slide_that_was_scanned_in_part_is_scored_where_it_was_annotated(tmp_path, monkeypatch):
    image = np.full((200, 260, 3), (200, 40, 40), np.uint8)
    image[40:100, 60:150] = BLUE
    slide = write_scn(tmp_path / "S1.scn", image, (170, 90), (600, 500))
    text = {"type": "FeatureCollection", "features": [feature("tumour", box(60, 40, 90, 60))]}
    (tmp_path / "S1.geojson").write_text(json.dumps(text))
    options = ScoreOptions.model_construct(
        classes=CLASSES,
        annotations=Annotations(),
        patches=Patches(size=32, mpp=0.5, tissue=None),
        windows=Windows(overlap=0.5, batch_size=7),
        application="as_is",
    )

    def predict(network, images):
        tumour = (images[..., 2] > images[..., 0]).astype(np.float32)
        return np.moveaxis(np.stack([1 - tumour, tumour]), 0, 1)

    monkeypatch.setattr(applying, "predict_probabilities", predict)
    network = TrainedNetwork(torch.nn.Identity(), dataset())
    matrix = score_slide(options, network, Slide("S1", "A", slide, tmp_path / "S1.geojson"), tmp_path / "map.png")
    np.testing.assert_array_equal(matrix, [[0, 0], [0, 90 * 60]])
