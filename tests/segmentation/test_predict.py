"""Whole slides: what a network that knows the classes by their colours makes of a phantom, and what becomes of it."""

import json

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scn import write_scn
from tiny import dataset

from stedm.cli import main
from stedm.config import Annotations, Patches, Tissue, TissueClass, Windows
from stedm.errors import UserError
from stedm.segmentation import predict
from stedm.segmentation.label_map import TILE
from stedm.segmentation.network import Normalisation, TrainedNetwork, load_dataset
from stedm.segmentation.predict import label_strips, predict_slides
from stedm.slides import open_slide
from stedm.slides.annotations import read_annotation
from stedm.style.moments import moments_over

CLASSES = [
    TissueClass(name="stroma", color="#e8a0bf"),
    TissueClass(name="tumour", color="#6a3d9a"),
    TissueClass(name="necrosis", color="#c0a060"),
]
COLOURS = np.array([(220, 120, 180), (120, 60, 160), (200, 160, 100)], np.uint8)
GLASS = (245, 245, 245)
OPTIONS = Windows(overlap=0.25, batch_size=7)


class Nearest(torch.nn.Module):
    """Scores of the pixel's own colour alone: the nearest class wins."""

    def forward(self, images):
        colours = Normalisation().apply(torch.from_numpy(COLOURS)[:, None, None]).to(images)
        return -100 * ((images[:, None] - colours) ** 2).sum(2)


def phantom(height, width):
    """Labels of a slide: tumour with a hole of necrosis and one of stroma, in stroma."""
    labels = np.zeros((height, width), np.uint8)
    centre = (width // 2, height // 2)
    cv2.ellipse(labels, centre, (width // 3, int(height / 2.4)), 20, 0, 360, 1, -1)
    cv2.circle(labels, centre, width // 8, 2, -1)
    cv2.circle(labels, (width // 2, height // 4), width // 12, 0, -1)
    return labels


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Make a model folder; its network is `Nearest`, and the number of windows it sees is counted."""
    seen = []

    class Counted(Nearest):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    monkeypatch.setattr(predict, "load_network", lambda folder, _: TrainedNetwork(Counted(), load_dataset(folder)))

    def make(reference=None, **patches):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        about = dataset(Patches(**{"size": 32, "tissue": None} | patches), CLASSES, reference=reference)
        (folder / "dataset.json").write_text(about.model_dump_json())
        (folder / "model.safetensors").write_bytes(str(patches).encode())
        return folder

    make.seen = seen
    return make


def write_slide(path, image, mpp):
    scale = {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", compression="zlib", metadata=None, **scale)
    return path


def test_map_and_polygons_are_the_slide_at_its_place(model, tmp_path):
    small = phantom(620, 505)
    labels = small.repeat(2, 0).repeat(2, 1)
    slide = write_slide(tmp_path / "S1.tiff", COLOURS[labels], 0.25)
    predict_slides(OPTIONS, model(mpp=0.5), [slide], out=tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out/S1.prediction.tif") as file:
        found = file.asarray()
        assert file.pages[0].get_resolution("MICROMETER")[0] == pytest.approx(1 / 0.5)
    np.testing.assert_array_equal(found, small)

    polygons = read_annotation(tmp_path / "out/S1.prediction.geojson", CLASSES, Annotations(), (1010, 1240))
    assert polygons.bounds == (0, 0, 1010, 1240)
    again = polygons.rasterise(0, 0, 1010, 1240, 1.0)
    assert (again != 255).all()
    for value in range(3):
        overlap = ((again == value) & (labels == value)).sum() / ((again == value) | (labels == value)).sum()
        assert overlap > 0.98
    features = json.loads((tmp_path / "out/S1.prediction.geojson").read_text())["features"]
    named = {item["properties"]["classification"]["name"]: item for item in features}
    assert len(features) == 4  # stroma around and within, tumour, necrosis
    assert [len(named[name]["geometry"]["coordinates"]) for name in ("tumour", "necrosis")] == [3, 1]
    assert named["necrosis"]["properties"]["classification"]["color"] == [0xC0, 0xA0, 0x60]


def test_results_cover_what_qupath_shows_of_a_slide_that_was_scanned_in_part(model, tmp_path):
    labels = phantom(300, 220).repeat(2, 0).repeat(2, 1)
    corner, canvas = (130, 75), (901, 800)
    slide = write_scn(tmp_path / "S1.scn", COLOURS[labels], corner, canvas)
    on_canvas = np.full(canvas[::-1], 255, np.uint8)
    on_canvas[75:675, 130:570] = labels
    folder = model(mpp=1.0, tissue=Tissue(mpp=4.0, saturation=0.1))
    for origin, expected in (("bounds", labels), ("canvas", on_canvas)):
        out = tmp_path / origin
        predict_slides(OPTIONS, folder, [slide], out=out, origin=origin)
        found = tifffile.imread(out / "S1.prediction.tif")
        assert found.shape == tuple(side // 2 for side in expected.shape)
        same = found == expected[: 2 * found.shape[0] : 2, : 2 * found.shape[1] : 2]
        assert same.mean() > (0.99 if origin == "bounds" else 0.97)  # edges between pixels, and of tissue
        polygons = read_annotation(
            out / "S1.prediction.geojson", CLASSES, Annotations(origin=origin), canvas, bounds=(*corner, 440, 600)
        )
        again = polygons.rasterise(0, 0, *canvas, 1.0)
        for value in range(3):
            overlap = ((again == value) & (on_canvas == value)).sum() / ((again == value) | (on_canvas == value)).sum()
            assert overlap > 0.95


def test_a_slide_of_other_colours_is_recoloured_first_where_asked(model, tmp_path):
    """The colours of the slide are an affine function of those that the network knows."""
    rng = np.random.default_rng(0)
    labels = phantom(320, 320)
    known = COLOURS[labels] + rng.normal(0, 6, (320, 320, 3))
    matrix = np.array([[0.7, 0.1, 0.0], [0.0, 0.8, 0.1], [0.1, 0.0, 0.6]])
    path = write_slide(tmp_path / "S1.tif", np.rint(known @ matrix + 60).clip(0, 255).astype(np.uint8), 0.5)
    windows = np.rint(known).astype(np.uint8).reshape(10, 32, 10, 32, 3).swapaxes(1, 2).reshape(100, 32, 32, 3)
    folder = model(moments_over(windows), mpp=0.5)
    right = {}
    for application in ("as_is", "normalise"):
        out = tmp_path / application
        options = ["--application", application, "--overlap", "0.25", "--out", str(out)]
        assert main(["predict", "--model", str(folder), *options, str(path)]) == 0
        right[application] = (tifffile.imread(out / "S1.prediction.tif") == labels).mean()
        assert json.loads((out / "S1.prediction.json").read_text())["options"]["application"] == application
    assert right["as_is"] < 0.7
    assert right["normalise"] > 0.95


def test_glass_is_neither_predicted_nor_outlined(model, tmp_path):
    image = np.full((1024, 1024, 3), GLASS, np.uint8)
    image[256:640, 128:512] = COLOURS[1]
    slide = write_slide(tmp_path / "S1.tiff", image, 0.5)
    predict_slides(OPTIONS, model(mpp=0.5, tissue=Tissue(mpp=4.0)), [slide], out=tmp_path / "out")
    expected = np.full((1024, 1024), 255, np.uint8)
    expected[256:640, 128:512] = 1
    found = tifffile.imread(tmp_path / "out/S1.prediction.tif")
    assert (found != expected).sum() <= 4 * 8**2  # corners that the mask's median filter rounds
    (feature,) = json.loads((tmp_path / "out/S1.prediction.geojson").read_text())["features"]
    assert feature["properties"]["classification"]["name"] == "tumour"
    starts = np.linspace(0, 1024 - 32, 43).round()
    across, down = (((starts > low - 32) & (starts < high)).sum() for low, high in ((128, 512), (256, 640)))
    assert sum(model.seen) == across * down  # those that touch tissue


@pytest.mark.parametrize("size", [(20, 24), (700, 20), (40, 33)])
def test_images_of_any_size_without_scale(model, tmp_path, size):
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 :] = 2
    Image.fromarray(COLOURS[labels]).save(tmp_path / "S1.png")
    predict_slides(OPTIONS, model(level=0), [tmp_path / "S1.png"], out=tmp_path / "out")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/S1.prediction.tif"), labels)


def test_a_bad_slide_stops_no_other_and_what_is_done_is_not_redone(model, tmp_path):
    slides, out = tmp_path / "slides", tmp_path / "out"
    slides.mkdir()
    for name in ("A", "D"):
        write_slide(slides / f"{name}.tif", COLOURS[phantom(64, 64)], 0.5)
    (slides / "B.svs").write_bytes(b"no slide")
    write_slide(slides / "C.tif", COLOURS[phantom(64, 64)], None)
    (slides / "notes.txt").write_text("not a slide at all")
    folder = model(mpp=0.5)
    with pytest.raises(UserError) as caught:
        predict_slides(OPTIONS, folder, [slides], out=out)
    broken, without_scale = caught.value.messages
    assert "B.svs" in broken
    assert "C.tif: no resolution" in without_scale and "--mpp" in without_scale
    files = {f"{name}.prediction.{kind}" for name in "AD" for kind in ("tif", "geojson", "json")}
    assert {file.name for file in out.iterdir()} == files | {".stedm"}

    (slides / "B.svs").unlink()
    before = sum(model.seen)
    predict_slides(OPTIONS, folder, [slides], out=out, mpp=0.5)  # the option counts for C, and changes A and D
    predicted = sum(model.seen) - before
    assert predicted == 3 * before / 2
    predict_slides(OPTIONS, folder, [slides], out=out, mpp=0.5)
    assert sum(model.seen) == before + predicted  # nothing
    (out / "D.prediction.geojson").unlink()
    predict_slides(OPTIONS, folder, [slides], out=out, mpp=0.5)
    assert sum(model.seen) == before + predicted * 4 / 3  # D
    predict_slides(OPTIONS, folder, [slides / "A.tif"], out=out, mpp=0.5, redo=True)
    assert sum(model.seen) == before + predicted * 5 / 3  # A, as asked
    predict_slides(OPTIONS, model(mpp=0.5, size=64), [slides / "A.tif"], out=out, mpp=0.5)
    assert sum(model.seen) == before + predicted * 5 / 3 + 1  # another model


def test_a_pathologists_files_are_left_as_they_are(model, tmp_path):
    """In the folder for the results there are annotations of the slides' names, and even of the results' names."""
    out = tmp_path / "annotations"
    out.mkdir()
    mine = ["S1.geojson", "S1.tif", "S1.json", "S2.prediction.geojson", "S3.prediction.json"]
    for name in mine:
        (out / name).write_text("drawn in three days")
    slides = [write_slide(tmp_path / f"S{number}.tiff", COLOURS[phantom(64, 64)], 0.5) for number in (1, 2, 3)]
    with pytest.raises(UserError) as caught:
        predict_slides(OPTIONS, model(mpp=0.5), slides, out=out)
    assert [message.partition(": ")[0] for message in caught.value.messages] == [f"{out}/{name}" for name in mine[3:]]
    assert {(out / name).read_text() for name in mine} == {"drawn in three days"}
    assert (out / "S1.prediction.tif").exists()


@pytest.mark.parametrize("ending", ["tif", "geojson", "json"])
def test_results_that_were_cut_do_not_pass_for_done_and_are_named(model, tmp_path, ending):
    slide = write_slide(tmp_path / "S1.tiff", COLOURS[phantom(64, 64)], 0.5)
    folder, out = model(mpp=0.5), tmp_path / "out"
    predict_slides(OPTIONS, folder, [slide], out=out)
    path = out / f"S1.prediction.{ending}"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{path}: exists, and .* was changed since"):
        predict_slides(OPTIONS, folder, [slide], out=out)
    path.unlink()
    predict_slides(OPTIONS, folder, [slide], out=out)
    assert path.exists()


def test_what_is_broken_is_not_predicted_and_told(model, tmp_path, caplog):
    labels = phantom(768, 768)
    path = write_slide(tmp_path / "S1.tif", COLOURS[labels], 0.5)
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[0].dataoffsets[4], file.pages[0].databytecounts[4]  # the tile in the middle
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * length)
    predict_slides(OPTIONS, model(mpp=0.5), [path], out=tmp_path / "out")
    found = tifffile.imread(tmp_path / "out/S1.prediction.tif")
    np.testing.assert_array_equal(found[found != 255], labels[found != 255])
    assert (found[256:512, 256:512] == 255).all()
    assert (found[:128] != 255).all() and (found[:, :128] != 255).all()
    assert "S1: is broken" in caplog.text


def test_each_slide_is_opened_once_and_the_commit_looked_up_once(model, tmp_path, monkeypatch):
    paths = [write_slide(tmp_path / f"{name}.tif", COLOURS[phantom(64, 64)], None) for name in "AB"]
    opened, asked = [], []
    monkeypatch.setattr(
        predict, "open_slide", lambda slide, **limits: opened.append(slide.slide) or open_slide(slide, **limits)
    )
    monkeypatch.setattr("stedm.files.git_commit", lambda: asked.append("commit"))
    predict_slides(OPTIONS, model(mpp=0.5), paths, out=tmp_path / "out", mpp=0.5)
    assert opened == ["A", "B"]
    assert asked == ["commit"]


def test_nothing_is_left_of_a_slide_that_fails_in_the_middle(model, tmp_path, monkeypatch):
    write_slide(tmp_path / "S1.tif", COLOURS[phantom(900, 64)], 0.5)
    folder = model(mpp=0.5)
    monkeypatch.setattr(predict, "load_network", lambda folder, _: TrainedNetwork(Failing(), load_dataset(folder)))
    with pytest.raises(UserError, match="third batch"):
        predict_slides(OPTIONS, folder, [tmp_path / "S1.tif"], out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


class Failing(Nearest):
    left = 3

    def forward(self, images):
        self.left -= 1
        if not self.left:
            raise UserError("third batch")
        return super().forward(images)


def test_wrong_calls_are_refused_before_anything_is_read(model, tmp_path, capsys):
    folder = model(mpp=0.5)
    for name in ("a/S.tif", "b/S.tif"):
        (tmp_path / name).parent.mkdir()
        write_slide(tmp_path / name, COLOURS[phantom(64, 64)], 0.5)

    def call(*arguments):
        assert main(["predict", "--model", str(folder), *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "has the name of" in call("--out", tmp_path / "out", tmp_path / "a", tmp_path / "b")
    assert "has the slides in it" in call("--out", tmp_path / "a", tmp_path / "a/S.tif")
    assert "no slide in there" in call("--out", tmp_path / "out", folder)
    assert "--mpp: 0" in call("--out", tmp_path / "out", "--mpp", 0, tmp_path / "a")
    assert "overlap" in call("--out", tmp_path / "out", "--overlap", 1, tmp_path / "a")
    (folder / "dataset.json").unlink()
    assert "dataset.json" in call("--out", tmp_path / "out", tmp_path / "a")
    assert not (tmp_path / "out").exists()


def test_strips_hold_what_bands_bring_whatever_their_rows():
    rng = np.random.default_rng(0)
    height, width = 3 * TILE + 100, 7
    expected = np.full((height, width), 255, np.uint8)
    bands, top = [], 40
    while top < height + 50:  # beyond the map, too, where a window is larger than the slide
        rows = int(rng.integers(1, 700))
        probabilities = rng.random((3, rows, width + 2)).astype(np.float32)
        probabilities[:, :, 3] = np.nan
        bands.append((top, probabilities))
        part = expected[top : top + rows]
        part[:] = probabilities.argmax(0)[: len(part), :width]
        part[:, 3] = 255
        top += rows + int(rng.integers(0, 600))
    strips = list(label_strips(bands, height, width))
    assert [len(strip) for strip in strips] == [TILE] * 3 + [100]
    np.testing.assert_array_equal(np.vstack(strips), expected)
