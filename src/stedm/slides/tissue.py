"""Where a slide has tissue: saturated pixels at low power, without holes and specks."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

from stedm.config import Origin, Tissue
from stedm.slides.annotations import Annotation, MaskAnnotation, PolygonAnnotation, Shape
from stedm.slides.annotations.mask import READING, mask_place, read_values
from stedm.slides.annotations.origin import Area, area_of
from stedm.slides.annotations.read import on_canvas, read_contents
from stedm.slides.annotations.shapes import polygons_of
from stedm.slides.open import OpenedSlide

BLACK = 25
"""Darker pixels (of 255) are what scanners fill gaps with; their saturation is noise."""
SMALLEST = 512
"""A mask has at least so many pixels along its longer side, where the slide has them."""


@dataclass(frozen=True)
class TissueMask:
    """Tissue of a slide at low power.

    Attributes:
        mask: (h, w) bool.
        downsample: level-0 pixels per pixel of the mask.
        threshold: saturation in [0, 1] above which pixels count as tissue; 0 where none was looked for.
    """

    mask: np.ndarray
    downsample: float
    threshold: float

    @property
    def share(self) -> float:
        """Share of the slide that is tissue, in [0, 1]."""
        return float(self.mask.mean())

    def fractions(self, corners: np.ndarray, side: float) -> np.ndarray:
        """Share of tissue, (N,) in [0, 1], of squares of `side` level-0 pixels with upper left (N, 2) corners x, y.

        Exact: edges that cut a pixel of the mask count the part inside.
        """
        total = cv2.integral(self.mask.astype(np.uint8))
        low = np.asarray(corners, np.float64) / self.downsample
        high = low + side / self.downsample

        def upto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return map_coordinates(total, [y, x], np.float64, order=1, mode="nearest")

        area = upto(high[:, 0], high[:, 1]) - upto(low[:, 0], high[:, 1])
        area += upto(low[:, 0], low[:, 1]) - upto(high[:, 0], low[:, 1])
        return np.clip(area / (side / self.downsample) ** 2, 0, 1)


def tissue_mask(slide: OpenedSlide, options: Tissue | None, brought: Path | None = None) -> TissueMask:
    """Find the tissue of a slide; all of it where `options` is None; what `brought` says where it is given.

    A slide without a scale is looked at with 512 px along its longer side, and there a speck or hole is what covers
    less than a thousandth of the slide.

    Raises:
        UserError: the mask that was brought is damaged, or another slide's.
    """
    width, height = slide.dimensions
    if options is None:
        return TissueMask(np.ones((1, 1), bool), float(max(width, height)), 0.0)
    most = max(1.0, max(width, height) / SMALLEST)
    downsample = most if slide.mpp is None else min(max(1.0, options.mpp / slide.mpp), most)
    size = max(1, round(width / downsample)), max(1, round(height / downsample))
    if brought is not None:
        known = read_tissue(brought, options.origin, slide.dimensions, slide.bounds, slide.max_megapixels)
        mask = known.rasterise(0, 0, *size, downsample)
        return TissueMask(mask == 1, downsample, 0.0)
    image, broken = slide.read_readable(0, 0, *size, downsample)
    values = saturation(image)
    if options.saturation == "otsu":
        threshold = min(max(otsu(values), options.min_saturation), options.max_saturation)
    else:
        threshold = options.saturation
    mask = values > round(255 * threshold, 6)
    mask |= broken  # asked for, so that its patches are counted as lost
    if slide.mpp is None:
        speck = hole = mask.size / 1000
    else:
        pixel = (slide.mpp * downsample) ** 2
        # An image of a few hundred µm is no speck as a whole.
        speck, hole = (min(area / pixel, mask.size / 20) for area in (options.min_area, options.min_hole))
    mask = without_small(mask, speck)
    mask = ~without_small(~mask, hole)
    return TissueMask(mask, downsample, float(threshold))


def read_tissue(
    path: Path, origin: Origin, dimensions: tuple[int, int], bounds: Area | None, max_megapixels: float
) -> Annotation:
    """A tissue mask made elsewhere: its label 1.

    GeoJSON: inside of its polygons, whatever their class. An image of the slide's shape: not 0.
    """
    if path.suffix in (".geojson", ".json"):
        format, contents = read_contents(path, "", dimensions)
        polygons = polygons_of(path, contents.shapes).polygons
        polygons = on_canvas(path, polygons, area_of(origin, format, dimensions, bounds))
        return PolygonAnnotation([Shape(polygon, 1) for polygon in polygons])
    with READING:
        values = read_values(path, 4 * dimensions[0] * dimensions[1], max_megapixels)
        corner, scale = mask_place(path, values.shape, dimensions, bounds, origin)
        return MaskAnnotation((values > 0).astype(np.uint8), scale, corner=corner)


def saturation(image: np.ndarray) -> np.ndarray:
    """HSV saturation, (h, w) uint8, of (h, w, 3) uint8 RGB, smoothed; 0 where it is black."""
    hsv = cv2.cvtColor(cv2.medianBlur(image, 5), cv2.COLOR_RGB2HSV)
    return np.where(hsv[:, :, 2] < BLACK, np.uint8(0), hsv[:, :, 1])


def otsu(values: np.ndarray) -> float:
    """Otsu's threshold, in [0, 1], of values (h, w) uint8."""
    threshold, _ = cv2.threshold(values, 0, 255, cv2.THRESH_OTSU)
    return threshold / 255


def without_small(mask: np.ndarray, pixels: float) -> np.ndarray:
    """(h, w) bool without the connected pieces of fewer than `pixels` pixels."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= pixels
    keep[0] = False
    return keep[pieces]
