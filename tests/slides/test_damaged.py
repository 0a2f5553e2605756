"""Slides and masks of every kind with damaged bytes: only our own error may come of it, never a traceback.

Some hundred examples each, always the same. New ones by the thousand:

    pytest tests/slides/test_damaged.py --hypothesis-profile long
"""

import logging

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scn import write_scn

from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import open_slide
from stedm.slides.annotations.mask import read_values

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
LABELS = IMAGE[..., 0] // 128
ALPHA = np.dstack([IMAGE, IMAGE[..., 0]])
EXIF = Image.Exif()
EXIF[274] = 6
TIFFS = {
    "striped.tif": (IMAGE, {"photometric": "rgb", "extratags": [(274, "H", 1, 6, True)]}),
    "tiled.tif": (IMAGE, {"photometric": "rgb", "tile": (16, 16), "compression": "zlib"}),
    "alpha.tif": (ALPHA, {"photometric": "rgb", "extrasamples": ["assocalpha"], "compression": "webp"}),
    "deep.tif": (IMAGE * np.uint16(16), {"photometric": "rgb", "extratags": [(281, "H", 3, (4080,) * 3, True)]}),
    "ome.tif": (IMAGE, {"photometric": "rgb", "ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.5}}),
    "imagej.tif": (IMAGE, {"imagej": True, "metadata": {"unit": "micron"}, "resolution": (4, 4)}),
    "mask.tif": (LABELS, {"photometric": "minisblack", "compression": "zlib"}),
}
KINDS = [*TIFFS, "a.scn", "exif.png", "exif.jpg", "a.jp2", "a.webp", "mask.png", "deep.png"]


def make(path):
    """A small file of a kind."""
    match path.name:
        case name if name in TIFFS:
            values, options = TIFFS[name]
            tifffile.imwrite(path, values, **{"metadata": None, **options})
        case "a.scn":
            write_scn(path, IMAGE, (30, 20), (200, 100))
        case "mask.png":
            Image.fromarray(LABELS).save(path)
        case "deep.png":
            cv2.imwrite(str(path), IMAGE * np.uint16(16))
        case name:
            Image.fromarray(IMAGE).save(path, **{"exif": EXIF} if name.startswith("exif") else {})


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / request.param
    make(path)
    return path, path.read_bytes()


@given(data=st.data())
def test_damaged_files_are_read_or_named(whole, data):
    path, content = whole
    damaged = bytearray(content)
    header = min(len(content), 400)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, header - 1) | st.integers(-header, -1))
        damaged[place] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.none() | st.integers(0, len(content)))])
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with open_slide(Slide("s1", "p1", path)) as opened:
            opened.thumbnail(64)
    except UserError as error:
        assert all(path.name in message for message in error.messages)
    if path.suffix in (".png", ".tif"):
        try:
            read_values(path, most=4 * LABELS.size)
        except UserError as error:
            assert all(path.name in message for message in error.messages)
