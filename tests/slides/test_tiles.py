"""The fast path against OpenSlide, on slides that the tests write, whole and damaged."""

import cv2
import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile

from stedm.config import Annotations, Patches, PatchesOptions
from stedm.sheet import Slide
from stedm.slides import open as open_module
from stedm.slides import open_slide
from stedm.slides.patches import extract_patches, in_order
from stedm.slides.tiles import BrokenTile, TiledLevel
from stedm.store import PatchFile

TILE = 64
APERIO = "Aperio Image Library v11\n{w}x{h} (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"


@pytest.fixture
def tissue():
    """(300, 420, 3) of coloured noise, smooth enough for JPEG; neither side is a whole number of tiles."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3).astype(float)
    return np.clip((smooth - 128) * 6 + (200, 100, 160), 0, 255).astype(np.uint8)


@pytest.fixture
def write(tmp_path, tissue):
    """A slide of `tissue` and its half-size copies, tiled and compressed as Aperio does it."""

    def run(subsampling="420", aperio=False, levels=2):
        path = tmp_path / "s1.svs"
        with tifffile.TiffWriter(path) as file:
            for number in range(levels):
                level = cv2.resize(tissue, None, fx=0.5**number, fy=0.5**number, interpolation=cv2.INTER_AREA)
                height, width = level.shape[:2]
                tables, tiles = encoded(level, subsampling)
                file.write(
                    iter(tiles),
                    shape=level.shape,
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    photometric="rgb" if subsampling == "RGB" else "ycbcr",
                    subsampling=SAMPLES.get(subsampling),
                    compression="jpeg",
                    compressionargs={"outcolorspace": "RGB"} if subsampling == "RGB" else None,
                    subfiletype=int(number > 0 and not aperio),
                    description=APERIO.format(w=width, h=height) if aperio else None,
                    resolution=None if aperio else (20_000, 20_000),
                    resolutionunit=None if aperio else "CENTIMETER",
                    metadata=None,
                    extratags=[(347, 7, len(tables), tables, True)],
                )
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].photometric == (2 if subsampling == "RGB" else 6)
        return path

    return run


SAMPLES = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}


def encoded(image, subsampling):
    """An image's tiles as JPEGs without tables and without a word of their colours, and the tables."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % TILE), (0, -width % TILE), (0, 0)), "edge")
    tiles = []
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            tile = np.ascontiguousarray(padded[y : y + TILE, x : x + TILE])
            colours = {"outcolorspace": "RGB"} if subsampling == "RGB" else {"subsampling": subsampling}
            data = imagecodecs.jpeg8_encode(tile, level=80, **colours)
            segments = list(segments_of(data))
            tables = b"".join(part for kind, part in segments if kind in (0xDB, 0xC4))
            tiles.append(b"".join(part for kind, part in segments if kind not in (0xDB, 0xC4, 0xE0, 0xEE)))
    return b"\xff\xd8" + tables + b"\xff\xd9", tiles


def segments_of(data):
    """Kinds and bytes of the segments of a JPEG; the last, from the start of the scan, is all the rest."""
    yield 0xD8, data[:2]
    place = 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        yield data[place + 1], data[place:end]
        place = end
    yield 0xDA, data[place:]


@pytest.fixture
def extract(tmp_path, classes):
    def run(path, threads=1, **options):
        slide, out = Slide("s1", "p1", path), tmp_path / f"out{threads}.h5"
        patches = Patches(**{"size": 50, "mpp": 0.5, "tissue": None} | options)
        extract_patches(
            PatchesOptions(classes=classes, annotations=Annotations(), patches=patches),
            slide,
            out=out,
            overview=tmp_path / "s1.png",
            threads=threads,
        )
        return PatchFile(out)

    return run


def by_openslide(path, x, y, w, h, level=0):
    with openslide.OpenSlide(path) as slide:
        image = slide.read_region((x, y), level, (w, h))
        ground = np.full((h, w, 3), 255, np.uint8)
        return np.where(np.asarray(image)[:, :, 3:] == 255, np.asarray(image)[:, :, :3], ground)


KINDS = [
    {"subsampling": "420"},
    {"subsampling": "422"},
    {"subsampling": "444"},
    {"subsampling": "RGB"},
    {"subsampling": "422", "aperio": True},
    {"subsampling": "RGB", "aperio": True},
    {"levels": 1},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(map(str, kind.values())))
def test_pixels_are_openslides(write, extract, kind):
    path = write(**kind)
    patches = extract(path)
    assert patches.attributes["reader"] == ("tiles aperio" if kind.get("aperio") else "tiles generic-tiff")
    assert len(patches) == 6 * 8
    for index, (x, y) in enumerate(patches.coords.tolist()):
        np.testing.assert_array_equal(patches.image(index), by_openslide(path, x, y, 50, 50))


@pytest.mark.parametrize("window", [(-30, -40, 100, 100), (390, 270, 60, 60), (500, 10, 9, 9), (-50, 20, 600, 30)])
def test_beyond_the_borders_it_is_white_as_in_openslide(write, window):
    path = write()
    with open_slide(Slide("s1", "p1", path)) as opened:
        opened.choose_reader(np.array([[0, 0]]), 64)
        assert opened.reader == "tiles generic-tiff"
        np.testing.assert_array_equal(opened.read_region(*window), by_openslide(path, *window))


def test_a_coarser_level_is_openslides(write, extract):
    path = write()
    patches = extract(path, mpp=1.0, size=40)
    assert (patches.attributes["reader"], patches.attributes["level"]) == ("tiles generic-tiff", 1)
    for index, (x, y) in enumerate(patches.coords.tolist()):
        np.testing.assert_array_equal(patches.image(index), by_openslide(path, x, y, 40, 40, level=1))


def test_a_resolution_between_levels_is_the_same_on_both_paths(write, extract, monkeypatch):
    path = write()
    fast = extract(path, mpp=0.7)
    monkeypatch.setattr(open_module, "TILED", ())
    slow = extract(path, threads=2, mpp=0.7)
    assert (fast.attributes["reader"], slow.attributes["reader"]) == ("tiles generic-tiff", "openslide generic-tiff")
    assert fast.fingerprint == slow.fingerprint


@pytest.mark.parametrize("size", [48, 50])
@pytest.mark.parametrize("factor", [2, 4])
def test_whole_factors_are_the_same_on_both_paths(write, extract, monkeypatch, size, factor):
    path = write(levels=1)
    fast = extract(path, mpp=0.5 * factor, size=size // factor * 2)
    monkeypatch.setattr(open_module, "TILED", ())
    slow = extract(path, threads=2, mpp=0.5 * factor, size=size // factor * 2)
    assert (fast.attributes["reader"], slow.attributes["reader"]) == ("tiles generic-tiff", "openslide generic-tiff")
    assert fast.fingerprint == slow.fingerprint


def test_any_number_of_threads_gives_the_same_patches_strip_by_strip(write, extract, monkeypatch):
    path = write()
    monkeypatch.setattr("stedm.slides.patches.STRIP", 130)
    monkeypatch.setattr("stedm.slides.patches.BATCH_PIXELS", 3 * 50**2)
    one, three = (extract(path, threads, overlap=10) for threads in (1, 3))
    assert one.fingerprint == three.fingerprint
    corners = [(x, y) for y in range(0, 251, 40) for x in range(0, 371, 40)]
    assert list(map(tuple, one.coords)) == sorted(corners, key=lambda corner: (corner[0] // 130, *corner[::-1]))


def test_each_tile_is_decoded_once_and_none_is_kept_in_the_end(write, monkeypatch):
    decoded = []
    decode = TiledLevel.decode
    monkeypatch.setattr(TiledLevel, "decode", lambda self, tile, out: decoded.append(tile) or decode(self, tile, out))
    with open_slide(Slide("s1", "p1", write())) as opened:
        corners = np.array([(x, y) for y in range(0, 251, 50) for x in range(0, 371, 50)])
        opened.choose_reader(corners, 50)
        opened.announce(corners, 50)
        decoded.clear()
        assert all(image is not None for image in opened.read_patches(corners, 50))
        assert sorted(decoded) == list(range(7 * 5))
        assert not opened._tiles._kept


def test_results_come_in_the_order_of_the_items():
    found = in_order(lambda item: iter([item, -item]), range(100), threads=4)
    assert list(found) == [[item, -item] for item in range(100)]


DAMAGE = {
    "zeroed": lambda whole: bytes(len(whole)),
    "second half zeroed": lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
    "overwritten": lambda whole: np.random.default_rng(0).bytes(len(whole)),
    "cut short": lambda whole: whole[: len(whole) // 2] + b"\xff\xd9" + bytes(len(whole) - len(whole) // 2 - 2),
    "start lost": lambda whole: bytes(40) + whole[40:],
    "another size": lambda whole: whole.replace(b"\x00\x40\x00\x40", b"\x00\x40\x00\x20", 1),
}


def damage(path, tile, how):
    """Damage the bytes of a tile of level 0."""
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[tile], file.pages[0].databytecounts[tile]
    with path.open("r+b") as file:
        file.seek(offset)
        whole = file.read(count)
        damaged = DAMAGE[how](whole)
        assert damaged != whole and len(damaged) == count
        file.seek(offset)
        file.write(damaged)


def set_index(path, tile, **values):
    """Change what the file says of where a tile of level 0 is."""
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, key in (("TileOffsets", "offset"), ("TileByteCounts", "count")):
            tag = file.pages[0].tags[name]
            tag.overwrite([values.get(key, old) if number == tile else old for number, old in enumerate(tag.value)])


@pytest.mark.parametrize("how", DAMAGE)
def test_patches_on_a_damaged_tile_are_left_out_and_counted(write, extract, how):
    path = write()
    whole = extract(path)
    images = {tuple(corner): whole.image(index) for index, corner in enumerate(whole.coords)}
    damage(path, 9, how)  # x 128 to 191, y 64 to 127
    patches = extract(path, threads=2)
    assert patches.attributes["reader"] == "tiles generic-tiff"
    lost = {(x, y) for x, y in images if 128 - 50 < x < 192 and 64 - 50 < y < 128}
    assert set(map(tuple, patches.coords)) == set(images) - lost
    assert patches.attributes["status"] == "incomplete"
    assert patches.attributes["problem"] == f"{len(lost)} of 48 patches dropped: broken tiles"
    for index, corner in enumerate(patches.coords):
        np.testing.assert_array_equal(patches.image(index), images[tuple(corner)])


def test_a_tile_beyond_the_end_of_the_file_is_broken(write, extract):
    path = write()
    set_index(path, 34, offset=path.stat().st_size - 10)  # the last tile
    assert extract(path).attributes["problem"] == "1 of 48 patches dropped: broken tiles"


def test_tissue_is_looked_for_where_a_one_level_slide_can_be_read(write, extract):
    path = write(levels=1)
    damage(path, 9, "overwritten")
    patches = extract(path, tissue={})
    assert patches.attributes["status"] == "incomplete"
    assert 0 < len(patches) < 48


def test_a_tile_left_out_is_white_as_in_openslide(write, extract):
    path = write()
    set_index(path, 9, offset=0, count=0)
    patches = extract(path)
    assert (patches.attributes["status"], patches.attributes["reader"]) == ("ok", "tiles generic-tiff")
    for index, (x, y) in enumerate(patches.coords.tolist()):
        np.testing.assert_array_equal(patches.image(index), by_openslide(path, x, y, 50, 50))
    assert (patches.image(patches.coords.tolist().index([150, 100]))[:28, :42] == 255).all()


def test_a_mismatch_falls_back_to_openslide_and_is_told(write, extract, monkeypatch, caplog):
    path = write()
    monkeypatch.setattr("stedm.slides.tiles.TRANSFORM", {6: b"\x00"})  # colours are not converted
    patches = extract(path)
    assert patches.attributes["reader"] == "openslide generic-tiff"
    assert "pixels differ from OpenSlide's" in patches.attributes["notes"]
    assert "pixels differ from OpenSlide's" in caplog.text
    np.testing.assert_array_equal(patches.image(0), by_openslide(path, 0, 0, 50, 50))


@pytest.mark.parametrize(
    ("transform", "reader"), [(b"\x01", "tiles generic-tiff"), (b"\x00", "openslide generic-tiff")]
)
def test_a_mismatch_is_told_from_openslides_interpolation_between_a_levels_pixels(
    write, monkeypatch, transform, reader
):
    monkeypatch.setattr("stedm.slides.tiles.TRANSFORM", {6: transform})
    with open_slide(Slide("s1", "p1", write()), Patches(size=50, mpp=1.0)) as opened:
        opened.choose_reader(np.array([[31, 41], [101, 81]]), 50)
        assert opened.reader == reader


def test_a_slide_whose_every_tile_is_called_broken_is_left_to_openslide(write, extract, monkeypatch):
    def refuse(*_):
        raise BrokenTile("strict beyond reason")

    monkeypatch.setattr(TiledLevel, "decode", refuse)
    patches = extract(write())
    assert patches.attributes["reader"] == "openslide generic-tiff"
    assert "none of the patches tried can be read" in patches.attributes["notes"]
    assert len(patches) == 48


def test_other_compressions_are_openslides(tmp_path, tiff, extract, tissue):
    patches = extract(tiff(tmp_path / "s1.tif", tissue, mpp=0.5))
    assert (patches.attributes["reader"], patches.attributes["notes"]) == ("openslide generic-tiff", "")


def test_patches_of_a_large_area_are_read_in_parts(write, extract, monkeypatch):
    path = write()
    whole = extract(path, mpp=1.4)
    monkeypatch.setattr(open_module, "BLOCK", 60**2)
    parts = extract(path, mpp=1.4)
    assert parts.attributes["reader"] == "tiles generic-tiff"
    for index in range(len(whole)):
        assert np.abs(parts.image(index).astype(int) - whole.image(index)).mean() < 2  # parts begin at whole pixels
