"""Where the tumour is: polygons of tissue and of tumour nests, sampled as level sets of smooth noise."""

from collections.abc import Iterable

import cv2
import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import Polygon

from stedm.errors import UserError

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

NEST_SCALE = {"solid": 42.0, "nested": 15.0}
"""µm, by group: a few large rounded nests, or many small ones and cords."""
SMALLEST = 120.0
"""µm: a smaller slide has no room for nests."""


def sample_layout(size: int, mpp: float, group: str, rng: Generator) -> tuple[list[Polygon], list[Polygon]]:
    """Sample the polygons of a slide: smooth noise, thresholded at the quantile that gives the wanted share of area.

    Args:
        size: pixels of each side.
        mpp: µm per pixel.
        group: "solid" or "nested", the geometry of the tumour.
        rng: the only source of randomness.

    Returns:
        the tumour's polygons; the tissue's outline; both in pixels.

    Raises:
        UserError: an unknown group, or a slide too small for nests.
    """
    if group not in NEST_SCALE:
        raise UserError(f"column group: phantom slides have no group {group!r}; choose from {', '.join(NEST_SCALE)}")
    if size * mpp < SMALLEST:
        raise UserError(
            f"phantoms.size: {size} px at {mpp} µm/px leave no room for tumour nests; choose at least {SMALLEST:.0f} µm"
        )
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    edge = np.abs(axis[:, None]) ** 6 + np.abs(axis[None, :]) ** 6
    tissue = 0.2 * noise(size, size / 9, rng) + 0.04 * noise(size, size / 30, rng) - edge
    tissue[np.maximum(np.abs(axis[:, None]), np.abs(axis[None, :])) > 0.98] = -np.inf  # glass on all four sides
    outlines = outline(tissue > np.quantile(tissue, 1 - rng.uniform(0.64, 0.76)), 4 / mpp)
    region = [Polygon(max(outlines, key=lambda polygon: polygon.area).exterior)]

    scale = NEST_SCALE[group] / mpp
    inside = cv2.erode(rasterise(region, size).astype(np.uint8), disk(8 / mpp)) > 0
    nests = noise(size, scale, rng) + 0.18 * noise(size, 8 / mpp, rng) + 0.06 * noise(size, 3 / mpp, rng)
    share = rng.uniform(0.33, 0.43) * region[0].area / inside.sum()
    return outline(inside & (nests > np.quantile(nests[inside], 1 - share)), 4 / mpp), region


def noise(size: int, scale: float | tuple[float, float], rng: Generator) -> Image:
    """(size, size) Gaussian noise with mean 0 and standard deviation 1, smooth over `scale` px (along y, along x)."""
    along_y, along_x = scale if isinstance(scale, tuple) else (scale, scale)
    step_y, step_x = max(1, int(along_y / 2)), max(1, int(along_x / 2))  # a smooth field needs few samples
    coarse = rng.standard_normal((-(-size // step_y) + 4, -(-size // step_x) + 4), dtype=np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), sigmaX=along_x / step_x, sigmaY=along_y / step_y)
    field = cv2.resize(smooth, (coarse.shape[1] * step_x, coarse.shape[0] * step_y), interpolation=cv2.INTER_CUBIC)
    field = field[:size, :size]
    return single((field - field.mean()) / field.std())


def disk(radius: float) -> NDArray[np.uint8]:
    """Structuring element of this radius in px."""
    width = 2 * round(radius) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)).astype(np.uint8)


def outline(mask: Mask, radius: float) -> list[Polygon]:
    """Valid polygons, with holes, around a mask; details finer than a few `radius` px are dropped."""
    smooth = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disk(radius))
    smooth = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, disk(radius))
    contours, hierarchy = cv2.findContours(smooth, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    smallest = 50 * radius**2
    rings = [Polygon(contour[:, 0, :]) if len(contour) > 3 else Polygon() for contour in contours]
    polygons = []
    for index, ring in enumerate(rings):
        if hierarchy[0, index, 3] < 0 and ring.area > smallest:
            inner = [hole for hole, (*_, parent) in zip(rings, hierarchy[0], strict=True) if parent == index]
            holes = [hole.exterior for hole in inner if hole.area > smallest]
            whole = shapely.make_valid(Polygon(ring.exterior, holes)).simplify(0.7)
            parts = shapely.get_parts(shapely.set_precision(whole, 1))  # whole pixels, and still valid
            polygons += [part for part in parts if part.geom_type == "Polygon"]
    return [polygon for polygon in polygons if polygon.area > smallest]


def rasterise(polygons: Iterable[Polygon], size: int) -> Mask:
    """(size, size) bool, true inside the polygons."""
    mask = np.zeros((size, size), np.uint8)
    for polygon in polygons:
        rings = [polygon.exterior, *polygon.interiors]
        cv2.fillPoly(mask, [np.rint(np.asarray(ring.coords)).astype(np.int32) for ring in rings], 1)
    return mask > 0


def single(values: ArrayLike) -> Image:
    """An array in single precision."""
    return np.asarray(values, dtype=np.float32)
