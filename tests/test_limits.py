"""What a small file may take of time and memory."""

import gc
import json
import os
import resource
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import hostile
import numpy as np
import pytest
import tifffile
from PIL import Image

from stedm.config import Annotations, Patches, Slides, TissueClass, load
from stedm.errors import UserError
from stedm.sheet import Slide, read_sheet
from stedm.slides import open_slide, readers
from stedm.slides.annotations import lost, read_annotation
from stedm.slides.coords import read_coords
from stedm.slides.readers import UnreadableSlide

CLASSES = [TissueClass(name="stroma", color="#e8a0bf"), TissueClass(name="tumour", color="#6a3d9a")]
MASK = [item.model_copy(update={"mask_values": [str(label)]}) for label, item in enumerate(CLASSES)]
MEMORY = 4 << 30
SECONDS = 60


@pytest.fixture(autouse=True)
def limited():
    """Processor time and memory of this process; a wait is ended by the alarm."""
    used, (_, most) = resource.getrusage(resource.RUSAGE_SELF).ru_utime, resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + (2 << 30), most))  # addresses, of which libraries take some
    yield
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - used < SECONDS


def read(path, dimensions):
    return read_annotation(path, CLASSES, Annotations(), dimensions)


def png(path, width, height):
    """A grey PNG that claims so many pixels."""
    data = zlib.compress(bytes(1000))
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in chunks:
            file.write(struct.pack(">I", len(content)) + name + content)
            file.write(struct.pack(">I", zlib.crc32(name + content)))
    return path


@pytest.mark.parametrize("side", [20_001, 40_000, 2**31 - 1])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, side):
    path = png(tmp_path / "a.png", side, 10_000)
    with pytest.raises(UnreadableSlide, match=rf"a\.png.*{side} × 10000 px, too many.*vips"):
        open_slide(Slide("a", "a", path))


def test_the_key_that_the_message_names_lets_a_larger_image_in(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (120, 100)).save(path)
    small = Patches(size=16, level=0, max_megapixels=0.01)
    with pytest.raises(UnreadableSlide, match=r"120 × 100 px, too many.*or raise patches\.max_megapixels \(0\.01\)"):
        open_slide(Slide("a", "a", path), small)
    open_slide(Slide("a", "a", path), small.model_copy(update={"max_megapixels": 0.012})).close()
    mask = tmp_path / "mask.png"
    Image.new("L", (120, 100)).save(mask)
    with pytest.raises(UserError, match=r"mask\.png: has 12,000 values, too many.*patches\.max_megapixels"):
        read_annotation(mask, CLASSES, Annotations(), (120, 100), max_megapixels=0.01)


def test_a_slide_without_a_small_level_is_refused_before_it_is_read_through(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((400, 400, 3), np.uint8), tile=(64, 64), photometric="rgb")
    with (
        open_slide(Slide("a", "a", path), max_megapixels=0.015) as opened,
        pytest.raises(UnreadableSlide, match=r"has no small level.*raise patches\.max_megapixels"),
    ):
        opened.thumbnail(64)
    with open_slide(Slide("a", "a", path), max_megapixels=0.016) as opened:
        opened.thumbnail(64)


def test_jpeg_2000_takes_twice_the_memory(tmp_path):
    path = tmp_path / "a.jp2"
    Image.new("RGB", (120, 100)).save(path)
    with pytest.raises(UnreadableSlide, match=r"120 × 100 px, too many.*or raise patches\.max_megapixels \(0\.023\)"):
        open_slide(Slide("a", "a", path), max_megapixels=0.023)
    open_slide(Slide("a", "a", path), max_megapixels=0.024).close()


def test_one_large_image_is_open_at_a_time_and_small_ones_together(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LARGE", 100 * 100)
    for name, side in (("large", 101), ("small", 100)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    large, small = (Slide(name, name, tmp_path / f"{name}.png") for name in ("large", "small"))
    with ThreadPoolExecutor(1) as pool, open_slide(small), open_slide(small):
        with open_slide(large):
            other = pool.submit(open_slide, large)
            with pytest.raises(TimeoutError):
                other.result(timeout=0.2)
        assert other.result(timeout=SECONDS).dimensions == (101, 101)
    del other, pool  # what nobody closes is closed when it is gone
    gc.collect()
    (tmp_path / "broken.png").write_bytes((tmp_path / "large.png").read_bytes()[:60])
    with pytest.raises(UnreadableSlide):
        open_slide(Slide("broken", "broken", tmp_path / "broken.png"))
    open_slide(large).close()


def test_a_mask_of_many_equal_pages_is_refused_before_they_are_decoded(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 100, 100), np.uint8), photometric="minisblack", metadata=None)
    read_annotation(tmp_path / "a.tif", MASK, Annotations(), (100, 100), max_megapixels=0.08)
    with pytest.raises(UserError, match=r"a\.tif: holds 9 images"):
        read_annotation(tmp_path / "a.tif", MASK, Annotations(), (100, 100), max_megapixels=0.079)


@pytest.mark.parametrize("name", ["a.vms", "a.png"])  # OpenSlide looks at what is in it
def test_a_slide_one_of_whose_files_is_a_pipe_is_refused(tmp_path, name):
    hostile.vms(tmp_path, "pipe.jpg").rename(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableSlide, match=r"pipe\.jpg is a pipe or device; move it away"):
        open_slide(Slide("a", "a", tmp_path / name))


def test_a_pipe_in_the_folder_of_a_mirax_slide_is_refused(tmp_path):
    (tmp_path / "a.mrxs").touch()
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a/Slidedat.ini")
    with pytest.raises(UnreadableSlide, match=r"Slidedat\.ini is a pipe or device"):
        open_slide(Slide("a", "a", tmp_path / "a.mrxs"))


def test_tiles_that_would_fill_the_memory_are_refused(tmp_path):
    path = hostile.one_tile(tmp_path / "a.tif", 16, 16, 8208, 8, b"")
    with pytest.raises(UnreadableSlide, match="has tiles of 8208 × 8208 px"):
        open_slide(Slide("a", "a", path))


def test_a_jpeg_of_a_thousand_scans_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("L", (64, 64)).save(path, progressive=True)
    open_slide(Slide("a", "a", path)).close()
    data = path.read_bytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    path.write_bytes(data[:-2] + 1000 * last + data[-2:])
    with pytest.raises(UnreadableSlide, match=r"is a JPEG of 1,0\d\d scans"):
        open_slide(Slide("a", "a", path))


def nested(levels, name="a"):
    """YAML whose aliases stand for 10^levels values."""
    lines = [f"{name}0: &{name}0 [x]"]
    lines += [
        f"{name}{level}: &{name}{level} [{', '.join([f'*{name}{level - 1}'] * 10)}]" for level in range(1, levels + 1)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [nested(9), "a: &a [*a]", "a: &a {b: *a}", "[" * 100_000, "{a: " * 100_000])
def test_a_configuration_that_grows_without_end_is_refused(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=r"study\.yaml: (has more than 100,000 values|cannot be read as YAML)"):
        load(tmp_path / "study.yaml")


def test_aliases_are_welcome(tmp_path):
    (tmp_path / "study.yaml").write_text("a: &a {b: 1}\nc: {<<: *a}\n")
    with pytest.raises(UserError, match=r"no such key|is missing"):  # it is read, and is no study
        load(tmp_path / "study.yaml")


def rings(count):
    """Squares within each other, as GeoJSON."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[k, k], [s, k], [s, s], [k, s], [k, k]]]},
            "properties": {"classification": {"name": ("stroma", "tumour")[n % 2]}},
        }
        for n in range(count)
        for k, s in [(n / 10, 4000 - n / 10)]
    ]
    return {"type": "FeatureCollection", "features": features}


@pytest.mark.parametrize(("count", "refused"), [(1000, False), (4000, True), (20_000, True)])
def test_shapes_within_shapes_cost_no_memory_by_their_square(tmp_path, count, refused):
    (tmp_path / "a.geojson").write_text(json.dumps(rings(count)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if refused:
        with pytest.raises(UserError, match=r"a\.geojson: more than 1,000,000 pairs of shapes"):
            read(tmp_path / "a.geojson", (4000, 4000))
    else:
        annotation = read(tmp_path / "a.geojson", (4000, 4000))
        assert annotation.rasterise(0, 0, 8, 8, 500).shape == (8, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KB


SHAPES = {"a.geojson": lambda count: json.dumps(rings(count)), "a.xml": lambda count: asap(count)}


def asap(count):
    """Squares within each other, as ASAP writes them."""
    corners = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate([(0, 0), (9, 0), (9, 9)]))
    shape = f'<Annotation Type="Polygon" PartOfGroup="tumour"><Coordinates>{corners}</Coordinates></Annotation>'
    return hostile.ASAP.format("", shape * count)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("most", "more", "refused"),
    [(30, "", None), (29, "", "30 shapes"), (30, " " * 30_000, "bytes"), (30, "[<" * 3000, "values")],
    ids=["as many as allowed", "shapes", "characters", "values"],
)
def test_an_annotation_of_too_many_shapes_is_refused_and_the_key_lets_it_in(tmp_path, name, most, more, refused):
    (tmp_path / name).write_text(SHAPES[name](30) + more)
    annotations = Annotations(max_shapes=most)
    if refused is None:
        assert read_annotation(tmp_path / name, CLASSES, annotations, (4000, 4000)).format in ("geojson", "asap")
        return
    with pytest.raises(UserError, match=rf"{refused}, too many; .*or raise annotations\.max_shapes \({most}\)"):
        read_annotation(tmp_path / name, CLASSES, annotations, (4000, 4000))


@pytest.mark.parametrize("names", [("tumour", "tumour"), ("Region*", "Region*"), ("Ignore*", "tumour")])
def test_outlines_across_each_other_cost_no_time_by_their_square(tmp_path, names):
    """Two combs, whose teeth cross each other nine million times."""
    shapes = [hostile.feature([corners.tolist()], name) for corners, name in zip(COMBS, names, strict=True)]
    hostile.collection(tmp_path / "a.geojson", [*shapes, hostile.feature([hostile.square(0, 0, 99)], "tumour")])
    annotation = read_annotation(tmp_path / "a.geojson", CLASSES, Annotations(fill="stroma"), (1000, 1000))
    assert annotation.bounds is not None and annotation.area > 0 and annotation.present


COMBS = hostile.both_ways(hostile.comb(1_500))


def test_a_comb_cut_out_of_another_is_refused(tmp_path):
    words = hostile.aperio(tmp_path, [(COMBS[0], False), (COMBS[1], True)])
    assert words
    with pytest.raises(UserError, match=r"a\.xml, layer 1: .*cross each other more than 1,000,000 times"):
        read_annotation(tmp_path / "a.xml", CLASSES, Annotations(), (1000, 1000))


def test_shapes_in_too_many_regions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lost, "MOST_POINTS", 5 * 20 * 20 - 1)
    shapes = [hostile.feature([hostile.square(n, n, 100)], name) for n in range(20) for name in ("Region*", "tumour")]
    hostile.collection(tmp_path / "a.geojson", shapes)
    with pytest.raises(
        UserError, match=r"a\.geojson: regions, or ignored shapes, lie over shapes with more than 1,999 p"
    ):
        read(tmp_path / "a.geojson", (200, 200))


def test_slivers_are_looked_at_pixel_by_pixel_up_to_a_limit(tmp_path, monkeypatch):
    slivers = [hostile.feature([[[x, 0], [99, 99 - x], [x, 1e-3]]], "tumour") for x in (0.3, 1.3, 2.3)]
    hostile.collection(tmp_path / "a.geojson", [*slivers, hostile.feature([hostile.square(0, 0, 9)], "tumour")])
    assert read(tmp_path / "a.geojson", (100, 100)).seen.count(False) == 3
    monkeypatch.setattr(lost, "MOST_TESTS", 4 * (98 * 97 + 99 * 98))  # the two smallest
    assert read(tmp_path / "a.geojson", (100, 100)).seen.count(False) == 2


def test_coordinates_that_no_file_can_hold_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("coords", (2**37, 2), "i8", chunks=(64, 2))
        file["coords"].attrs["patch_size_level0"] = 64
    with pytest.raises(UserError, match=r"a\.h5: cannot be read.*shape \(137438953472, 2\)"):
        read_coords(tmp_path / "a.h5", (1000, 1000), 64.0)


FIFO = {
    "slide": lambda path: open_slide(Slide("a", "a", path)),
    "annotation": lambda path: read_annotation(
        path.rename(path.with_suffix(".geojson")), CLASSES, Annotations(), (9, 9)
    ),
    "mask": lambda path: read_annotation(path.rename(path.with_suffix(".png")), CLASSES, Annotations(), (9, 9)),
    "configuration": load,
    "sheet": lambda path: read_sheet(Slides(sheet=str(path))),
}


@pytest.mark.parametrize("what", FIFO)
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path, what):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(UserError, match=r"pipe or device|no regular file"):
        FIFO[what](tmp_path / "a")


def test_a_pipe_as_a_patch_file_or_weights_is_not_waited_for(tmp_path):
    """In a process of its own: HDF5 would wait within its own code."""
    os.mkfifo(tmp_path / "a.h5")
    code = "import sys; from pathlib import Path; from stedm.store import PatchFile; PatchFile(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.h5"], capture_output=True, text=True, timeout=SECONDS
    )
    assert "a.h5: " in done.stderr.splitlines()[-1]
