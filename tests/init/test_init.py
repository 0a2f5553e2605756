"""From folders of slides and annotations to a study: what is found, what is chosen, and what is said."""

import json
import os
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image

from stedm import cost
from stedm.config import Study, load
from stedm.errors import UserError
from stedm.init import proposal
from stedm.init import study as init
from stedm.init.files import pair_files, stem_of_annotation
from stedm.init.patients import find_patients
from stedm.sheet import read_study_sheet

CPU = cost.Machine("2 CPU cores", False, 16 * 2**30, 8e10)
GPU = cost.Machine("NVIDIA H100", True, 80 * 2**30, 2e14)


COUNTED = cost.costs_of


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine that need not be timed, and costs that need not be counted."""
    monkeypatch.setattr(init, "this_machine", lambda: CPU)
    monkeypatch.setattr(proposal, "costs_of", lambda study: cost.Costs({"styled": 5e10}, {"styled": 1e13}, 5e11))


def image(path: Path, side: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(len(str(path))).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(colours).save(path)


def mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def outlines(path: Path, *shapes: tuple[str | None, tuple[int, int, int, int]]) -> None:
    """GeoJSON of rectangles: their class, and left, upper, right, lower."""
    features = [
        {
            "type": "Feature",
            "properties": {"classification": name and {"name": name}},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]],
            },
        }
        for name, (x0, y0, x1, y1) in shapes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.fixture
def masked(tmp_path, monkeypatch):
    """Six images with masks of single objects: squares of 20 px, each with its own number."""
    monkeypatch.chdir(tmp_path)
    values = np.zeros((200, 200), np.uint16)
    for number in range(25):
        y, x = divmod(number, 5)
        values[40 * y : 40 * y + 20, 40 * x : 40 * x + 20] = number + 1
    for number in range(6):
        image(tmp_path / f"data/images/P{number // 2}_{number}.png", 200 + number)
        mask(tmp_path / f"data/masks/P{number // 2}_{number}.png", np.pad(values, ((0, number), (0, number))))
    return tmp_path / "data"


def made(**arguments):
    """The study that init writes to the folder mine, as text and as a study, and what it says."""
    said = init.init_study(Path("mine"), **arguments)
    return Path("mine/study.yaml").read_text(encoding="utf-8"), load(Path("mine/study.yaml")), "\n".join(said)


def test_a_folder_of_images_with_masks_becomes_a_study(masked):
    _, study, said = made(slides=masked, patient_from=r"(P\d)_")
    assert [(item.name, item.mask_values) for item in study.classes] == [
        ("background", ["0"]),
        ("objects", ["1-65535"]),
    ]
    assert (study.patches.size, study.patches.level, study.patches.mpp, study.patches.tissue) == (64, 0, None, None)
    assert (study.splits.test_patients, study.splits.repeats) == (1, 3)
    slides = read_study_sheet(study)
    assert {slide.slide: slide.patient for slide in slides} == {f"P{n // 2}_{n}": f"P{n // 2}" for n in range(6)}
    assert all(slide.annotation and slide.annotation.name == slide.path.name for slide in slides)
    assert "structures are 22.6 px across" in said  # circles of 400 px
    assert "3, by the pattern" in said


def test_the_study_is_short_explains_each_line_and_fits_its_schema(masked):
    text, _, _ = made(slides=masked)
    lines = text.splitlines()
    assert len(lines) <= 25
    assert lines[0] == "# yaml-language-server: $schema=study.schema.json"
    headings = ("]", "patches:", "segmentation:")
    unexplained = [line for line in lines[1:] if "  # " not in line and line not in headings]
    assert unexplained == []
    schema = json.loads(Path("mine/study.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(text), schema)
    with pytest.raises(jsonschema.ValidationError, match="sise"):
        jsonschema.validate(yaml.safe_load(text.replace("  size:", "  sise:")), schema)


def test_init_runs_again_but_keeps_what_was_changed_by_hand(masked):
    made(slides=masked)
    _, study, _ = made(slides=masked, mpp=0.25)
    assert (study.slides.mpp, study.patches.mpp) == (0.25, 0.5)
    Path("mine/study.yaml").write_text("study: other")
    with pytest.raises(UserError, match=r"study\.yaml: exists, and it was not written by stedm, or it was changed"):
        made(slides=masked)


def test_a_gpu_trains_larger_patches_with_the_improved_preset(masked, monkeypatch):
    monkeypatch.setattr(init, "this_machine", lambda: GPU)
    for number in range(6):
        image(masked / f"images/P{number // 2}_{number}.png", 600)
        mask(masked / f"masks/P{number // 2}_{number}.png", np.kron([[0, 1], [1, 0]], np.ones((300, 300))).astype("u1"))
    _, study, _ = made(slides=masked, hours=24)
    assert study.patches.size == 256
    assert study.generators["styled"].preset == "improved"
    assert study.first_stage.unshuffle == 4
    assert study.generators["styled"].training.batch_size == 64


def test_steps_follow_the_hours(masked):
    steps = []
    for hours in (2, 8):
        _, study, _ = made(slides=masked, hours=hours)
        steps.append((study.generators["styled"].training.steps, study.segmentation.training.steps))
    assert steps[1][1] == pytest.approx(4 * steps[0][1], rel=0.1)
    assert steps[1][0] >= steps[0][0]
    assert "takes longer than asked" in made(slides=masked, hours=0.001)[2]


def test_weights_of_the_encoder_are_a_download_a_folder_or_none(masked, tmp_path):
    text, study, _ = made(slides=masked)
    assert study.segmentation.encoder_weights == "imagenet"
    assert re.search(r"encoder_weights: imagenet  # a download", text)
    assert made(slides=masked, encoder_weights="none")[1].segmentation.encoder_weights is None
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/config.json").write_text('{"architecture": "resnet18"}')
    network = made(slides=masked, encoder_weights="weights")[1].segmentation
    assert (network.encoder, network.encoder_weights) == ("tu-resnet18", "./weights")
    with pytest.raises(UserError, match="--encoder-weights: nowhere is no folder of timm"):
        made(slides=masked, encoder_weights="nowhere")


@pytest.fixture
def outlined(tmp_path, monkeypatch):
    """Four images with QuPath's exports beside them; one of the images has none."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        image(tmp_path / f"slides/S{number}.png")
    return tmp_path / "slides"


def test_regions_are_filled_and_names_spelt_alike_are_one_class(outlined):
    for number, name in enumerate(("Tumor", "tumor ", "Tumor")):
        outlines(
            outlined / f"S{number}.png.geojson",
            ("Region", (0, 0, 150, 150)),
            (name, (10, 10, 60, 60)),
            ("Odd", (0, 0, 9, 9)),
        )
        if number:
            data = json.loads((outlined / f"S{number}.png.geojson").read_text())
            data["features"].pop()
            (outlined / f"S{number}.png.geojson").write_text(json.dumps(data))
    _, study, said = made(slides=outlined)
    assert [(item.name, item.annotations) for item in study.classes] == [("rest", []), ("tumor", ["Tumor", "tumor"])]
    assert study.annotations.fill == "rest"
    assert not study.annotations.whole_slide
    assert study.annotations.ignore == ["Ignore*", "Odd"]  # on one patient
    assert "'Odd': on one patient" in said
    assert [slide.annotation is None for slide in read_study_sheet(study)] == [False, False, False, True]


def test_one_class_without_regions_is_told_from_all_the_rest(outlined):
    for number in range(3):
        outlines(outlined / f"S{number}.geojson", (None, (10, 10, 60, 60)))
    _, study, said = made(slides=outlined)
    assert [item.name for item in study.classes] == ["rest", "annotated"]
    assert study.classes[1].annotations == ["Unclassified"]
    assert study.annotations.whole_slide
    assert "If you did not outline everything" in said


def test_outlines_without_a_class_around_others_are_regions(outlined):
    for number in range(2):
        outlines(
            outlined / f"S{number}.geojson",
            (None, (0, 0, 150, 150)),
            ("Tumor", (10, 10, 60, 60)),
            ("Stroma", (70, 70, 90, 90)),
        )
    _, study, _ = made(slides=outlined)
    assert [item.name for item in study.classes] == ["rest", "tumor", "stroma"]
    assert study.annotations.regions == ["Region*", "Unclassified"]


def test_values_of_masks_become_classes_and_255_is_not_annotated(outlined):
    values = np.full((200, 200), 255, np.uint8)
    values[:100], values[100:150], values[190:] = 0, 1, 7
    for number in range(3):
        shown = np.where(values == 7, 0 if number else 7, values).astype(np.uint8)
        mask(outlined / f"S{number}_mask.png", shown)
    _, study, said = made(slides=outlined)
    assert [(item.name, item.mask_values) for item in study.classes] == [("background", ["0"]), ("value_1", ["1"])]
    assert "255 of masks counts as not annotated" in said
    assert "values 7 of masks are on one patient" in said


def test_what_cannot_be_read_or_paired_is_said(outlined):
    for number in range(2):
        outlines(outlined / f"S{number}.geojson", ("a", (0, 0, 60, 60)), ("b", (70, 70, 90, 90)))
    outlines(outlined / "S9.geojson", ("a", (0, 0, 60, 60)))
    (outlined / "S2.geojson").write_text("{")
    (outlined / "broken.svs").write_text("no slide")
    _, study, said = made(slides=outlined)
    assert "S9.geojson: no slide is called 'S9'" in said
    assert "S2.geojson: cannot be read as JSON" in said
    assert "slide 'broken'" in said
    assert "broken" not in {slide.slide for slide in read_study_sheet(study)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slides": Path("nowhere")}, "nowhere: there is no such folder"),
        ({"slides": Path(), "mpp": 250.0}, "--mpp: 250 µm per pixel no microscope has"),
        ({"slides": Path(), "hours": 0.0}, "--hours: 0 hours"),
        ({"slides": Path("slides")}, "no annotation was found in slides; give --annotations DIR"),
        ({"slides": Path("slides"), "patient_from": "("}, "'(' is no regular expression"),
        ({"slides": Path("slides"), "patient_from": "X(.)"}, "names no patient for 4 slides: S0, S1, S2 and 1 more"),
        ({"slides": Path("empty")}, "empty: has no slide; there is 1 × .txt"),
    ],
)
def test_what_cannot_become_a_study_is_refused(outlined, arguments, message):
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()
    with pytest.raises(UserError) as error:
        init.init_study(Path("mine"), **arguments)
    assert message in str(error.value)
    assert not Path("mine").exists()


def test_one_annotated_patient_is_too_few(outlined):
    outlines(outlined / "S0.geojson", ("a", (0, 0, 60, 60)), ("b", (70, 70, 90, 90)))
    with pytest.raises(UserError, match="1 patient has annotations, and one is needed to learn from and another"):
        made(slides=outlined)


def test_slides_without_a_scale_among_others_are_left_out_or_given_one(outlined):
    for number in range(3):
        outlines(outlined / f"S{number}.geojson", ("a", (0, 0, 60, 60)), ("b", (70, 70, 90, 90)))
    for number in range(2):
        with Image.open(outlined / f"S{number}.png") as opened:
            opened.save(outlined / f"S{number}.png", dpi=(50_800, 50_800))  # 0.5 µm
    _, study, said = made(slides=outlined)
    assert "2 slides: S2, S3: no resolution, unlike the others; give it with --mpp" in said
    assert [slide.slide for slide in read_study_sheet(study)] == ["S0", "S1"]
    _, study, _ = made(slides=outlined, mpp=0.5)
    assert study.slides.mpp is None
    assert [slide.mpp for slide in read_study_sheet(study)] == [None, None, 0.5, 0.5]


def test_files_are_paired_by_their_names_and_folders(tmp_path):
    for name in ("a/x.png", "b/x.png", "y.ome.tif", "z.svs"):
        (tmp_path / "slides" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "slides" / name).touch()
    for name in ("a/x.geojson", "b/x_labels.png", "y.xml", "z.svs.geojson", "x.json"):
        (tmp_path / "drawn" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "drawn" / name).touch()
    paired = pair_files(tmp_path / "slides", tmp_path / "drawn")
    found = {name: path.relative_to(tmp_path / "drawn").as_posix() for name, path in paired.annotations.items()}
    assert found == {"a_x.png": "a/x.geojson", "b_x.png": "b/x_labels.png", "y": "y.xml", "z": "z.svs.geojson"}
    assert paired.unpaired == [f"{tmp_path}/drawn/x.json: 2 slides have this name: a_x.png, b_x.png"]


def test_names_of_annotations():
    names = ("S1.geojson", "S1.svs.geojson", "S1_mask.png", "S1-labels.tif", "S1.ome.tif", "S1.v2.xml", "S1 gt.png")
    assert [stem_of_annotation(Path(name)) for name in names] == ["S1", "S1", "S1", "S1", "S1", "S1.v2", "S1"]


def test_patients_come_from_a_table_or_barcodes(tmp_path):
    slides = {name: tmp_path / f"{name}.png" for name in ("a_1", "a_2", "TCGA-DB-5270_03", "TCGA-DB-5270_04")}
    table = tmp_path / "patients.csv"
    table.write_text("image;who\na_1.png;Ann\na_2.png;Ann\nTCGA-DB-5270_03;Ben\nx/TCGA-DB-5270_04.png;Ben\n")
    found, _ = find_patients(slides, tmp_path, f"{table}:who")
    assert list(found.values()) == ["Ann", "Ann", "Ben", "Ben"]
    with pytest.raises(UserError, match="has no column 'whom'; it has image, who"):
        find_patients(slides, tmp_path, f"{table}:whom")
    found, reason = find_patients(slides, tmp_path, None)
    assert list(found.values()) == ["a_1", "a_2", "TCGA-DB-5270", "TCGA-DB-5270"]
    assert "2 slides begin with 'a'" in reason


def test_costs_grow_with_batch_size_splits_and_steps(masked):
    _, study, _ = made(slides=masked)
    costs = COUNTED(study)
    data = study.model_dump(mode="json")
    data["splits"]["repeats"] = 2 * study.splits.repeats
    data["generators"]["styled"]["training"]["batch_size"] *= 2
    doubled = COUNTED(Study.model_validate(data))
    assert doubled.networks == pytest.approx(2 * costs.networks)
    assert doubled.generators["styled"] == pytest.approx(4 * costs.generators["styled"])


def test_a_convolution_has_the_operations_that_arithmetic_says():
    import torch

    layer = torch.nn.Conv2d(3, 8, 3, padding=1, device="meta")
    assert cost.operations(lambda: layer(torch.empty(1, 3, 16, 16, device="meta"))) == 2 * 9 * 3 * 8 * 16 * 16
    assert cost.rate_of(16, 16, 1, "fp32", seconds=0.01) > 1e6


@pytest.mark.real_data
@pytest.mark.skipif("STEDM_REAL_DATA" not in os.environ, reason="STEDM_REAL_DATA names no folder with real images")
def test_real_images_with_masks_become_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(proposal, "costs_of", COUNTED)
    data = Path(os.environ["STEDM_REAL_DATA"]) / "glioma"
    _, study, said = made(slides=data)
    slides = read_study_sheet(study)
    assert len(slides) == 76
    assert len({slide.patient for slide in slides if slide.annotation}) == 5
    assert "36 × mask" in said
