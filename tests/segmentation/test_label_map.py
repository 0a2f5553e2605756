"""Label maps as TIFF: what others read in them is the map."""

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from stedm.config import Annotations, TissueClass
from stedm.segmentation.label_map import TILE, write_label_map
from stedm.sheet import Slide
from stedm.slides import open_slide
from stedm.slides.annotations import read_annotation

CLASSES = [
    TissueClass(name="stroma", color="#e8a0bf", mask_values=["0"]),
    TissueClass(name="tumour", color="#6a3d9a", mask_values=["1"]),
]
COLOURS = np.full((256, 3), 255, np.uint8)
COLOURS[:2] = [(0xE8, 0xA0, 0xBF), (0x6A, 0x3D, 0x9A)]


@pytest.fixture
def written(tmp_path):
    def write(size, mpp):
        noise = gaussian_filter(np.random.default_rng(0).normal(size=(3, *size)), (0, 6, 6))
        labels = np.array([0, 1, 255], np.uint8)[noise.argmax(0)]
        strips = (labels[start : start + TILE] for start in range(0, len(labels), TILE))
        write_label_map(tmp_path / "map.tif", strips, labels.shape, CLASSES, mpp)
        return tmp_path / "map.tif", labels

    return write


@pytest.mark.parametrize("size", [(1300, 1100), (512, 1024), (3, 5), (1, 2000)])
def test_others_read_the_same_map(written, size):
    path, labels = written(size, 0.5)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), labels)
        for number, level in enumerate(file.series[0].levels):
            np.testing.assert_array_equal(level.asarray(), labels[:: 2**number, :: 2**number])
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), labels)
    with openslide.OpenSlide(path) as slide:
        height, width = labels.shape
        assert slide.dimensions == (width, height)
        for number, (w, h) in enumerate(slide.level_dimensions):
            seen = np.asarray(slide.read_region((0, 0), number, (w, h)))[:, :, :3]
            np.testing.assert_array_equal(seen, COLOURS[labels[:: 2**number, :: 2**number]])
        assert max(slide.level_dimensions[-1]) <= TILE
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)


def test_our_reader_opens_it_as_slide_and_as_mask(written):
    path, labels = written((700, 600), 0.504)
    with open_slide(Slide("map", "map", path)) as slide:
        assert slide.mpp == pytest.approx(0.504)
        assert slide.mpp_source == "slide"
        np.testing.assert_array_equal(slide.read_region(0, 0, 600, 700), COLOURS[labels])
    mask = read_annotation(path, CLASSES, Annotations(), (1200, 1400))
    np.testing.assert_array_equal(mask.rasterise(0, 0, 600, 700, 2.0), labels)


def test_a_map_without_scale_says_none(written):
    path, _ = written((600, 600), None)
    with open_slide(Slide("map", "map", path)) as slide:
        assert slide.mpp is None
